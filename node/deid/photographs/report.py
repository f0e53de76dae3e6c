"""A free-text report: through the text pass, and a draft until a person has released it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from node.deid.identifiers import Matcher
from node.deid.notations import find_dates
from node.deid.reading import Unsafe
from node.deid.shapes import find_shapes, find_uids

MAX_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Draft:
    """A report whose text was cleaned. Only a released one may be taken into a release of data."""

    text: str
    digest: str
    """SHA-256 of the text in UTF-8: what a person read is what is released."""
    state: Literal["draft", "released"] = "draft"
    released_by: str = ""
    released_at: datetime | None = None

    def release(self, *, digest: str, by: str, at: datetime) -> Draft:
        """Return the report as released by a person who has read the text of ``digest``.

        ``ValueError`` for another text than this, or for nobody.
        """
        if digest != self.digest or not by.strip():
            raise ValueError("A report is released by a named person who has read this very text.")
        return replace(self, state="released", released_by=by, released_at=at)


def clean_report(text: str, matcher: Matcher) -> Draft:
    """Return the report without what identifies, as a draft.

    ``Unsafe`` when it is too long, or when something known to identify is still found afterwards.
    """
    if len(text) > MAX_CHARACTERS:
        raise Unsafe("too-large")
    if not text.strip():
        raise Unsafe("empty")
    cleaned = matcher.clean(text)
    rest = _without_dates_and_uids(cleaned)
    if matcher.known_spans(rest) or find_shapes(rest):
        raise Unsafe("identifier-left")
    return Draft(cleaned, hashlib.sha256(cleaned.encode()).hexdigest())


def _without_dates_and_uids(text: str) -> str:
    """Return a cleaned text without what was moved or replaced: such it still is."""
    for start, end in sorted(find_uids(text), reverse=True):
        text = text[:start] + text[end:]
    for one in sorted(find_dates(text, frozenset()), key=lambda one: one.start, reverse=True):
        text = text[: one.start] + text[one.end :]
    return text
