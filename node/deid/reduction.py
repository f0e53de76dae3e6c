"""A text reduced to its letters and digits, and where a term stands in it.

NFKD, casefolded, without accents; what stands between the letters of a term is looked at in the
original.
"""

from __future__ import annotations

import unicodedata

from node.deid.names import LETTERS, fold, fold_char, is_hangul, is_unspaced

MAX_GAP = 3
"""Characters that may stand between two letters of a term."""


class Reduced:
    """A text reduced to letters and digits, with the place that each had."""

    __slots__ = ("_places", "original", "text")

    def __init__(self, text: str) -> None:
        self.original = text
        self._places: list[int] | None = None
        self.text = fold(text)

    @property
    def places(self) -> list[int]:
        """Where each of the letters and digits stands; found when first asked for."""
        if self._places is None:
            if self.original.isascii():
                self._places = [i for i, c in enumerate(self.original) if c.isalnum()]
            else:
                self._places = [i for i, c in enumerate(self.original) for _ in fold_char(c)]
        return self._places

    def find(
        self,
        term: str,
        separators: frozenset[str],
        *,
        number: bool = False,
        inside: bool = False,
        parted: bool = False,
    ) -> list[tuple[int, int]]:
        """Return where ``term`` stands in the original, with only separators within.

        It must be whole: not beside another letter or digit, unless ``inside`` (then the rest of
        the word is taken with it). A number may stand beside letters. ``parted`` wants a separator.
        """
        spans = []
        position = self.text.find(term)
        while position >= 0:
            last = position + len(term) - 1
            start, end = self.places[position], self.places[last] + 1
            if (
                self._is_whole(position, last, number, inside)
                and self._fits(position, last, separators)
                and not (parted and end - start == len(term))
            ):
                if inside:
                    start, end = self._widened(start, end)
                spans.append((start, end))
            position = self.text.find(term, position + 1)
        return spans

    def words(self) -> list[tuple[str, int, int]]:
        """Return the runs of letters, folded, with their bounds in the original."""
        original = self.original
        if original.isascii():
            low = original.lower()
            return [(low[a:b], a, b) for m in LETTERS.finditer(low) for a, b in (m.span(),)]
        return [
            (fold(match.group()), match.start(), match.end())
            for match in LETTERS.finditer(original)
        ]

    def _is_whole(self, first: int, last: int, number: bool, inside: bool) -> bool:
        if inside:
            return True
        text, places, original = self.text, self.places, self.original
        before = first > 0 and places[first - 1] + 1 >= places[first]
        after = last + 1 < len(text) and places[last] + 1 >= places[last + 1]
        if number:
            # A number may follow letters at once (MRN12345), and zeros that pad it.
            head, tail = text[first].isdigit(), text[last].isdigit()
            if before:
                at = first - 1
                while at >= 0 and text[at] == "0":
                    at -= 1
                padded = at < first - 1
                before = at >= 0 and text[at].isdigit() == (True if padded else head)
            if after:
                after = text[last + 1].isdigit() == tail
            return not before and not after
        if before and not _is_border(original[places[first - 1]], original[places[first]]):
            return False
        return not after or _is_border(original[places[last]], original[places[last + 1]])

    def _fits(self, first: int, last: int, separators: frozenset[str]) -> bool:
        places, original = self.places, self.original
        if places[last] - places[first] == last - first:
            return True
        previous = places[first]
        for index in range(first + 1, last + 1):
            here = places[index]
            if here > previous + 1:
                gap = original[previous + 1 : here]
                if len(gap) > MAX_GAP or not all(c in separators or _is_mark(c) for c in gap):
                    return False
            previous = here
        return True

    def _widened(self, start: int, end: int) -> tuple[int, int]:
        original = self.original
        if not _is_spaced(original[start]):
            return start, end
        while start and original[start - 1].isalpha() and _is_spaced(original[start - 1]):
            start -= 1
        while end < len(original) and original[end].isalpha() and _is_spaced(original[end]):
            end += 1
        return start, end


def _is_spaced(char: str) -> bool:
    return not ("\u2e80" <= char <= "\u9fff" or is_hangul(char))


def _is_border(before: str, after: str) -> bool:
    """Return whether a word ends here: at digits, other scripts, a capital after a small letter."""
    return (
        before.isdigit() != after.isdigit()
        or (before.islower() and after.isupper())
        or is_unspaced(before) != is_unspaced(after)
    )


def _is_mark(char: str) -> bool:
    return not char.isascii() and unicodedata.category(char) in ("Mn", "Cf")
