"""DICOM PS3.15 2026c Table E.3.10-1: private attributes that identify nobody."""

from __future__ import annotations

from functools import cache

from node.deid.facts import records


@cache
def _safe() -> dict[tuple[str, int, int], str]:
    return {
        (row["creator"], int(row["tag"][:4], 16), int(row["tag"][6:], 16)): row["vr"]
        for row in records("ps3_15_e3_10_1.csv")
    }


@cache
def _creators() -> frozenset[str]:
    return frozenset(creator for creator, _, _ in _safe())


def is_safe(creator: str, tag: int) -> bool:
    """Say whether the table lists the element ``tag`` of the block that ``creator`` reserved."""
    return (creator, tag >> 16, tag & 0xFF) in _safe()


def is_known(creator: str) -> bool:
    """Say whether the table lists anything of this private creator."""
    return creator in _creators()
