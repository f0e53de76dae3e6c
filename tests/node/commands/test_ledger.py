"""What a hospital does with its record: check it, prove an entry, hand it on, look a patient up."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from contract.envelope import Envelope
from contract.errors import LedgerError, NotFound, WardgateError
from contract.keys import SigningKey
from foundation.defaults import default_text
from node.catalog.manifest import ReleaseFile, ReleaseManifest
from node.catalog.schema import release_index
from node.catalog.withdrawals import seals_of
from node.commands.ledger import app
from node.deid.pseudonyms import Pseudonyms
from node.gate.ledger import Ledger, examine
from node.gate.ledger.heads import HeadStore
from tests.contract.world import NOW
from tests.node.link.sites import NORTH, Carrier, Site, empty_catalogue, three_sites

ROOT = Path(__file__).resolve().parents[3]
VERIFIER = ROOT / "deploy" / "verify_ledger.py"
JOB = "ab" * 32


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hospital's home whose ledger two others countersigned, with an entry after that."""
    root = tmp_path_factory.mktemp("hospitals")
    with three_sites(root, empty_catalogue(root / "template")) as carrier:
        fill(carrier)
    return root / NORTH


def fill(carrier: Carrier) -> None:
    north = carrier[NORTH]
    for number in range(5):
        kept = north.gate.ledger.keep_payload(b"payload %d" % number)
        north.gate.ledger.append(
            "answer",
            {"consortium": north.world.consortium, "job": JOB, "payload": kept, "kept": [kept]},
            north.now,
        )
        carrier.carry(NORTH)
    north.gate.ledger.append("refused", {"code": "replay"}, north.now)


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(made, tmp_path / "node")
    return tmp_path / "node"


def run(*arguments: str | Path, home: Path | None = None, stdin: str = "") -> Result:
    where = ["--home", str(home)] if home else []
    return CliRunner().invoke(app, [*map(str, arguments), *where], input=stdin)


def said(*arguments: str | Path, home: Path | None = None, stdin: str = "") -> str:
    result = run(*arguments, home=home, stdin=stdin)
    assert result.exit_code == 0, result.exception
    return result.stdout


def objects(*arguments: str | Path, home: Path | None = None, stdin: str = "") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(*arguments, "--json", home=home, stdin=stdin))
    return found


# ---- verify and show ---------------------------------------------------------------------------


def test_verify_says_how_the_ledger_stands_and_who_countersigned_it(home: Path) -> None:
    found = objects("verify", home=home)
    head = found["heads"]["preterm"]
    assert head["countersigned"] == ["minnesota", "new-york"]
    assert head["entries"] < found["entries"] == examine(home / "ledger").entries
    assert found["payloads"] >= 5 and not found["clock_went_back"]
    assert "by minnesota, new-york too" in said("verify", home=home)


def test_a_clock_that_went_back_is_told_and_with_strict_an_error(home: Path) -> None:
    ledger = Ledger(home / "ledger")
    ledger.append("refused", {}, NOW - timedelta(days=3))
    sequence = ledger.head.sequence
    ledger.close()
    (back,) = objects("verify", home=home)["clock_went_back"]
    assert back["entry"] == sequence and back["seconds"] > 3 * 86400
    assert f"the clock went back at entry {sequence}" in said("verify", home=home)
    result = run("verify", "--strict", home=home)
    assert isinstance(result.exception, LedgerError)


def test_show_prints_the_newest_or_those_of_a_job(home: Path) -> None:
    lines = said("show", "--last", "2", "--json", home=home).splitlines()
    assert [json.loads(line)["kind"] for line in lines][-1] == "refused"
    assert len(lines) == 2
    of_job = said("show", "--job", JOB[:6], "--json", home=home).splitlines()
    assert {json.loads(line)["job"] for line in of_job} == {JOB}
    assert isinstance(run("show", "--job", "f" * 6, home=home).exception, NotFound)


# ---- proofs ------------------------------------------------------------------------------------


def test_a_proof_checks_anywhere_and_holds_nothing_of_other_entries(
    home: Path, tmp_path: Path
) -> None:
    number = next(e["sequence"] for e in _entries(home) if e["kind"] == "answer")
    file = tmp_path / "proof.json"
    assert "2 countersignatures" in said("prove", str(number), "--output", file, home=home)
    told = objects("check-proof", file)
    assert told["entry"]["body"]["job"] == JOB
    assert told["head"]["countersigned"] == ["minnesota", "new-york"]
    said("check-proof", file, "--roster-digest", told["roster"])
    assert f"verified entry {number}" in standalone(file, "--roster-digest", told["roster"])
    text = file.read_text()
    others = [e["hash"] for e in _entries(home) if e["sequence"] not in (number, number - 1)]
    assert not any(hash_ in text for hash_ in others)
    with pytest.raises(WardgateError):
        raise_(run("prove", str(number), "--output", file, home=home))  # never overwritten


def test_an_entry_that_no_head_is_over_yet_has_no_proof(home: Path, tmp_path: Path) -> None:
    last = _entries(home)[-1]["sequence"]
    for number in (last, last + 1):
        result = run("prove", str(number), "--output", tmp_path / "p.json", home=home)
        assert isinstance(result.exception, NotFound)
        assert not (tmp_path / "p.json").exists()


def other_roster(bundle: dict[str, Any]) -> None:
    """A roster of the forger's own, in form."""
    envelope = Envelope.model_validate(bundle["roster"])
    bundle["roster"] = json.loads(
        envelope.model_copy(update={"signatures": ()}).sign(SigningKey.generate()).to_bytes()
    )


FORGERIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "another entry": lambda b: b.update(entry=b["entry"].replace('"answer"', '"refused"')),
    "another number": lambda b: b.update(sequence=b["sequence"] + 1),
    "a shorter path": lambda b: b.update(inclusion=b["inclusion"][:-1]),
    "another path": lambda b: b.update(inclusion=["00" * 32, *b["inclusion"][1:]]),
    "an unsigned head": lambda b: b["head"].update(signatures=[]),
    "only countersigned": lambda b: b["head"].update(signatures=b["head"]["signatures"][1:]),
    "another head": lambda b: b["head"].update(payload=b["head"]["payload"][:-8] + "AAAAAAA="),
    "an unsigned roster": lambda b: b["roster"].update(signatures=[]),
    "a roster of strangers": other_roster,
    "another format": lambda b: b.update(format="x"),
    "no roster": lambda b: b.pop("roster"),
}


@pytest.mark.parametrize("how", FORGERIES)
def test_a_forged_proof_is_refused_by_both_verifiers(home: Path, tmp_path: Path, how: str) -> None:
    number = next(e["sequence"] for e in _entries(home) if e["kind"] == "answer")
    file = tmp_path / "proof.json"
    said("prove", str(number), "--output", file, home=home)
    bundle = json.loads(file.read_text())
    FORGERIES[how](bundle)
    file.write_text(json.dumps(bundle))
    assert isinstance(run("check-proof", file).exception, WardgateError)
    standalone(file, code=12)


def test_a_proof_under_another_roster_than_the_known_one_is_refused(
    home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "proof.json"
    said("prove", "0", "--output", file, home=home)
    result = run("check-proof", file, "--roster-digest", "0" * 64)
    assert isinstance(result.exception, LedgerError)
    standalone(file, "--roster-digest", "0" * 64, code=12)


def test_a_researchers_receipt_is_of_the_entry_that_is_proved_and_of_no_other(
    tmp_path: Path,
) -> None:
    with three_sites(tmp_path, empty_catalogue(tmp_path / "template")) as carrier:
        north = carrier[NORTH]
        heads = [north.gate.ledger.append("answer", {"job": JOB}, north.now) for _ in range(2)]
        carrier.carry(NORTH)
        receipts = []
        for head in heads:
            named = {"ledger_sequence": head.sequence, "ledger_head": head.hash}
            receipts.append(tmp_path / f"receipt-{head.sequence}.json")
            receipts[-1].write_bytes(north.world.receipt(NORTH, JOB, **named))
        theirs = tmp_path / "theirs.json"
        theirs.write_bytes(north.world.receipt("minnesota", JOB, **named))
        proof = tmp_path / "proof.json"
        said("prove", "1", "--output", proof, home=north.home.root)
    assert "proved: entry 1" in said("check-proof", proof, "--receipt", receipts[1])
    for other in (receipts[0], theirs):
        result = run("check-proof", proof, "--receipt", other)
        assert isinstance(result.exception, LedgerError)


# ---- the verifier in one file ------------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``cryptography`` and what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    for name in ("cryptography", "cffi", "_cffi_backend", "pycparser"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        origin = Path(spec.origin)
        place = origin.parent if origin.name == "__init__.py" else origin
        (folder / place.name).symlink_to(place)
    return folder


BARE: list[Path] = []


@pytest.fixture(autouse=True)
def _bare(bare: Path) -> Iterator[None]:
    BARE[:] = [bare]
    yield


def standalone(*arguments: str | Path, code: int = 0) -> str:
    """Run the verifier in an interpreter that can import ``cryptography`` only."""
    script = (
        "import runpy, sys\n"
        f"sys.path.append({str(BARE[0])!r})\n"
        "try:\n    import pydantic\n    sys.exit('not bare')\nexcept ImportError:\n    pass\n"
        f"sys.argv = ['verify_ledger', *sys.argv[1:]]\n"
        f"runpy.run_path({str(VERIFIER)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60, cwd="/",
    )  # fmt: skip
    assert done.returncode == code, (done.stdout, done.stderr)
    if code:
        assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stdout


def test_the_verifier_is_one_file_of_less_than_300_lines_that_imports_nothing_of_ours() -> None:
    lines = VERIFIER.read_text().splitlines()
    assert len(lines) < 300
    imported = {
        line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))
    }
    assert imported <= set(sys.stdlib_module_names) | {"cryptography"}


def test_the_verifier_agrees_about_a_ledger_and_about_an_export(home: Path, tmp_path: Path) -> None:
    found = examine(home / "ledger")
    out = standalone(home / "ledger")
    assert f"verified {found.entries} entries" in out and f"root {found.root}" in out
    assert "countersigned by minnesota, new-york" in out
    digest = next(line for line in out.splitlines() if line.startswith("roster")).split()[-1]
    said("export", tmp_path / "copy", home=home)
    copy = standalone(tmp_path / "copy", "--no-payloads", "--roster-digest", digest)
    assert f"root {found.root}" in copy
    standalone(tmp_path / "copy", "--no-payloads", "--roster-digest", "0" * 64, code=12)
    standalone(tmp_path / "copy", code=12)  # the payloads aren't in it
    said("export", tmp_path / "whole", "--payloads", home=home)
    standalone(tmp_path / "whole")
    assert isinstance(run("export", tmp_path / "whole", home=home).exception, WardgateError)


def _rewritten(lines: list[bytes], at: int, kind: str) -> list[bytes]:
    """Return the ledger with one entry changed and every later one made to follow it."""
    import hashlib

    found, previous = lines[:at], hashlib.sha256(lines[at - 1]).hexdigest()
    for number, line in enumerate(lines[at:], at):
        value = json.loads(line)
        value["previous"] = previous
        if number == at:
            value["kind"] = kind
        found.append(json.dumps(value, separators=(",", ":")).encode())
        previous = hashlib.sha256(found[-1]).hexdigest()
    return found


TAMPERINGS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "edited": lambda lines: [*lines[:3], lines[3].replace(b"notice", b"noticf"), *lines[4:]],
    "reordered": lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
    "one deleted": lambda lines: [*lines[:3], *lines[4:]],
    "cut before the last countersigned head": lambda lines: lines[:4],
    "forked and grown": lambda lines: _rewritten(lines, 3, "forged"),
    "rewritten from the first": lambda lines: _rewritten(lines, 1, "forged"),
    "emptied": lambda lines: [],
}


@pytest.mark.parametrize("how", TAMPERINGS)
@pytest.mark.parametrize("index", ["kept", "deleted"])
def test_a_ledger_that_was_tampered_with_neither_opens_nor_verifies(
    home: Path, how: str, index: str
) -> None:
    ledger = home / "ledger"
    if index == "deleted":
        shutil.rmtree(ledger / "index")
    path = ledger / "ledger.jsonl"
    lines = TAMPERINGS[how](path.read_bytes().splitlines())
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    with pytest.raises(LedgerError):
        Ledger(ledger)
    with pytest.raises(LedgerError):
        examine(ledger)
    assert isinstance(run("verify", home=home).exception, LedgerError)
    standalone(ledger, code=12)


@pytest.mark.parametrize("how", ["forged", "countersigned only", "another's"])
def test_a_head_that_was_forged_is_seen_by_the_verifier(home: Path, how: str) -> None:
    folder = home / "ledger" / "heads" / "preterm" / "own"
    path = sorted(folder.glob("*.json"))[-1]
    envelope = Envelope.parse(path.read_bytes())
    signatures = envelope.signatures
    changed = {
        "forged": envelope.model_copy(update={"signatures": ()}).sign(SigningKey.generate()),
        "countersigned only": envelope.model_copy(update={"signatures": signatures[1:]}),
        "another's": envelope.model_copy(update={"signatures": signatures[1:2]}),
    }[how]
    path.write_bytes(changed.to_bytes())
    standalone(home / "ledger", code=12)


# ---- purge -------------------------------------------------------------------------------------


def grown_old(home: Path, keep_days: int) -> list[Path]:
    """Put a policy in force and let the files of four payloads look very old; return all."""
    text = default_text("policy/standard.toml")
    changed = text.replace("keep_payload_days = 365", f"keep_payload_days = {keep_days}")
    (home / "policy.toml").write_text(changed)
    found = sorted((home / "ledger" / "payloads").iterdir())
    for path in found[:4]:
        os.utime(path, (NOW.timestamp() - 400 * 86400,) * 2)
    return found


def test_payloads_that_are_purged_before_their_time_are_missed(home: Path) -> None:
    grown_old(home, keep_days=30)
    ledger = Ledger(home / "ledger")
    kept = ledger.keep_payload(b"of today")
    ledger.append("answer", {"kept": [kept]}, datetime.now(UTC))
    ledger.close()
    said("purge", home=home)
    assert (home / "ledger" / "payloads" / kept).exists()
    os.utime(home / "ledger" / "payloads" / kept, (NOW.timestamp() - 400 * 86400,) * 2)
    assert said("purge", home=home).startswith("purged 1 payloads")
    assert "before time" in str(run("verify", home=home).exception)
    standalone(home / "ledger", code=12)


def test_purged_payloads_are_on_the_record_and_removed_ones_are_missed(home: Path) -> None:
    old = grown_old(home, keep_days=30)
    folder = home / "ledger" / "payloads"
    assert said("purge", "--dry-run", home=home).startswith("4 payloads")
    assert said("purge", home=home).startswith("purged 4 payloads")
    assert sorted(folder.iterdir()) == old[4:]
    found = objects("verify", home=home)
    assert found["purged"] == 4
    assert "4 purged" in standalone(home / "ledger")
    # What is kept again is kept; what somebody else removes is missed.
    old[5].unlink()
    assert isinstance(run("verify", home=home).exception, LedgerError)
    standalone(home / "ledger", code=12)


# ---- subject -----------------------------------------------------------------------------------


@pytest.fixture
def used(tmp_path: Path) -> Iterator[Site]:
    """A hospital with two releases, one of which holds patient 4711, and jobs over both."""
    root = tmp_path / "hospitals"
    root.mkdir()
    with three_sites(root, empty_catalogue(root / "template")) as carrier:
        north = carrier[NORTH]
        (north.home.root / "pseudonym.key").write_bytes(bytes(range(32)))
        (north.home.root / "pseudonym.key").chmod(0o600)
        who = Pseudonyms(bytes(range(32))).subject("4711")
        for name, subjects in (("with", [who, "other"]), ("without", ["other"])):
            manifest = ReleaseManifest(
                name=name, table=name, columns=(), rows=len(subjects), subjects=len(subjects),
                files=(ReleaseFile(path=name, sha256="0" * 64, size_bytes=1),),
            )  # fmt: skip
            north.catalog.add_release(manifest.digest, manifest, north.now)
            with north.catalog.engine.begin() as connection:
                connection.execute(
                    release_index.insert().values(
                        release=manifest.digest, population="p", seals=seals_of(subjects)
                    )
                )
            job = {"job": name.encode().hex(), "release": manifest.digest, "researcher": "ana"}
            north.gate.ledger.append("admitted", job | {"project": "trial"}, north.now)
            for _ in range(2):
                north.gate.ledger.append("answer", job | {"bytes": 10}, north.now)
        yield north


def test_the_jobs_that_used_a_patient_are_those_over_releases_that_hold_them(used: Site) -> None:
    home = used.home.root
    found = objects("subject", home=home, stdin="4711\n")
    assert [r["name"] for r in found["releases"]] == ["with"]
    (use,) = found["jobs"]
    assert (use["researcher"], len(use["answers"]), use["bytes"]) == ("ana", 2, 20)
    pseudonym = Pseudonyms(bytes(range(32))).subject("4711")
    assert objects("subject", pseudonym, home=home) == found
    assert "in release with" in said("subject", pseudonym, home=home)
    assert "4711" not in said("subject", home=home, stdin="4711\n")
    both = objects("subject", "other", home=home)
    assert [r["name"] for r in both["releases"]] == ["with", "without"]
    assert len(both["jobs"]) == 2
    assert "no job used them" in said("subject", "nobody", home=home)


def _entries(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said("show", "--json", home=home).splitlines()]


def raise_(result: Result) -> None:
    if result.exception is not None:
        raise result.exception


def test_heads_are_read_back_in_order(home: Path) -> None:
    store = HeadStore(home / "ledger", "preterm")
    assert store.own()[-1] == store.newest()
    assert json.loads(store.roster())["payloadType"].endswith("roster+json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def verifier() -> Any:
    """The verifier as a module."""
    spec = importlib.util.spec_from_file_location("verify_ledger", VERIFIER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from(["entry", "sequence", "inclusion", "head", "roster"]), JSON))
def test_no_file_of_a_stranger_raises_anything_but_a_line_in_either_verifier(
    values: dict[str, Any],
) -> None:
    module = verifier()
    data = json.dumps({"format": "wardgate-ledger-proof-1"} | values).encode()
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "proof.json"
        file.write_bytes(data)
        with pytest.raises(module.Bad):
            module.check_proof(file, [])
        assert isinstance(run("check-proof", file).exception, WardgateError)


def test_stewards_that_share_a_key_count_once(home: Path, tmp_path: Path) -> None:
    """A threshold of two can't be met by one key under two names."""
    module = verifier()
    thief = SigningKey.generate()
    body = json.loads(Envelope.parse(HeadStore(home / "ledger", "preterm").roster()).body)
    body["threshold"] = 2
    body["stewards"] = [{"name": name, "key": thief.public} for name in ("one", "two")]
    forged = Envelope.seal("application/vnd.wardgate.roster+json", json.dumps(body).encode())
    with pytest.raises(module.Bad, match="threshold"):
        module.Roster(json.loads(forged.sign(thief).to_bytes()))
