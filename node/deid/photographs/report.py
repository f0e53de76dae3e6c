"""A free-text report: through the text pass, and a draft until a person has released it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from node.deid.identifiers import Matcher, Rules
from node.deid.reading import Unsafe

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
    # A date that was moved and a UID that was replaced are still such, and identify nobody.
    if Matcher(matcher.known, Rules(keep_dates=True)).spans(cleaned):
        raise Unsafe("identifier-left")
    return Draft(cleaned, hashlib.sha256(cleaned.encode()).hexdigest())
