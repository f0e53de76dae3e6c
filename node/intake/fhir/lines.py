"""NDJSON from strangers: one JSON object a line, none of them larger or deeper than may be."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from contract.errors import DataError
from node.intake.records import open_regular

SUFFIXES = (".ndjson", ".ndjson.gz")
MOST_TIMES_LARGER = 200
"""A .gz file may become so many times its size, and 16 MiB; NDJSON becomes some 20 times."""
_FREE_BYTES = 16 * 2**20
MAX_LINE_BYTES = 8 * 2**20
MAX_DEPTH = 64
_PIECE = 2**20
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[{]|[\]}]")

Problem = Callable[[str], None]


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """Open a file, inflated if it is a .gz, with what says how far it was read since last asked.

    Reading raises ``DataError`` for a .gz that is damaged, or larger than any honest one becomes.
    """
    with open_regular(path) as stored:
        before = 0

        def grown() -> int:
            nonlocal before
            now = stored.tell()
            grew, before = now - before, now
            return grew

        if not path.name.lower().endswith(".gz"):
            yield stored, grown
            return
        most = _FREE_BYTES + MOST_TIMES_LARGER * path.stat().st_size
        with gzip.GzipFile(fileobj=stored) as inflated:
            bounded = _Bounded(cast(BinaryIO, inflated), most)
            yield cast(BinaryIO, io.BufferedReader(bounded, _PIECE)), grown


class _Bounded(io.RawIOBase):
    """Reads an inflating file, but no more of it than may come."""

    def __init__(self, file: BinaryIO, most_bytes: int) -> None:
        self._file = file
        self._left = most_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read(min(len(buffer), _PIECE))
        except (OSError, EOFError, zlib.error):
            raise DataError("A .gz file of the source is damaged; export it again.") from None
        self._left -= len(data)
        if self._left < 0:
            raise DataError("A .gz file of the source becomes too large; export it again.")
        buffer[: len(data)] = data
        return len(data)


def raw_lines(file: BinaryIO, problem: Problem) -> Iterator[tuple[int, bytes]]:
    """Yield each line that isn't blank, with its number from 1.

    A line of more than ``MAX_LINE_BYTES`` is a problem ``line-too-long``; it is passed over in
    pieces and never held.
    """
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            problem("line-too-long")
            while line and not line.endswith(b"\n"):
                line = file.readline(_PIECE)
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield number, line


def read_line(line: bytes, problem: Problem) -> dict[str, Any] | None:
    """Return a line's JSON object, or None after a problem ``too-deep`` or ``bad-json``."""
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH and _depth(line) > MAX_DEPTH:
        problem("too-deep")
        return None
    try:
        value = _DECODER.decode(line.decode())
    except (ValueError, RecursionError):
        problem("bad-json")
        return None
    if not isinstance(value, dict):
        problem("bad-json")
        return None
    return value


def _depth(line: bytes) -> int:
    depth = deepest = 0
    for bracket in _BRACKETS.finditer(_STRING.sub(b"", line)):
        if bracket[0] in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


_DECODER = json.JSONDecoder(parse_constant=_refuse)
