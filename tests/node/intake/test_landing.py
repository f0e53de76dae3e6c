"""The landing: durable when it says so, sealed, in order, purged; and quarantine beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contract.errors import DataError, NotFound, StorageError, UsageError
from node.deid.pseudonyms import load_key
from node.home import NodeHome
from node.intake.landing import RECORD, Landing
from node.intake.quarantine import Quarantine
from node.intake.sealed import PIECE
from tests.end_to_end.federation import fill, mount, unmount

DAY = timedelta(days=1)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


def put(landing: Landing, data: bytes, uid: str = "", origin: str = "cstore") -> None:
    with landing.writer(origin, uid) as writer:
        writer.write(data)
        writer.commit()


def test_entries_come_oldest_first_with_what_is_known_of_them(home: NodeHome) -> None:
    landing = Landing(home, Clock())
    contents = [b"first", b"", b"third" * PIECE]
    for number, content in enumerate(contents):
        put(landing, content, f"1.2.{number}", ("cstore", "stow", "pull")[number])
    entries = list(landing.entries())
    assert [landing.read(entry) for entry in entries] == contents
    assert [entry.size_bytes for entry in entries] == [len(content) for content in contents]
    assert [entry.origin for entry in entries] == ["cstore", "stow", "pull"]
    assert entries[0].arrived_at == START + timedelta(milliseconds=1)
    assert landing.count() == 3
    assert [b"".join(landing.chunks(entry)) for entry in entries] == contents


def test_another_process_sees_the_same_entries(home: NodeHome) -> None:
    put(Landing(home), b"x", "1.2")
    other = Landing(home)
    (entry,) = other.entries()
    assert other.read(entry) == b"x"


def test_what_is_not_committed_leaves_nothing(home: NodeHome) -> None:
    landing = Landing(home)
    with landing.writer("cstore") as writer:
        writer.write(b"x" * 3 * PIECE)
    with pytest.raises(RuntimeError), landing.writer("cstore") as writer:
        writer.write(b"x")
        raise RuntimeError
    assert list(landing.folder.iterdir()) == []
    with pytest.raises(UsageError):
        landing.writer("Doe^Jane")


def test_nothing_on_disk_names_a_patient_and_nobody_else_may_look(home: NodeHome) -> None:
    landing, quarantine = Landing(home), Quarantine(home)
    secret = b"Quillfeather^Zebediah"
    put(landing, secret * 100, "1.2.840.99.12345")
    quarantine.put("ab" * 32, [secret, secret])
    for entry in landing.entries():
        landing.done(entry)
    put(landing, secret * 100, "1.2.840.99.12345")
    found = [path for folder in (home.landing, home.quarantine) for path in folder.iterdir()]
    assert len(found) == 3
    for path in found:
        assert secret not in path.read_bytes()
        assert b"1.2.840.99.12345" not in path.read_bytes() + path.name.encode()
        assert path.stat().st_mode & 0o777 == 0o600
    for folder in (home.landing, home.quarantine):
        assert folder.stat().st_mode & 0o777 == 0o700
    for key in (home.landing_key, home.quarantine_key):
        assert key.stat().st_mode & 0o777 == 0o600


def test_a_changed_arrival_is_not_read(home: NodeHome) -> None:
    landing = Landing(home)
    put(landing, b"x" * 100)
    (entry,) = landing.entries()
    path = landing.folder / entry.name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError):
        landing.read(entry)
    other = path.with_name(path.name.replace("cstore", "stow"))
    data[-1] ^= 1
    path.rename(other)
    other.write_bytes(data)
    with pytest.raises(DataError):
        landing.read(next(landing.entries()))


def test_an_instance_is_held_while_it_waits_and_after_it_was_taken_but_not_when_purged(
    home: NodeHome,
) -> None:
    clock = Clock()
    landing = Landing(home, clock)
    put(landing, b"a", "1.1")
    put(landing, b"b", "1.2")
    put(landing, b"c")
    assert landing.held(["1.1", "1.2", "1.3"]) == {"1.1", "1.2"}
    landing.done(next(landing.entries()))
    assert landing.held(["1.1", "1.2", "1.3"]) == {"1.1", "1.2"}
    assert landing.purge(clock.now, timedelta(hours=24)) == 0
    clock.now += DAY * 2
    assert landing.purge(clock.now, timedelta(hours=24)) == 2
    assert landing.held(["1.1", "1.2"]) == {"1.1"}
    clock.now += DAY * 40
    assert landing.purge(clock.now, timedelta(hours=24)) == 0
    assert landing.held(["1.1", "1.2"]) == set()
    assert (landing.folder / "receipts").read_bytes() == b""


def test_half_a_receipt_that_a_kill_left_spoils_no_other(home: NodeHome) -> None:
    landing = Landing(home)
    for uid in ("1.1", "1.2"):
        put(landing, b"x", uid)
    first, second = landing.entries()
    landing.done(first)
    with (landing.folder / "receipts").open("ab") as file:
        file.write(b"half")
    assert landing.held(["1.1"]) == {"1.1"}
    landing.done(second)
    assert (landing.folder / "receipts").stat().st_size == 2 * RECORD
    assert landing.held(["1.1", "1.2"]) == {"1.1", "1.2"}


def test_a_purge_removes_what_killed_writers_left_and_no_living_one_s(home: NodeHome) -> None:
    landing = Landing(home)
    old = (START - DAY).timestamp()
    put(landing, b"x")
    whole = next(landing.entries()).name
    left = landing.folder / f".{whole}"
    left.write_bytes(b"cut")
    os.utime(left, (old, old))
    with landing.writer("cstore") as writer:
        living = next(p for p in landing.folder.glob(".*") if p != left)
        os.utime(living, (old, old))
        landing.purge(datetime.now(UTC), DAY)
        assert living.exists() and not left.exists()
        writer.commit()
    assert landing.count() == 2


WRITER = """
import sys
from pathlib import Path
from node.home import NodeHome
from node.intake.landing import Landing
landing = Landing(NodeHome(Path(sys.argv[1])))
for number in range(100000):
    uid = f"1.2.{number}"
    with landing.writer("cstore", uid) as writer:
        writer.write(uid.encode() * 5000)
        writer.commit()
    print(uid, flush=True)
"""


def test_every_acknowledged_arrival_survives_kill_9(home: NodeHome) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(home.root)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        count = 20 + len(process.stdout.read().splitlines())
    landing = Landing(home)
    uids = [f"1.2.{number}" for number in range(count)]
    assert landing.held(uids) == set(uids)
    entries = list(landing.entries())
    assert [landing.read(e) for e in entries[:count]] == [uid.encode() * 5000 for uid in uids]


def test_a_full_disk_refuses_the_arrival_and_keeps_the_others(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    why = mount(disk, "4m")
    if why is not None:
        pytest.skip(f"no small disk can be mounted here: {why}")
    try:
        landing = Landing(NodeHome(disk / "node").create())
        put(landing, b"kept", "1.1")
        ballast = fill(disk, leave=300_000)
        with pytest.raises(StorageError), landing.writer("cstore", "1.2") as writer:
            for _ in range(3):
                writer.write(b"x" * PIECE)
            writer.commit()
        assert landing.count() == 1
        assert landing.held(["1.1", "1.2"]) == {"1.1"}
        ballast.unlink()
        put(landing, b"now", "1.2")
        assert landing.held(["1.1", "1.2"]) == {"1.1", "1.2"}
    finally:
        unmount(disk)


def test_quarantine_lists_finds_and_purges(home: NodeHome) -> None:
    quarantine = Quarantine(home)
    digests = ["aa" * 32, "ab" * 32, "cd" * 32]
    for age, digest in enumerate(digests):
        quarantine.put(digest, [b"x" * 10 * (age + 1)])
        at = (START - DAY * age).timestamp()
        os.utime(quarantine.path(digest), (at, at))
    assert [held.source_digest for held in quarantine.held()] == digests[::-1]
    assert [held.size_bytes for held in quarantine.held()] == [30, 20, 10]
    assert quarantine.find("cd").source_digest == digests[2]
    for ambiguous in ("a", "ff", ""):
        with pytest.raises(NotFound):
            quarantine.find(ambiguous)
    assert quarantine.purge(START, DAY * 1.5) == 1
    assert quarantine.purge(START, DAY * 1.5) == 0
    assert [held.source_digest for held in quarantine.held()] == digests[1::-1]


def test_a_file_of_the_first_form_is_sealed_anew_with_its_date(home: NodeHome) -> None:
    cipher = AESGCM(load_key(home.quarantine_key, create=True))
    digest, prefix, data = "ef" * 32, b"prefix7", os.urandom(PIECE + 5)
    old = home.quarantine / f"{digest}.quarantined"
    pieces = [
        cipher.encrypt(prefix + n.to_bytes(4, "big") + last, part, digest.encode())
        for n, part, last in ((0, data[:PIECE], b"\0"), (1, data[PIECE:], b"\1"))
    ]
    old.write_bytes(b"WGQ1" + prefix + b"".join(pieces))
    os.utime(old, (START.timestamp(), START.timestamp()))
    bad = home.quarantine / f"{'00' * 32}.quarantined"
    bad.write_bytes(b"WGQ1" + prefix + b"damaged")
    quarantine = Quarantine(home)
    assert b"".join(quarantine.open(digest)) == data
    assert [held.since for held in quarantine.held()] == [START]
    assert not old.exists() and bad.exists()
