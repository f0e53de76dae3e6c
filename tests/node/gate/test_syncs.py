"""What of a question is synced, in which order, and what a power cut in between leaves behind."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contract.errors import LedgerError
from node.gate.ledger import Ledger, read_entries, verify
from node.gate.ledger.index import SEGMENT
from tests.node.gate.conftest import Hospital
from tests.node.gate.test_before_egress import admitted, parts_of
from tests.node.gate.test_ledger import may_trace

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[3]
PARTS = parts_of([50.0 + i % 20 for i in range(100)], [i % 2 for i in range(100)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ledger of ten entries."""
    ledger = Ledger(tmp_path / "ledger")
    for number in range(10):
        ledger.append("notice", {"number": number}, NOW)
    ledger.close()
    return tmp_path / "ledger"


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the files that Python syncs, as it does."""
    names: list[str] = []
    real = os.fsync

    def sync(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    yield names


# ---- the ledger --------------------------------------------------------------------------------


def test_an_entry_that_need_not_be_synced_is_written_and_synced_with_the_next(
    folder: Path, synced: list[str]
) -> None:
    ledger = Ledger(folder)
    synced.clear()
    ledger.append("admitted", {}, NOW, sync=False)
    assert synced == []
    assert [e.kind for e in read_entries(folder)][-1] == "admitted"
    ledger.append("answer", {}, NOW)
    assert synced == ["ledger.jsonl"]
    ledger.sync()
    assert synced == ["ledger.jsonl"], "all is durable already"
    ledger.append("admitted", {}, NOW, sync=False)
    ledger.sync()
    assert synced == ["ledger.jsonl"] * 2


def test_whatever_a_head_or_a_checkpoint_is_made_of_is_durable(
    folder: Path, synced: list[str]
) -> None:
    ledger = Ledger(folder)
    ledger.append("admitted", {}, NOW, sync=False)
    synced.clear()
    ledger.standing()
    assert synced == ["ledger.jsonl"]
    for number in range(11, SEGMENT - 1):
        ledger.append("admitted", {"n": number}, NOW, sync=False)
    assert synced == ["ledger.jsonl"]
    ledger.append("admitted", {}, NOW, sync=False)
    assert synced[1] == "ledger.jsonl"
    assert "segments" in synced[2:], "the checkpoint is written after what it vouches for"


def test_a_sync_that_fails_under_what_was_acted_on_ends_the_ledgers_use(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    for fail in (Ledger.sync, lambda ledger: ledger.append("answer", {}, NOW)):
        ledger = Ledger(folder)
        ledger.append("admitted", {}, NOW, sync=False)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", broken)
            with pytest.raises(OSError, match="Input/output"):
                fail(ledger)
        with pytest.raises(LedgerError, match="in doubt"):
            ledger.append("answer", {}, NOW)
        ledger.close()
    assert verify(folder).sequence >= 10


def test_a_payload_that_a_power_cut_left_half_written_is_kept_whole_the_next_time(
    folder: Path,
) -> None:
    ledger = Ledger(folder)
    for left in (b"", b"what le", b"\0" * 9):
        digest = ledger.keep_payload(b"what left")
        (folder / "payloads" / digest).write_bytes(left)
        assert ledger.keep_payload(b"what left") == digest
        assert ledger.payload(digest) == b"what left"


# ---- an answer ---------------------------------------------------------------------------------

ANSWERED = """
import os, sys
from pathlib import Path
from node.catalog.store import Catalog
from node.home import NodeHome
from tests.node.gate.conftest import Hospital
from tests.node.gate.test_syncs import PARTS, admitted
home = NodeHome(Path(sys.argv[1])).create()
hospital = Hospital(home, Catalog.open(home))
gate, member = hospital.gate, hospital.member
gate.answer_statistics(member, admitted(hospital), PARTS, 0.1)
os.write(1, b"begin\\n")
admission = admitted(hospital)
os.write(1, b"admitted\\n")
gate.answer_statistics(member, admission, PARTS, 0.1)
os.write(1, b"sealed\\n")
"""


@pytest.mark.skipif(not may_trace(), reason="no process may be traced here")
def test_payload_catalogue_and_ledger_are_synced_in_this_order_before_an_answer_is_sealed(
    tmp_path: Path,
) -> None:
    trace = tmp_path / "trace"
    subprocess.run(
        ["strace", "-f", "-y", "-s", "100", "-e", "trace=write,fsync,fdatasync",
         "-o", str(trace), sys.executable, "-c", ANSWERED, str(tmp_path / "node")],
        check=True, cwd=ROOT, stdout=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    text = trace.read_text()
    steps = []
    for line in text[text.index('"begin') :].splitlines()[1:]:
        if found := re.search(r'write\(1<[^>]*>, "(\w+)', line):
            steps.append(found[1])
        elif found := re.search(r"(fsync|fdatasync)\(\d+<([^>]*)>", line):
            steps.append("sync " + Path(found[2]).parent.name + "/" + Path(found[2]).name)
    assert steps.index("admitted") == 0, "what is admitted is synced with its answer"
    payload = [i for i, step in enumerate(steps) if "payloads/" in step]
    rest = [s for i, s in enumerate(steps[: steps.index("sealed") + 1]) if i > payload[-1]]
    assert rest == [
        "sync ledger/payloads",
        "sync node/catalogue.db-wal",
        "sync ledger/ledger.jsonl",
        "sealed",
    ]


def test_a_row_whose_entry_a_power_cut_took_is_of_no_answer_that_is_sent(
    hospital: Hospital, tmp_path: Path
) -> None:
    admission = admitted(hospital)
    before = tmp_path / "before"
    shutil.copytree(hospital.home.ledger, before)
    hospital.gate.answer_statistics(hospital.member, admission, PARTS, 0.1)
    assert hospital.gate.again(admission.digest, "statistics") is not None
    shutil.rmtree(hospital.home.ledger)
    shutil.copytree(before, hospital.home.ledger)
    hospital.reopen()
    assert hospital.gate.asked.answer(admission.digest, "statistics") is not None
    assert hospital.gate.again(admission.digest, "statistics") is None
    again = hospital.gate.answer_statistics(hospital.member, admission, PARTS, 0.1)
    assert again.message.reply.payload
    assert len(hospital.entries("answer")) == 1
