"""The secret in a token: the same pseudonyms as from a file, and nobody can read it out."""

from __future__ import annotations

import os
import pickle
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from contract.errors import AlreadyExists, NotFound, Refused, StorageError, UsageError
from node.commands.key import app
from node.deid.pseudonyms import Pseudonyms
from node.deid.tokens import make_key, open_pseudonyms, parse_uri
from node.home import NodeHome
from tests.node.deid.invoking import Done, invoke

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
COMMAND = str(Path(sys.executable).with_name("wardgate-node"))
SECRET = bytes(range(32))
needs_softhsm = pytest.mark.skipif(
    not MODULE.exists() or shutil.which("softhsm2-util") is None,
    reason="softhsm2 is not installed",
)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A new SoftHSM token; the URI of a key in it that is not there yet, without its name."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    # The module reads it when it is first loaded, in this process too.
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    command = ["softhsm2-util", "--init-token", "--free", "--label", "ward"]
    subprocess.run([*command, "--pin", "4711", "--so-pin", "5678"], check=True, capture_output=True)
    pin = folder / "pin"
    pin.touch(mode=0o600)
    pin.write_text("4711\n")
    return f"pkcs11:token=ward;object=NAME?module-path={MODULE}&pin-source={pin}"


@needs_softhsm
def test_a_secret_that_is_put_into_a_token_makes_the_same_pseudonyms(token: str) -> None:
    uri = token.replace("NAME", "moved")
    make_key(uri, secret=SECRET)
    in_token, in_file = open_pseudonyms(uri), Pseudonyms(SECRET)
    assert in_token.subject("KX48853") == in_file.subject("KX48853")
    assert in_token.uid("1.2.3") == in_file.uid("1.2.3")
    assert in_token.days("a") == in_file.days("a")
    assert in_token.source(b"x") == in_file.source(b"x")
    assert in_token.fingerprint == in_file.fingerprint
    copy = pickle.loads(pickle.dumps(in_token))
    assert copy.subject("KX48853") == in_file.subject("KX48853")
    assert SECRET not in pickle.dumps(in_token)


@needs_softhsm
def test_the_token_does_not_give_the_secret_away(token: str) -> None:
    import pkcs11

    uri = token.replace("NAME", "kept")
    make_key(uri)
    with pkcs11.lib(str(MODULE)).get_token(token_label="ward").open(user_pin="4711") as session:
        key = session.get_key(object_class=pkcs11.ObjectClass.SECRET_KEY, label="kept")
        with pytest.raises(pkcs11.exceptions.PKCS11Error):
            key[pkcs11.Attribute.VALUE]
    with pytest.raises(AlreadyExists):
        make_key(uri)
    with pytest.raises(NotFound, match="no secret key"):
        open_pseudonyms(token.replace("NAME", "other"))
    with pytest.raises(NotFound, match="no token"):
        open_pseudonyms(uri.replace("token=ward", "token=none"))


@needs_softhsm
def test_a_person_is_asked_for_the_pin_and_a_wrong_one_is_one_line(token: str) -> None:
    uri = token.replace("NAME", "asked").partition("&")[0]
    asked: list[str] = []

    def ask(label: str) -> str:
        asked.append(label)
        return "4711"

    make_key(uri, secret=SECRET, ask=ask)
    assert open_pseudonyms(uri, ask).fingerprint == Pseudonyms(SECRET).fingerprint
    assert asked == ["ward", "ward"]
    with pytest.raises(StorageError, match="refuses the PIN"):
        open_pseudonyms(uri, lambda label: "0000")
    with pytest.raises(UsageError, match="pin-source"):
        open_pseudonyms(uri)


@needs_softhsm
def test_worker_processes_make_the_same_pseudonyms_as_a_file_does(
    token: str, tmp_path: Path
) -> None:
    from tests.node.deid.export.conftest import image, tree

    uri = token.replace("NAME", "run")
    make_key(uri, secret=SECRET)
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_bytes(SECRET)
    (tmp_path / "in").mkdir()
    for number in range(8):
        (tmp_path / "in" / str(number)).write_bytes(image(number))
    for name, place in (("a", uri), ("b", str(key))):
        command = [COMMAND, "deid", "run", str(tmp_path / "in"), str(tmp_path / name)]
        command += ["--key-file", place, "--pixels", "off", "--workers", "2"]
        subprocess.run(command, check=True, capture_output=True)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_pin_in_the_uri_is_refused_and_what_is_missing_is_named() -> None:
    with pytest.raises(UsageError, match="can be read by others"):
        parse_uri("pkcs11:token=a;object=b?module-path=/m.so&pin-value=4711")
    with pytest.raises(UsageError, match="module-path, object"):
        parse_uri("pkcs11:token=a")
    place = parse_uri("pkcs11:object=b%20c;token=a?module-path=/m.so&pin-source=file:///etc/pin")
    assert (place.object, place.pin_source) == ("b c", "/etc/pin")


def run(*arguments: str | Path) -> Done:
    return invoke(app, *arguments)


def test_a_key_file_is_made_shown_and_mapped(tmp_path: Path) -> None:
    old, new = tmp_path / "old.key", tmp_path / "new.key"
    assert run("make", old).returncode == run("make", new).returncode == 0
    assert stat.S_IMODE(old.stat().st_mode) == 0o600
    assert run("make", old).returncode == AlreadyExists.exit_code
    shown = run("show", old).stdout
    assert shown == f"key {open_pseudonyms(str(old)).fingerprint}\n"
    (tmp_path / "numbers").write_text("KX1\nKX2\nKX1\n\n")
    assert run("map", old, new, tmp_path / "numbers", tmp_path / "map.csv").returncode == 0
    rows = (tmp_path / "map.csv").read_text().split()
    pairs = [
        f"{open_pseudonyms(str(old)).subject(n)},{open_pseudonyms(str(new)).subject(n)}"
        for n in ("KX1", "KX2")
    ]
    assert rows == ["old,new", *pairs]
    assert stat.S_IMODE((tmp_path / "map.csv").stat().st_mode) == 0o600


def test_a_node_s_key_is_replaced_only_while_nothing_was_made_under_it(tmp_path: Path) -> None:
    from tests.node.deid.export.conftest import image

    home = NodeHome(tmp_path / "node").create()
    assert run("make", home.pseudonym_key).returncode == 0
    first = home.pseudonym_key.read_bytes()
    dry = run("rotate", "--home", home.root, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert home.pseudonym_key.read_bytes() == first
    assert run("rotate", "--home", home.root).returncode == 0
    second = home.pseudonym_key.read_bytes()
    assert second != first
    kept = home.root / f"pseudonym.key.{Pseudonyms(first).fingerprint}"
    assert kept.read_bytes() == first
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    (tmp_path / "IM1").write_bytes(image(1))
    ingest = [COMMAND, "ingest", str(tmp_path / "IM1"), "--home", str(home.root)]
    subprocess.run(ingest, check=True, capture_output=True)
    refused = run("rotate", "--home", home.root)
    assert refused.returncode == Refused.exit_code
    assert "1 subjects have pseudonyms" in refused.stderr
    assert home.pseudonym_key.read_bytes() == second
    assert "1 subjects" in run("show", "--home", home.root).stdout
