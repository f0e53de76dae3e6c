"""What identifies a patient, as the file's own header and the hospital's lists say it.

``Known`` is gathered from a file (or from all files of a patient); ``Matcher`` finds it in any
text: names in every order, with initials, in capitals, without accents, in Latin letters for names
that aren't; numbers with blanks, hyphens or points in them; institutions and addresses, whole and
by their telling words; and dates, telephone numbers and the like by their shape.

The comparison is of letters and digits alone (NFKD, casefolded, without accents): a text is reduced
to them once and each term is searched in it, so the cost hardly grows with the number of terms.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache

from node.deid.names import (
    LETTERS,
    PARTICLES,
    TITLES,
    Names,
    fold,
    is_unspaced,
    loose,
    slips,
)
from node.deid.notations import find_dates, shifted
from node.deid.reduction import MAX_GAP, Reduced
from node.deid.shapes import find_shapes, find_uids
from node.deid.terms import births, number_forms, phrase_terms, short_numbers
from node.deid.vocabulary import (
    adjectives,
    eponyms,
    standard_words,
    words,
)

PLACEHOLDER = "***"
_SEPARATORS = frozenset(" \t,.^-_=/'’·:;()\\|\u3000、，。")
_NUMBER_SEPARATORS = frozenset(" -./_:#")
_WITHIN = frozenset("'’`´ʼ-\u00ad\r\n")
_DIGIT = re.compile(r"\d")
_JAMO = re.compile("[\u1100-\u11ff]")
_TYPED = 8
"""Letters from which on a word in small letters is taken for a name with a letter wrong."""
_NOUN = re.compile(r"['’]?s?['’]?[ -]([^\W\d_]+)")
_BEFORE = re.compile(r"([^\W\d_]+)[ .,^_-]{1,2}$")


@dataclass(frozen=True)
class Known:
    """What is known to identify, as it is written."""

    persons: frozenset[str] = frozenset()
    """Names: DICOM's PN (components by ^, groups by =) or plain."""
    numbers: frozenset[str] = frozenset()
    """Identifiers: of the patient, the accession, the visit; telephone numbers."""
    phrases: frozenset[str] = frozenset()
    """Institutions, departments, addresses, stations."""
    birth_dates: frozenset[date] = frozenset()
    dates: frozenset[date] = frozenset()
    """Other dates of the record; they help to read 03/04/2021."""

    def __or__(self, other: Known) -> Known:
        """Return what either knows."""
        return Known(
            self.persons | other.persons,
            self.numbers | other.numbers,
            self.phrases | other.phrases,
            self.birth_dates | other.birth_dates,
            self.dates | other.dates,
        )


@dataclass(frozen=True)
class Replacement:
    """A stretch of a text that identifies, and what stands there afterwards."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Rules:
    """How a matcher treats what may stay in another form."""

    days: int | None = None
    """Days by which dates move into the past; None removes them."""
    keep_dates: bool = False
    uid: Callable[[str], str] | None = field(default=None, compare=False)
    """What replaces a UID; None keeps UIDs."""


class Matcher:
    """Finds and replaces identifiers in text. Immutable; may be shared by threads."""

    def __init__(self, known: Known, rules: Rules | None = None) -> None:
        self.known = known
        self.rules = rules or Rules()
        names = Names()
        for person in sorted(known.persons):
            names.add(person)
        self._numbers = frozenset(n for raw in known.numbers for n in number_forms(raw))
        self._short = short_numbers(known.numbers)
        self._births = births(known.birth_dates)
        phrases, telling = phrase_terms(known.phrases)
        self._strong = frozenset(names.strong | telling)
        self._cased = frozenset(names.cased)
        self._weak = frozenset(names.weak)
        unspaced = frozenset(phrase for phrase in phrases if is_unspaced(phrase))
        self._whole = frozenset(names.joined) | phrases - unspaced
        self._initialled = frozenset(names.initialled)
        self._scripts = frozenset(names.scripts) | unspaced
        self._loose = frozenset(names.loose)
        self._initials = frozenset(names.initials)
        self._slips = frozenset(names.slips)
        self._longest_slip = max(map(len, self._slips), default=0)
        self._by_case = self._cased | self._weak
        self._has_words = bool(known.persons)
        self.terms = self._strong | self._whole | self._scripts | self._numbers
        self._cleaned: dict[str, str] = {}

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return where identifiers stand: sorted, disjoint."""
        return [(one.start, one.end) for one in self.replacements(text)]

    def clean(self, text: str) -> str:
        """Return ``text`` without identifiers; dates moved and UIDs replaced, by the rules."""
        found = self._cleaned.get(text)
        if found is None:
            found = self._clean(text)
            if len(text) < 512 and len(self._cleaned) < 20_000:
                self._cleaned[text] = found
        return found

    def _clean(self, text: str) -> str:
        if not text.isascii() and _JAMO.search(text):
            text = unicodedata.normalize("NFC", text)  # Korean in a Macintosh's file names
        pieces, position = [], 0
        for one in self.replacements(text):
            pieces += [text[position : one.start], one.text]
            position = one.end
        return "".join([*pieces, text[position:]]) if pieces else text

    def replacements(self, text: str) -> list[Replacement]:
        """Return what ``clean`` does, stretch by stretch."""
        if len(text) < 2:
            return []
        found = _Found()
        rules = self.rules
        # All UIDs are taken, so that nothing else is seen in their digits.
        for start, end in find_uids(text):
            uid = text[start:end]
            new = rules.uid(uid) if rules.uid else uid
            found.add(start, end, new)
        if not rules.keep_dates:
            for one in find_dates(text, self.known.dates | self.known.birth_dates):
                new_date = None
                if rules.days is not None and one.day not in self.known.birth_dates:
                    new_date = shifted(one, rules.days)
                found.add(one.start, one.end, PLACEHOLDER if new_date is None else new_date)
        for start, end in self.known_spans(text):
            found.add(start, end, PLACEHOLDER)
        for start, end in find_shapes(text):
            found.add(start, end, PLACEHOLDER)
        return found.merged(text)

    # ---- what is known -------------------------------------------------------------------------

    def known_spans(self, text: str) -> list[tuple[int, int]]:
        """Return where something stands that is known to identify; unordered."""
        reduced = Reduced(text)
        plain = reduced.text
        spans: list[tuple[int, int]] = []
        if self._numbers and _DIGIT.search(text):
            for term in self._numbers:
                if term in plain:
                    spans += reduced.find(term, _NUMBER_SEPARATORS, number=True)
        if self._births is not None:
            spans += [match.span() for match in self._births.finditer(text)]
        if self._short is not None:
            spans += [match.span(match.lastgroup or 0) for match in self._short.finditer(text)]
        for term in self._whole:
            if term in plain:
                spans += reduced.find(term, _SEPARATORS)
        if not text.isascii():
            for term in self._scripts:
                if term in plain:
                    spans += reduced.find(term, _SEPARATORS, inside=True)
        names: list[tuple[int, int]] = []
        for term in self._strong:
            if term in plain:
                names += self._strong_spans(reduced, term)
        for term in self._initialled:
            if term in plain:
                names += reduced.find(term, _SEPARATORS, parted=True)
        if self._has_words and (names or spans or self._may_hold_words(text)):
            words_of = reduced.words()
            names += self._word_spans(text, words_of)
            names = [span for span in names if not _is_eponym(text, *span)]
            if names or spans:
                names = self._extended(text, names, spans, words_of)
        return spans + names

    def _may_hold_words(self, text: str) -> bool:
        found = LETTERS.findall(text.lower())
        if not text.isascii():
            found = [fold(word) for word in found]
        return not self._by_case.isdisjoint(found) or any(
            loose(word) in self._loose or self._is_slip(word) for word in found if len(word) > 3
        )

    def _is_slip(self, word: str) -> bool:
        """Say whether a word is one of the names with a letter wrong."""
        # A word of a million letters has as many slips, each as long.
        if len(word) > self._longest_slip + 1:
            return False
        return not self._slips.isdisjoint(slips(word)) and word not in words()

    def _strong_spans(self, reduced: Reduced, term: str) -> list[tuple[int, int]]:
        found = reduced.find(term, _WITHIN)
        if len(term) >= 6:
            # With an ending, or part of a longer word that is none of medicine.
            found += [
                (start, end)
                for start, end in reduced.find(term, _WITHIN, inside=True)
                if fold(reduced.original[start:end]) not in words()
            ]
        return found

    def _word_spans(self, text: str, words_of: list[tuple[str, int, int]]) -> list[tuple[int, int]]:
        """Return words that are names by their capitals, their sound or the title before them."""
        found: list[tuple[int, int]] = []
        for index, (word, start, end) in enumerate(words_of):
            if word in self._cased:
                if not text[start:end].islower():
                    found.append((start, end))
            elif word in self._weak:
                if (
                    index
                    and words_of[index - 1][0] in TITLES
                    and start - words_of[index - 1][2] <= MAX_GAP
                    and not text[start:end].islower()
                ):
                    found.append((start, end))
            elif (
                len(word) >= 4
                and loose(word) in self._loose
                and word not in words()
                and (len(word) > 4 or not text[start:end].islower())
            ) or ((len(word) >= _TYPED or not text[start:end].islower()) and self._is_slip(word)):
                found.append((start, end))
        if words_of and len(words_of) <= 2:
            # A text that is nothing but a name, even one that is a word as well; not so a single
            # one of the standard's: HAND is a body part.
            whole = [word for word, _, _ in words_of if word not in TITLES]
            if (
                whole
                and all(word in self._weak for word in whole)
                and len("".join(whole)) > 2
                and not (len(whole) == 1 and whole[0] in standard_words())
            ):
                found += [(start, end) for _, start, end in words_of]
        return found

    def _extended(
        self,
        text: str,
        names: list[tuple[int, int]],
        spans: list[tuple[int, int]],
        words_of: list[tuple[str, int, int]],
    ) -> list[tuple[int, int]]:
        """Add weak parts and initials that stand beside a part that was found."""
        sure = _overlapping(words_of, names)
        taken = sure | _overlapping(words_of, spans)
        result = list(names)
        waiting = sorted(taken)
        while waiting:
            index = waiting.pop()
            for neighbour in (index - 1, index + 1):
                if not 0 <= neighbour < len(words_of) or neighbour in taken:
                    continue
                word, start, end = words_of[neighbour]
                left, right = sorted((index, neighbour))
                gap = text[words_of[left][2] : words_of[right][1]]
                if (
                    len(gap) <= MAX_GAP
                    and not _DIGIT.search(gap)
                    and not (
                        # "Grace Hand's hand": what is a word goes as a name in capitals alone.
                        (word in words() or word in adjectives())
                        and text[start:end].islower()
                        and not text[slice(*words_of[index][1:])].islower()
                        and word not in PARTICLES
                    )
                    and (
                        word in self._weak
                        or word in self._cased
                        or self._is_slip(word)
                        or (
                            len(word) == 1
                            and word in self._initials
                            and index in sure
                            and text[start:end] != word
                        )
                    )
                ):
                    taken.add(neighbour)
                    sure.add(neighbour)
                    waiting.append(neighbour)
                    result.append((start, end))
        return result


@lru_cache(maxsize=4096)
def matcher(
    known: Known, days: int | None, keep_dates: bool, uid: Callable[[str], str] | None
) -> Matcher:
    """Return the matcher for what is known; the same for the files of one series."""
    return Matcher(known, Rules(days, keep_dates, uid))


class _Found:
    """Replacements; an earlier one wins over a later one that it overlaps, if that is smaller."""

    def __init__(self) -> None:
        self.all: list[Replacement] = []

    def add(self, start: int, end: int, text: str) -> None:
        self.all.append(Replacement(start, end, text))

    def merged(self, text: str) -> list[Replacement]:
        result: list[Replacement] = []
        for one in sorted(self.all, key=lambda r: (r.start, -r.end)):
            if not result or one.start >= result[-1].end:
                result.append(one)
                continue
            last = result[-1]
            if one.end <= last.end and (last.text != PLACEHOLDER or one.text == PLACEHOLDER):
                continue
            result[-1] = Replacement(last.start, max(last.end, one.end), PLACEHOLDER)
        return [one for one in result if one.text != text[one.start : one.end]]


def _overlapping(words_of: list[tuple[str, int, int]], spans: list[tuple[int, int]]) -> set[int]:
    """Return which words any of the spans reaches into."""
    found: set[int] = set()
    starts = [start for _, start, _ in words_of]
    for first, last in spans:
        index = max(bisect_right(starts, first) - 1, 0)
        while index < len(starts) and starts[index] < last:
            if words_of[index][2] > first:
                found.add(index)
            index += 1
    return found


def _is_eponym(text: str, start: int, end: int) -> bool:
    """Return whether a name there is what a disease or a device is called by, not a person."""
    following = eponyms().get(fold(text[start:end]))
    if following is None and text[end - 1] in "sS":
        following = eponyms().get(fold(text[start : end - 1]))
    if following is None:
        return False
    noun = _NOUN.match(text, end)
    if noun is None or fold(noun[1]) not in following:
        return False
    before = _BEFORE.search(text, max(0, start - 24), start)
    # Behind a title, an initial or a given name it is a person.
    return before is None or (fold(before[1]) not in TITLES and before[1].islower())
