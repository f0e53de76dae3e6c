"""What de-identification gives: the new file, and what the catalogue keeps of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

from node.deid.elements import Buffer
from node.deid.parts import Parts
from node.deid.pixels.image import Box


@dataclass(frozen=True)
class Deidentified:
    """A de-identified file, and what the catalogue keeps of it."""

    parts: Parts = field(repr=False)
    source: Buffer = field(repr=False)
    """What ``parts`` are stretches of."""
    spliced: bool
    """Whether ``source`` is the buffer that was given, so that stretches count in the file."""
    subject: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    modality: str
    body_part: str
    laterality: str
    manufacturer: str
    device_model: str
    study_date: date | None
    """Moved as the profile moves dates; None where it removes them."""
    instance_number: str
    image_type: tuple[str, ...]
    stain: str
    magnification: float
    rows: int
    columns: int
    frames: int
    actions: Mapping[str, int]
    """Elements by what was done to them: D, Z, X, K, U or C."""
    pixels: Mapping[str, int]
    """What was done to pixels: frames, frames searched and changed, boxes blacked out."""
    boxes: Mapping[int, tuple[Box, ...]] = field(repr=False)
    """Frame, from 0: what was blacked out."""

    @property
    def data(self) -> bytes:
        """The whole file."""
        return self.parts.join(self.source)

    @property
    def pieces(self) -> Iterator[Buffer]:
        """The file's bytes, piece by piece."""
        return self.parts.pieces(self.source)

    @property
    def size_bytes(self) -> int:
        """How long the file is."""
        return self.parts.length

    def write(self, target: int, descriptor: int | None = None) -> None:
        """Write the file to the descriptor ``target``.

        ``descriptor`` is the open file that the source was mapped from, if it was.
        """
        self.parts.write(target, self.source, descriptor if self.spliced else None)
