"""New files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from contract.errors import AlreadyExists
from foundation.files import SECRET_MODE, storage_errors, sync_folder
from node.deid.slides.streams import Spans

_CHUNK = 1 << 20


@contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """Give a file to write that is called ``target`` once all is written and synced.

    ``AlreadyExists`` if there is such a file.
    """
    if target.exists():
        raise AlreadyExists("A cleaned slide exists already and is not overwritten.")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    with storage_errors(target):
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(temporary, flags, SECRET_MODE), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)


def copy_blob(
    file: BinaryIO, read: Callable[[int, int], bytes], offset: int, size: int, blanks: Spans
) -> None:
    """Copy ``size`` bytes that begin at ``offset``, with zeros at ``blanks`` (counted from there).

    A megabyte at a time, so that memory stays flat.
    """
    for start in range(0, size, _CHUNK):
        stop = min(start + _CHUNK, size)
        piece = read(offset + start, stop - start)
        hidden = [(max(a, start), min(b, stop)) for a, b in blanks if a < stop and b > start]
        if hidden:
            edited = bytearray(piece)
            for a, b in hidden:
                edited[a - start : b - start] = bytes(b - a)
            piece = bytes(edited)
        file.write(piece)
