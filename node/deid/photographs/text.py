"""Writing in a photograph: date stamps, names on labels and rulers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.deid.pixels.image import Box

if TYPE_CHECKING:
    from node.deid.photographs.photograph import Matcher
    from node.deid.photographs.views import Picture


def find_text(picture: Picture, matcher: Matcher | None) -> tuple[Box, ...]:
    """Return where writing is that isn't known to be harmless, in shape (rows, columns, 3)."""
    return ()
