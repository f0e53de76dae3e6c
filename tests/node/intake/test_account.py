"""Two users: what comes in is one's alone, and the other serves. As root, with real processes."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

from contract.errors import ConfigurationError, UsageError
from foundation import bubblewrap
from foundation.bubblewrap import Bind, Installation, Limits
from node.config import AccountSettings
from node.home import NodeHome
from node.intake.account import Account, account, enter, is_separate, refuse, separate
from tests.end_to_end.processes import BIN, environment, eventually
from tests.node.intake.conftest import image
from tests.node.intake.users import as_user, run
from tests.ports import free_port

ROOT = Path(__file__).parents[3]
INTAKE, NODE, GROUP = 61010, 61011, 61012
SETTINGS = AccountSettings(user=str(INTAKE), group=str(GROUP))
WANTED = Account(INTAKE, GROUP)
RUBBISH = b"Quillfeather^Zebediah" * 100

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")

LOOK = """
import json, os, pathlib, sys
seen = {}
for name in sys.argv[2:]:
    path = pathlib.Path(sys.argv[1]) / name
    try:
        seen[name] = sorted(os.listdir(path)) if path.is_dir() else path.read_bytes().hex()
    except OSError as error:
        seen[name] = type(error).__name__
print(json.dumps(seen))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users can reach."""
    made = Path(tempfile.mkdtemp(prefix="wardgate-two-users-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def by(place: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command as a user."""

    def run_by(user: int, *command: object) -> subprocess.CompletedProcess[str]:
        more = {"env": environment(HOME="/nonexistent", PYTHONPATH=str(ROOT))}
        return run(as_user(user, GROUP, place / "opened", *command), **more)

    probe = run_by(NODE, sys.executable, "-c", "import node.home")
    if probe.returncode:
        pytest.skip("other users can't run this installation")
    return run_by


@pytest.fixture
def home(place: Path) -> NodeHome:
    made = NodeHome(place / "node").create()
    made.settings.write_text(f'[account]\nuser = "{INTAKE}"\ngroup = "{GROUP}"\n')
    return made


By = Callable[..., "subprocess.CompletedProcess[str]"]


def look(by: By, home: NodeHome, user: int, *names: str) -> dict[str, str | list[str]]:
    """Return what a process of ``user`` sees: a folder's names, a file's bytes, or why not."""
    done = by(user, sys.executable, "-c", LOOK, home.root, *names)
    assert done.returncode == 0, done.stderr
    seen: dict[str, str | list[str]] = json.loads(done.stdout)
    return seen


@as_root
def test_everything_works_with_two_users_and_the_node_s_own_can_t_read_what_comes_in(
    home: NodeHome, place: Path, by: By
) -> None:
    def wardgate(*words: str | Path, user: int = 0) -> subprocess.CompletedProcess[str]:
        return by(user, BIN / "wardgate-node", *words, "--home", home.root)

    source = place / "pacs"
    source.mkdir(mode=0o755)
    for number in range(3):
        (source / f"{number}.dcm").write_bytes(image(number))
    (source / "cut.dcm").write_bytes(RUBBISH)

    done = wardgate("ingest", source)
    assert done.returncode == 2 and "separate" in done.stderr
    done = wardgate("separate", str(NODE))
    assert done.returncode == 0, done.stderr
    assert is_separate(home, WANTED)

    # Started as root, intake becomes its user.
    done = wardgate("ingest", source)
    assert done.returncode == 0, done.stderr
    assert "3  accepted" in done.stdout and "quarantined" in done.stdout
    (quarantined,) = home.quarantine.iterdir()
    assert (quarantined.stat().st_uid, quarantined.stat().st_mode & 0o777) == (INTAKE, 0o600)
    assert home.pseudonym_key.stat().st_uid == INTAKE
    put_into_the_landing(by, home)

    private = ["landing", "quarantine", "pulls"]
    keys = ["landing.key", "quarantine.key", "pseudonym.key"]
    files = [f"quarantine/{quarantined.name}", f"landing/{next(home.landing.iterdir()).name}"]
    everything = [*private, *keys, *files]
    assert set(look(by, home, NODE, *everything).values()) == {"PermissionError"}
    assert "PermissionError" not in look(by, home, INTAKE, *everything).values()
    # It can neither rename them nor put others in their place.
    for name in (*private, *keys):
        code = "import os, sys; os.rename(*sys.argv[1:])"
        moved = by(NODE, sys.executable, "-c", code, home.root / name, home.root / "mine")
        assert "PermissionError" in moved.stderr

    # And yet it serves what was taken in. Root reads the key to freeze it, and is root no more.
    done = wardgate("release", "create", "all", "--all-assets")
    assert done.returncode == 0, done.stderr
    assert {path.stat().st_uid for path in home.releases.iterdir()} == {NODE}
    for words in (["list"], ["verify", "all"]):
        done = wardgate("release", *words, user=NODE)
        assert done.returncode == 0, done.stderr
    # Then comes more: both write the catalogue in turn.
    (source / "3.dcm").write_bytes(image(3))
    done = wardgate("ingest", source, user=INTAKE)
    assert done.returncode == 0 and "1  accepted" in done.stdout, done.stderr

    done = wardgate("quarantine", "list")
    assert done.returncode == 0 and quarantined.name[:12] in done.stdout
    done = wardgate("quarantine", "open", quarantined.name[:16], place / "look.dcm")
    assert done.returncode == 0, done.stderr
    assert (place / "look.dcm").read_bytes() == RUBBISH
    assert (place / "look.dcm").stat().st_uid == 0

    for command in (["ingest", source], ["quarantine", "list"], ["receive"]):
        refused = wardgate(*command, user=NODE)
        assert refused.returncode == 2 and str(INTAKE) in refused.stderr, refused.stderr
    for user in (0, INTAKE):
        refused = wardgate("serve", user=user)
        assert refused.returncode == 2 and "own user" in refused.stderr, refused.stderr

    # Again, it changes nothing that matters.
    assert wardgate("separate", str(NODE)).returncode == 0
    assert set(look(by, home, NODE, *everything).values()) == {"PermissionError"}


@as_root
def test_a_receiver_that_root_starts_is_the_intake_s_user_from_then_on(
    home: NodeHome, place: Path, by: By
) -> None:
    separate(home, WANTED, NODE)
    port = free_port()
    with home.settings.open("a") as file:
        file.write(f'[receive]\nae_title = "W"\nport = {port}\ncalling = ["PYNETDICOM"]\n')
    words = [BIN / "wardgate-node", "receive", "--home", home.root]
    with subprocess.Popen(
        as_user(0, GROUP, place / "opened", *words),
        stdout=subprocess.PIPE,
        env=environment(HOME="/nonexistent", PYTHONPATH=str(ROOT)),
        cwd="/",
        umask=0o077,
    ) as process:
        try:
            assert process.stdout is not None and b"receiving" in process.stdout.readline()
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert f"Uid:\t{INTAKE}\t{INTAKE}\t{INTAKE}\t{INTAKE}" in status
            entity = AE()
            entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2", ExplicitVRLittleEndian)
            association = entity.associate("127.0.0.1", port, ae_title="W")
            dataset = pydicom.dcmread(io.BytesIO(image(7)))
            assert association.send_c_store(dataset).Status == 0
            association.release()
            eventually(lambda: list((home.vault / "assets").glob("*/*.dcm")), "it is taken in")
        finally:
            process.terminate()
    (asset,) = (home.vault / "assets").glob("*/*.dcm")
    state = asset.stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o777) == (INTAKE, GROUP, 0o640)
    name = str(asset.relative_to(home.root))
    assert look(by, home, NODE, name, "landing") == {
        name: asset.read_bytes().hex(),
        "landing": "PermissionError",
    }


@as_root
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="no bubblewrap here")
def test_a_sandboxed_worker_can_t_read_it_even_where_it_is_shown(
    home: NodeHome, place: Path, by: By
) -> None:
    separate(home, WANTED, NODE)
    put_into_the_landing(by, home)
    names = ["landing", "quarantine", "landing.key", f"landing/{next(home.landing.iterdir()).name}"]
    script = place / "look.py"
    script.write_text(LOOK)
    script.chmod(0o644)
    installation = replace(Installation.here(["foundation"]), root=False)
    command = bubblewrap.bubblewrap_command(
        [installation.python, "/look.py", "/node", *names],
        installation=installation,
        binds=[Bind(home.root, "/node"), Bind(script, "/look.py")],
        limits=Limits(),
        environment={},
    )
    done = by(NODE, *command)
    if done.returncode and "namespace" in done.stderr:
        pytest.skip("ordinary users may not make namespaces here")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout).values()) == {"PermissionError"}


def put_into_the_landing(by: By, home: NodeHome) -> None:
    """Let something arrive, as the intake's user."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom node.home import NodeHome\n"
        "from node.intake.landing import Landing\n"
        "with Landing(NodeHome(Path(sys.argv[1]))).writer('cstore', '1.2.3') as writer:\n"
        "    writer.write(b'Quillfeather^Zebediah')\n    writer.commit()\n"
    )
    done = by(INTAKE, sys.executable, "-c", script, home.root)
    assert done.returncode == 0, done.stderr


@as_root
def test_a_home_with_links_or_one_user_for_both_is_not_arranged(home: NodeHome) -> None:
    for same in (0, INTAKE):
        with pytest.raises(UsageError):
            separate(home, WANTED, same)
    (home.vault / "link").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="symbolic link"):
        separate(home, WANTED, NODE)
    assert Path("/etc/passwd").stat().st_uid == 0


def test_without_an_account_everything_is_one_user_s(tmp_path: Path) -> None:
    home = NodeHome(tmp_path / "node").create()
    before = os.geteuid()
    enter(home, AccountSettings())
    refuse(AccountSettings())
    assert os.geteuid() == before
    assert {p.stat().st_mode & 0o7777 for p in (home.root, home.vault, home.landing)} == {0o700}


def test_an_account_is_named_or_numbered_and_never_root() -> None:
    assert account(AccountSettings()) is None
    assert account(SETTINGS) == WANTED
    for wrong in (
        {"user": "no-such-user"},
        {"user": "0", "group": "5"},
        {"user": "root"},
        {"user": "61010", "group": "0"},
        {"group": "nogroup"},
        {"user": "61010", "group": "no-such-group"},
    ):
        with pytest.raises(ConfigurationError):
            account(AccountSettings(**wrong))
