"""Files that must survive a crash, and secrets that only their owner reads."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contract.errors import AlreadyExists, NotFound, StorageError

SECRET_MODE = 0o600
SHARED_MODE = 0o640
PRIVATE_FOLDER = 0o700
SHARED_FOLDER = 0o2750


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a full or unwritable disk into one clear ``StorageError`` that names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"The disk that holds {path} is full; nothing was lost.") from None
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise StorageError(f"{path} can't be written: {error.strerror}.") from None
        raise


def write_durably(path: Path, data: bytes, mode: int | None = None) -> None:
    """Replace ``path`` by ``data`` atomically; after return it survives a power cut.

    The bytes are written to a new file beside it, synced, renamed over it, and the folder synced.
    Without a ``mode`` it is that of ``file_mode``.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with storage_errors(path):
        try:
            chosen = file_mode(path.parent) if mode is None else mode
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, chosen)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_new(path: Path, data: bytes, mode: int | None = None) -> None:
    """Write a file that must not exist yet; ``AlreadyExists`` when it does."""
    if path.exists():
        raise AlreadyExists(f"{path} exists already and is not overwritten.")
    write_durably(path, data, mode)


def read_bounded(path: Path, limit_bytes: int) -> bytes:
    """Return the file's bytes; ``NotFound`` without it, ``StorageError`` past ``limit_bytes``."""
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist.") from None
    except IsADirectoryError:
        raise NotFound(f"{path} is a folder, not a file.") from None
    except PermissionError:
        raise StorageError(f"{path} can't be read: permission denied.") from None
    if len(data) > limit_bytes:
        raise StorageError(f"{path} is larger than the {limit_bytes} bytes expected at most.")
    return data


def private_folder(path: Path) -> Path:
    """Make ``path`` (and its parents) if need be, for its owner alone, and return it.

    Inside a tree that is shared with a group (``is_shared``), a new folder is the group's to read,
    and one whose set-group-ID bit is set was arranged so and stays as it is.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        wanted = SHARED_FOLDER if is_shared(path.parent) else PRIVATE_FOLDER
        try:
            path.mkdir(mode=0o700)
            arranged = False
        except FileExistsError:
            arranged = bool(path.stat().st_mode & stat.S_ISGID)
        if not arranged and stat.S_IMODE(path.stat().st_mode) != wanted:
            path.chmod(wanted)
    return path


def is_shared(folder: Path) -> bool:
    """Say whether a group reads what is in ``folder``: its set-group-ID bit is set.

    With the sticky bit too, it is only where owners meet: each keeps its own there.
    """
    mode = folder.stat().st_mode
    return bool(mode & stat.S_ISGID) and not mode & stat.S_ISVTX


def file_mode(folder: Path) -> int:
    """Return the mode of a new file in ``folder``: its owner's alone, unless it is shared."""
    return SHARED_MODE if is_shared(folder) else SECRET_MODE
