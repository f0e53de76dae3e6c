"""A file as it is and as it would be written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.deid.elements import parse
from node.deid.engine import Deidentifier
from node.deid.export.source import Unreadable, opened
from node.deid.gathering import gather
from node.deid.identifiers import Known
from node.deid.preview.changes import Line, changes
from node.deid.preview.frame import Pictures, pictures
from node.deid.reading import Unsafe

MAX_BYTES = 2**30
_MOST_NEIGHBOURS = 200


@dataclass(frozen=True)
class Preview:
    """What would become of a file. ``reason`` says why nothing would; then there are no lines."""

    lines: tuple[Line, ...] = ()
    pictures: Pictures | None = None
    reason: str = ""


def preview(path: Path, deidentifier: Deidentifier, *, shows_frame: bool) -> Preview:
    """Return the preview of one file, with what the other files of its folder say of its patient.

    A file by itself is cleaned with less knowledge than ``deid run`` has, so its neighbours'
    headers are read too.
    """
    try:
        with opened(str(path)) as source:
            if len(source.data) > MAX_BYTES:
                return Preview(reason="too-large")
            data = bytes(source.data)
        result = deidentifier.deidentify(data, _known(path, data, deidentifier))
        new = result.data
        lines = tuple(changes(data, new, deidentifier.profile))
        shown = pictures(data, new, result.boxes) if shows_frame else None
        return Preview(lines, shown)
    except Unsafe as unsafe:
        return Preview(reason=unsafe.reason)
    except Unreadable:
        return Preview(reason="unreadable-file")


def _known(path: Path, data: bytes, deidentifier: Deidentifier) -> Known:
    options = deidentifier.profile.settings.options
    patient, known = gather(parse(data), options)
    for neighbour in sorted(path.parent.iterdir())[:_MOST_NEIGHBOURS]:
        if neighbour == path or neighbour.is_symlink() or not neighbour.is_file():
            continue
        try:
            with opened(str(neighbour)) as source:
                other, more = gather(parse(memoryview(source.data)), options)
        except (Unsafe, Unreadable):
            continue
        if other == patient:
            known |= more
    return known
