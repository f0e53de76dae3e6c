"""The preview as a table of 80 columns for a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

from contract.documents import printable
from node.deid.preview.changes import Line

WIDTH = 80
_NAME, _VALUE = 22, 20
_BEFORE_DIFFERENCE = 6
_PASS = {"table": "1", "search": "2", "private": "p", "pixels": "x", "meta": "m", "declared": "+"}
LEGEND = (
    "D dummy  Z emptied  X removed  U new UID  C cleaned or moved  K kept  + added",
    "1 the standard's table  2 the search for what identifies  p private attributes",
    "x pixels  m file meta group",
)


def table(lines: Iterable[Line], *, everything: bool) -> Iterator[str]:
    """Yield the table's lines: what was changed, or ``everything``; long values are cut.

    Nested elements are indented. No control character of a file reaches the terminal.
    """
    yield f"{'tag':9} {'':3} {_cut('attribute', _NAME)} {_cut('before', _VALUE)} > after"
    yield "-" * WIDTH
    kept = 0
    for line in lines:
        if not line.changed and not everything and not _is_sequence(line):
            kept += 1
            continue
        mark = f"{line.action}{_PASS.get(line.by, ' ')}"
        name = "  " * min(line.depth, 4) + line.name
        before = "" if line.before is None else line.before
        after = "" if line.after is None else line.after
        if line.action == "K":
            after = "=" if before else ""
        elif before and after:
            before, after = _from_difference(before, after)
        yield (
            f"{line.tag >> 16:04x},{line.tag & 0xFFFF:04x} {mark:3} {_cut(name, _NAME)} "
            f"{_cut(before, _VALUE)} > {_cut(after, _VALUE)}"
        ).rstrip()
    yield "-" * WIDTH
    if kept:
        yield f"{kept} elements are as they were; --all shows them."
    yield from LEGEND


def _is_sequence(line: Line) -> bool:
    return line.vr == "SQ" and bool(line.before or line.after)


def _from_difference(before: str, after: str) -> tuple[str, str]:
    """Leave out what long values begin with alike, so that the difference can be seen."""
    pairs = enumerate(zip(before, after, strict=False))
    same = next((n for n, (old, new) in pairs if old != new), min(len(before), len(after)))
    start = same - _BEFORE_DIFFERENCE
    if start <= 0 or max(len(before), len(after)) <= _VALUE:
        return before, after
    return "…" + before[start:], "…" + after[start:]


def _cut(text: str, columns: int) -> str:
    """Return the text in exactly so many columns; wide characters count two."""
    clean = printable(text, 400)
    shown, width = "", 0
    for position, char in enumerate(clean):
        size = _columns(char)
        rest = len(clean) - position - 1
        if width + size > columns - (1 if rest else 0):
            shown += "…"
            width += 1
            break
        shown += char
        width += size
    return shown + " " * (columns - width)


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
