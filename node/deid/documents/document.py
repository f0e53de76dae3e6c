"""A cleaned document with its account, and what every kind of document needs of a matcher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class Cleaner(Protocol):
    """What identifies a patient, to be found in text (``node.deid.identifiers.Matcher``)."""

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the sorted, disjoint spans of ``text`` that identify."""
        ...

    def clean(self, text: str) -> str:
        """Return ``text`` with those spans replaced, dates moved and UIDs mapped."""
        ...


@dataclass(frozen=True)
class Document:
    """A document without what identifies."""

    data: bytes
    account: Mapping[str, int]
    """What was done, by kind; never what was found."""
