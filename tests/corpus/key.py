"""The answer key of a corpus: what must be gone, what must stay, and where."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Plant:
    """An identifier at one place of one file."""

    file: int
    """The file's Instance Number."""
    category: str
    place: str
    """Tags from the top, "/" between levels; or preamble, trailing, stream, path."""
    value: str
    tokens: tuple[str, ...]
    """Normalised; any one of them at the place is a leak."""


@dataclass(frozen=True)
class Words:
    """Clinical words around identifiers, which must stay at their place."""

    file: int
    place: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Box:
    """Text drawn into pixels: left, top, right, bottom; of every frame or one."""

    file: int
    place: str
    """pixels, overlay or icon."""
    frame: int
    box: tuple[int, int, int, int]
    text: str
    harmless: bool


@dataclass(frozen=True)
class File:
    """One file; patient is -1 for a directory of several."""

    number: int
    path: str
    patient: int
    source: str
    modality: str
    syntax: str


@dataclass
class Key:
    """Everything the scorer knows beside the input files themselves."""

    seed: int
    files: list[File] = field(default_factory=list)
    plants: list[Plant] = field(default_factory=list)
    words: list[Words] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    safe_private: list[tuple[int, str]] = field(default_factory=list)
    """Instance Number and place of private attributes that Table E.3.10-1 lists."""

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), ensure_ascii=False, indent=1), "utf-8")

    @classmethod
    def load(cls, path: Path) -> Key:
        read = json.loads(path.read_text("utf-8"))
        return cls(
            seed=read["seed"],
            files=[File(**f) for f in read["files"]],
            plants=[Plant(**{**p, "tokens": tuple(p["tokens"])}) for p in read["plants"]],
            words=[Words(**{**w, "words": tuple(w["words"])}) for w in read["words"]],
            boxes=[Box(**{**b, "box": tuple(b["box"])}) for b in read["boxes"]],
            safe_private=[(n, place) for n, place in read["safe_private"]],
        )
