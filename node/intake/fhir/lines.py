"""NDJSON from strangers: one JSON object a line, none of them larger or deeper than may be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

MAX_LINE_BYTES = 8 * 2**20
MAX_DEPTH = 64
_PIECE = 2**20
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[{]|[\]}]")

Problem = Callable[[str], None]


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
