"""A file's bytes as the intake knows it: a MIRAX slide's with its further files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from node.deid.slides.recognition import members
from node.intake.walk import chunks


def further_files(path: Path) -> tuple[Path, ...]:
    """Return the files that belong to a slide beside its own, in a fixed order."""
    return members(path) if path.suffix.lower() == ".mrxs" else ()


def further_pieces(files: Sequence[Path]) -> Iterator[bytes]:
    """Yield their names and bytes; ``OSError`` for one that can't be read."""
    for path in files:
        yield b"\0" + os.fsencode(path.name) + b"\0"
        yield from chunks(path)


def pieces(path: Path) -> Iterator[bytes]:
    """Yield all bytes by which a file is known; ``OSError`` if one can't be read."""
    yield from chunks(path)
    yield from further_pieces(further_files(path))
