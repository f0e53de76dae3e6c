"""Presentation contexts for what an archive will send: at most 128 an association (PS3.8 9.3.2.2).

Each SOP class is offered once for each transfer syntax, because an acceptor takes one syntax of a
context: so the archive can send every instance as it is stored, and needn't decompress any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

MOST_CONTEXTS = 128
UNCOMPRESSED = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
COMPRESSED = (
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.51",  # JPEG extended
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.201",  # HTJ2K lossless
    "1.2.840.10008.1.2.4.202",  # HTJ2K lossless RPCL
    "1.2.840.10008.1.2.4.203",  # HTJ2K
    "1.2.840.10008.1.2.4.110",  # JPEG XL lossless
    "1.2.840.10008.1.2.4.111",  # JPEG XL recompressed
    "1.2.840.10008.1.2.4.112",  # JPEG XL
    "1.2.840.10008.1.2.4.100",  # MPEG2 main level
    "1.2.840.10008.1.2.4.101",  # MPEG2 high level
    "1.2.840.10008.1.2.4.102",  # MPEG-4
    "1.2.840.10008.1.2.4.103",
    "1.2.840.10008.1.2.4.104",
    "1.2.840.10008.1.2.4.105",
    "1.2.840.10008.1.2.4.106",
    "1.2.840.10008.1.2.4.107",  # HEVC
    "1.2.840.10008.1.2.4.108",
    "1.2.840.10008.1.2.1.99",  # deflated
    "1.2.840.10008.1.2.2",  # big endian
)

COMMON_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.4",  # MR
    "1.2.840.10008.5.1.4.1.1.1.1",  # digital X-ray
    "1.2.840.10008.5.1.4.1.1.1",  # computed radiography
    "1.2.840.10008.5.1.4.1.1.6.1",  # ultrasound
    "1.2.840.10008.5.1.4.1.1.3.1",  # ultrasound, multi-frame
    "1.2.840.10008.5.1.4.1.1.7",  # secondary capture
    "1.2.840.10008.5.1.4.1.1.2.1",  # enhanced CT
    "1.2.840.10008.5.1.4.1.1.4.1",  # enhanced MR
    "1.2.840.10008.5.1.4.1.1.1.2",  # mammography
    "1.2.840.10008.5.1.4.1.1.13.1.3",  # tomosynthesis
    "1.2.840.10008.5.1.4.1.1.12.1",  # angiography
    "1.2.840.10008.5.1.4.1.1.20",  # nuclear medicine
    "1.2.840.10008.5.1.4.1.1.128",  # PET
    "1.2.840.10008.5.1.4.1.1.77.1.4",  # photographs
    "1.2.840.10008.5.1.4.1.1.77.1.6",  # slides
    "1.2.840.10008.5.1.4.1.1.88.11",  # structured reports
    "1.2.840.10008.5.1.4.1.1.88.22",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.67",  # X-ray dose
    "1.2.840.10008.5.1.4.1.1.66.4",  # segmentation
    "1.2.840.10008.5.1.4.1.1.481.3",  # structure sets
    "1.2.840.10008.5.1.4.1.1.11.1",  # presentation states
    "1.2.840.10008.5.1.4.1.1.104.1",  # PDF
)
"""Offered when the archive doesn't say what a series consists of."""


@dataclass(frozen=True)
class Offer:
    """One presentation context: a SOP class and the transfer syntaxes for it."""

    sop_class: str
    syntaxes: tuple[str, ...]


def offers(classes: Sequence[str], most: int = MOST_CONTEXTS - 1) -> list[Offer]:
    """Return the contexts for these classes, ``most`` at most, as many syntaxes as there is room.

    Uncompressed syntaxes share a context; then each compressed one gets its own for every class,
    commonest first. ``classes`` may be ``most`` at most; ``batches`` cuts longer lists.
    """
    classes = list(dict.fromkeys(classes))
    if len(classes) > most:
        raise ValueError("more classes than contexts")
    found = [Offer(sop_class, UNCOMPRESSED) for sop_class in classes]
    for syntax in COMPRESSED:
        if len(found) + len(classes) > most:
            break
        found += [Offer(sop_class, (syntax,)) for sop_class in classes]
    return found


def batches(
    instances: Mapping[str, str], most_classes: int = 4, most_instances: int = 500
) -> list[dict[str, str]]:
    """Cut instances (with their class) into lots that an association can take as they are stored.

    With four classes, every transfer syntax has room. An identifier of 500 UIDs is some 32 kB.
    """
    by_class: dict[str, list[str]] = {}
    for uid, sop_class in instances.items():
        by_class.setdefault(sop_class, []).append(uid)
    lots: list[dict[str, str]] = []
    for group in _groups(sorted(by_class), most_classes):
        uids = [(uid, sop_class) for sop_class in group for uid in by_class[sop_class]]
        lots += [dict(lot) for lot in _groups(uids, most_instances)]
    return lots


T = TypeVar("T")


def _groups(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
