"""What changed between two recipes: their files line by line, and the packages that they lock."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from contract.documents import printable

MAX_LINE = 400


def differing(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> Iterator[str]:
    """Yield a unified difference of two bundles' files, fit for a terminal."""
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        left, right = _lines(before), _lines(after)
        if left is None or right is None:
            yield f"{printable(name)}: {_sizes(before, after)}, which is no text"
            continue
        source = f"a/{name}" if before is not None else "/dev/null"
        target = f"b/{name}" if after is not None else "/dev/null"
        for line in difflib.unified_diff(left, right, source, target, lineterm=""):
            yield printable(line, MAX_LINE)


def packages(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    """Yield what was added, removed or changed between two locks: name to version and digest."""
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before is None:
            yield f"+ {printable(name)} {printable(str(after))}"
        elif after is None:
            yield f"- {printable(name)} {printable(before)}"
        elif before != after:
            yield f"~ {printable(name)} {printable(before)} -> {printable(after)}"


def _lines(content: bytes | None) -> list[str] | None:
    if content is None:
        return []
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError:
        return None


def _sizes(before: bytes | None, after: bytes | None) -> str:
    return " -> ".join("none" if c is None else f"{len(c)} bytes" for c in (before, after))
