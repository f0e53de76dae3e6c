"""Files that must survive a crash, and secrets that only their owner reads."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contract.errors import AlreadyExists, NotFound, StorageError

SECRET_MODE = 0o600


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


def write_durably(path: Path, data: bytes, mode: int = SECRET_MODE) -> None:
    """Replace ``path`` by ``data`` atomically; after return it survives a power cut.

    The bytes are written to a new file beside it, synced, renamed over it, and the folder synced.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with storage_errors(path):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
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


def write_new(path: Path, data: bytes, mode: int = SECRET_MODE) -> None:
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
    """Make ``path`` (and its parents) if need be, for its owner alone, and return it."""
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
    return path
