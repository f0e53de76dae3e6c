"""Files survive a crash whole, and secrets are their owner's alone."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contract.errors import AlreadyExists, NotFound, StorageError
from foundation.files import (
    private_folder,
    read_bounded,
    storage_errors,
    write_durably,
    write_new,
)

ROOT = Path(__file__).resolve().parents[2]

WRITER = """
import sys
from pathlib import Path
from foundation.files import write_durably
path = Path(sys.argv[1])
number = 0
while True:
    write_durably(path, (b"%08d" % number) * 20_000)
    number += 1
    print(number, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.013, 0.027, 0.041])
def test_a_file_is_whole_whenever_its_writer_is_killed(tmp_path: Path, delay: float) -> None:
    path = tmp_path / "file"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    written = [line for line in process.stdout.readlines() if line.endswith("\n")]
    process.wait()
    data = path.read_bytes()
    assert len(data) == 160_000
    assert data == data[:8] * 20_000
    assert int(data[:8]) >= (int(written[-1]) if written else 1) - 1


def test_a_secret_is_readable_by_its_owner_alone_from_its_first_moment(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        write_durably(tmp_path / "secret", b"x")
        write_durably(tmp_path / "open", b"x", 0o644)
        folder = private_folder(tmp_path / "a" / "b")
    finally:
        os.umask(old)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o644
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_secret_replaces_a_readable_file_by_a_private_one(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_durably(path, b"new")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == b"new"


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"theirs")
    (tmp_path / "link").symlink_to(target)
    write_durably(tmp_path / "link", b"ours")
    assert target.read_bytes() == b"theirs"
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(number, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="is full"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_disk_that_may_not_be_written_is_named(tmp_path: Path, number: int) -> None:
    with (
        pytest.raises(StorageError, match="place can't be written"),
        storage_errors(tmp_path / "place"),
    ):
        raise OSError(number, "no")


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="odd") as caught, storage_errors(tmp_path):
        raise OSError(errno.EIO, "odd")
    assert not isinstance(caught.value, StorageError)


def test_a_new_file_overwrites_nothing(tmp_path: Path) -> None:
    write_new(tmp_path / "key", b"first")
    with pytest.raises(AlreadyExists):
        write_new(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first"


def test_reading_is_bounded_and_its_errors_are_the_trees(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_bounded(tmp_path / "file", 5) == b"12345"
    with pytest.raises(StorageError, match="larger than the 4 bytes"):
        read_bounded(tmp_path / "file", 4)
    with pytest.raises(NotFound):
        read_bounded(tmp_path / "nothing", 4)
    with pytest.raises(NotFound, match="folder"):
        read_bounded(tmp_path, 4)
