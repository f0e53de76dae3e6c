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
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache

from node.deid.notations import find_dates, shifted
from node.deid.shapes import find_shapes, find_uids
from node.deid.vocabulary import words

PLACEHOLDER = "***"
_SEPARATORS = frozenset(" \t,.^-_=/'’·:;()\\|\u3000、，。")
_NUMBER_SEPARATORS = frozenset(" -./_:#")
_LETTERS = re.compile(r"[^\W\d_]+")
_TITLES = frozenset({
    "dr", "prof", "professor", "doctor", "mr", "mrs", "ms", "miss", "md", "phd", "sir", "herr",
    "frau", "dott", "dipl", "ing",
})  # fmt: skip
_MAX_GAP = 3


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
        names = _Names()
        for person in sorted(known.persons):
            names.add(person)
        self._strong = names.strong
        self._short = names.short
        self._weak = names.weak
        self._joined = names.joined
        self._scripts = names.scripts
        self._loose = names.loose
        self._initials = names.initials
        self._numbers = frozenset(n for raw in known.numbers for n in _number_forms(raw))
        self._phrases, telling = _phrase_terms(known.phrases)
        self._strong |= telling
        self.terms = frozenset(
            self._strong | self._joined | self._scripts | self._numbers | self._phrases
        )
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
        for start, end in self._known_spans(text):
            found.add(start, end, PLACEHOLDER)
        for start, end in find_shapes(text):
            found.add(start, end, PLACEHOLDER)
        return found.merged(text)

    # ---- what is known -------------------------------------------------------------------------

    def _known_spans(self, text: str) -> list[tuple[int, int]]:
        reduced = Reduced(text)
        plain = reduced.text
        spans: list[tuple[int, int]] = []
        for term in self._numbers:
            if term in plain:
                spans += reduced.find(term, _NUMBER_SEPARATORS, number=True)
        for terms in (self._joined, self._phrases):
            for term in terms:
                if term in plain:
                    spans += reduced.find(term, _SEPARATORS)
        for term in self._scripts:
            if term in plain:
                spans += reduced.find(term, _SEPARATORS, inside=True)
        names: list[tuple[int, int]] = []
        for term in self._strong:
            if term in plain:
                names += reduced.find(term, frozenset(), inside=len(term) >= 6)
        words_of = reduced.words() if self._short or self._loose or self._weak else []
        for word, start, end in words_of:
            cased = text[start:end]
            if (word in self._short and not cased.islower()) or (
                len(word) >= 5 and self._loose and loose(word) in self._loose
            ):
                names.append((start, end))
        if words_of and len(words_of) <= 2:
            # A text that is nothing but a name, even one that is a word as well.
            whole = [word for word, _, _ in words_of if word not in _TITLES]
            if whole and all(word in self._weak for word in whole) and len("".join(whole)) > 2:
                names += [(start, end) for word, start, end in words_of]
        if names or spans:
            names = self._extended(names, spans, words_of)
        return spans + names

    def _extended(
        self,
        names: list[tuple[int, int]],
        spans: list[tuple[int, int]],
        words_of: list[tuple[str, int, int]],
    ) -> list[tuple[int, int]]:
        """Add weak parts and initials that stand beside a part that was found."""
        taken = {
            index
            for index, (_, start, end) in enumerate(words_of)
            if any(a < end and start < b for a, b in names)
        }
        joined = {
            index
            for index, (_, start, end) in enumerate(words_of)
            if any(a < end and start < b for a, b in spans)
        }
        result = list(names)
        waiting = sorted(taken | joined)
        while waiting:
            index = waiting.pop()
            for neighbour in (index - 1, index + 1):
                if not 0 <= neighbour < len(words_of) or neighbour in taken | joined:
                    continue
                word, start, end = words_of[neighbour]
                left, right = sorted((index, neighbour))
                gap = words_of[right][1] - words_of[left][2]
                if gap <= _MAX_GAP and (
                    word in self._weak
                    or word in self._short
                    or (len(word) == 1 and word in self._initials and index in taken)
                ):
                    taken.add(neighbour)
                    waiting.append(neighbour)
                    result.append((start, end))
        return result


@lru_cache(maxsize=4096)
def matcher(
    known: Known, days: int | None, keep_dates: bool, uid: Callable[[str], str] | None
) -> Matcher:
    """Return the matcher for what is known; the same for the files of one series."""
    return Matcher(known, Rules(days, keep_dates, uid))


class Reduced:
    """A text reduced to letters and digits, with the place that each had."""

    __slots__ = ("original", "places", "text")

    def __init__(self, text: str) -> None:
        self.original = text
        if text.isascii():
            self.places = [i for i, c in enumerate(text) if c.isalnum()]
            self.text = "".join(filter(str.isalnum, text)).lower()
            return
        letters: list[str] = []
        places: list[int] = []
        for i, char in enumerate(text):
            for one in fold(char):
                letters.append(one)
                places.append(i)
        self.text = "".join(letters)
        self.places = places

    def find(
        self, term: str, separators: frozenset[str], *, number: bool = False, inside: bool = False
    ) -> list[tuple[int, int]]:
        """Return where ``term`` stands in the original, with only separators within.

        It must be whole: not beside another letter or digit, unless ``inside`` (then the rest of
        the word is taken with it). A number may stand beside letters.
        """
        spans = []
        position = self.text.find(term)
        while position >= 0:
            last = position + len(term) - 1
            start, end = self.places[position], self.places[last] + 1
            if self._is_whole(position, last, number, inside) and self._fits(
                position, last, separators
            ):
                if inside:
                    start, end = self._widened(start, end)
                spans.append((start, end))
            position = self.text.find(term, position + 1)
        return spans

    def words(self) -> list[tuple[str, int, int]]:
        """Return the runs of letters, folded, with their bounds in the original."""
        return [
            ("".join(fold(match.group())), match.start(), match.end())
            for match in _LETTERS.finditer(self.original)
        ]

    def _is_whole(self, first: int, last: int, number: bool, inside: bool) -> bool:
        text, places = self.text, self.places
        before = first > 0 and places[first - 1] + 1 >= places[first]
        after = last + 1 < len(text) and places[last] + 1 >= places[last + 1]
        if inside:
            return True
        if number:
            # A number may follow letters at once (MRN12345), and zeros that pad it.
            head, tail = text[first].isdigit(), text[last].isdigit()
            if before:
                zeros = text[:first].rstrip("0")
                before = (bool(zeros) and zeros[-1].isdigit() == head and len(zeros) == first) or (
                    len(zeros) < first and bool(zeros) and zeros[-1].isdigit()
                )
            if after:
                after = text[last + 1].isdigit() == tail
            return not before and not after
        if before and text[first - 1].isdigit() != text[first].isdigit():
            before = False
        if after and text[last + 1].isdigit() != text[last].isdigit():
            after = False
        return not before and not after

    def _fits(self, first: int, last: int, separators: frozenset[str]) -> bool:
        places, original = self.places, self.original
        previous = places[first]
        for index in range(first + 1, last + 1):
            here = places[index]
            if here > previous + 1:
                gap = original[previous + 1 : here]
                if len(gap) > _MAX_GAP or not all(c in separators or _is_mark(c) for c in gap):
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


class _Names:
    """The terms by which persons are found."""

    def __init__(self) -> None:
        self.strong: set[str] = set()
        self.short: set[str] = set()
        self.weak: set[str] = set()
        self.joined: set[str] = set()
        self.scripts: set[str] = set()
        self.loose: set[str] = set()
        self.initials: set[str] = set()

    def add(self, person: str) -> None:
        for group in person.split("="):
            parts = [_tokens(part) for part in _components(group)]
            parts = [part for part in parts if part]
            if parts:
                self._add_group(parts)

    def _add_group(self, parts: list[list[str]]) -> None:
        family, given = parts[0], [token for part in parts[1:3] for token in part]
        every = [token for part in parts for token in part]
        if any(_is_unspaced(token) for token in every):
            self._add_script(family, given, every)
        if not all(token.isascii() for token in every):
            self._add_latin([[latin for t in part for latin in _latin(t)] for part in parts])
        for token in every:
            if not _is_unspaced(token):
                self._add_token(token)
        self._join(family, given)

    def _add_token(self, token: str, *, syllable: bool = False) -> None:
        if token in _TITLES:
            return
        self.initials.add(token[0])
        if syllable or len(token) < 3 or token in words():
            self.weak.add(token)
        elif len(token) == 3:
            self.short.add(token)
        else:
            self.strong.add(token)

    def _join(self, family: list[str], given: list[str]) -> None:
        first, last = "".join(given), "".join(family)
        forms = {last + first, first + last}
        if given:
            forms |= {last + given[0], given[0] + last}
            if family:
                forms |= {family[-1] + given[0], given[0] + family[-1]}
                forms |= {given[0][0] + last, last + given[0][0]}
                forms |= {"".join(t[0] for t in given) + last, last + "".join(t[0] for t in given)}
        self.joined |= {
            form
            for form in forms
            if len(form) >= 4 and form not in words() and not _is_unspaced(form)
        }

    def _add_script(self, family: list[str], given: list[str], every: list[str]) -> None:
        """Add names in scripts that don't divide words: Chinese, Japanese, Korean."""
        whole = "".join(family) + "".join(given)
        for form in (whole, "".join(given), *every, *(family if len("".join(family)) > 1 else ())):
            if len(form) >= 2 and _is_unspaced(form):
                self.scripts.add(form)
        if not given and 2 < len(whole) <= 4:
            self.scripts.add(whole[1:])
        elif not given and len(whole) > 4:
            self.scripts.add(whole)

    def _add_latin(self, parts: list[list[str]]) -> None:
        """Add the names in Latin letters, as whoever transliterates would write them."""
        tokens = [token for part in parts for token in part]
        for part in parts:
            for token in part:
                self._add_token(token, syllable=len(token) < 5)
            if len(part) > 1 and len("".join(part)) > 4:
                self._add_token("".join(part))
        for token in tokens:
            if len(token) >= 5:
                self.loose.add(loose(token))
        if len(parts) == 1 and len(parts[0]) > 1:
            parts = [parts[0][:1], parts[0][1:]]
        family = parts[0] if parts else []
        given = [token for part in parts[1:3] for token in part]
        if family:
            self._join(family, given)
            if given:
                self.loose |= {loose("".join(family + given)), loose("".join(given + family))}


def _components(group: str) -> list[str]:
    if "^" in group:
        return group.split("^")
    if "," in group:
        return group.split(",")
    tokens = group.split()
    return [tokens[-1], *tokens[:-1]] if 1 < len(tokens) <= 4 else [group]


def _tokens(part: str) -> list[str]:
    return [
        "".join(fold(token)) for token in _LETTERS.findall(part.replace("'", "").replace("’", ""))
    ]


def _latin(token: str) -> list[str]:
    """Return the token in Latin letters; of Chinese and Korean, a token for each syllable."""
    from anyascii import anyascii

    if token.isascii():
        return [token]
    plain = anyascii(token)
    if _is_unspaced(token):
        return [part.lower() for part in re.findall(r"[A-Z][a-z']*|[a-z]+", plain)]
    return ["".join(c for c in plain.lower() if c.isalnum())]


_LOOSE = (
    ("shch", "s"), ("sch", "s"), ("tch", "c"), ("zh", "z"), ("kh", "h"), ("ch", "c"), ("sh", "s"),
    ("ts", "c"), ("tz", "c"), ("cz", "c"), ("sz", "s"), ("ks", "x"), ("ph", "f"), ("th", "t"),
    ("ou", "o"), ("oo", "o"), ("uu", "u"), ("ee", "i"), ("w", "v"), ("y", "i"), ("j", "i"),
    ("oe", "o"), ("ue", "u"), ("ae", "a"), ("'", ""),
)  # fmt: skip


@lru_cache(maxsize=65536)
def loose(word: str) -> str:
    """Return a key that the usual transliterations of one name share."""
    for old, new in _LOOSE:
        word = word.replace(old, new)
    kept = [c for i, c in enumerate(word) if i == 0 or c != word[i - 1]]
    return "".join(kept)


@lru_cache(maxsize=65536)
def _fold_char(char: str) -> str:
    if char.isascii():
        return char.lower() if char.isalnum() else ""
    special = _LATIN.get(char.lower())
    if special:
        return special
    if _is_hangul(char):
        return char
    plain = unicodedata.normalize("NFKD", char)
    # The marks of kana change the sound; those of Latin, Greek and Cyrillic are left out.
    if "\u3040" <= plain[0] <= "\u30ff":
        return unicodedata.normalize("NFKC", char)
    return "".join(c for c in plain.casefold() if c.isalnum())


_LATIN = {"ß": "ss", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe",
          "ı": "i", "ħ": "h"}  # fmt: skip


def fold(text: str) -> Iterable[str]:
    """Yield the letters and digits of ``text`` as they are compared."""
    for char in text:
        yield from _fold_char(char)


def _is_unspaced(text: str) -> bool:
    return any(
        "\u3040" <= c <= "\u9fff" or _is_hangul(c) or "\uf900" <= c <= "\ufaff" for c in text
    )


def _is_spaced(char: str) -> bool:
    return not ("\u2e80" <= char <= "\u9fff" or _is_hangul(char))


def _is_hangul(char: str) -> bool:
    return "\uac00" <= char <= "\ud7a3"


def _is_mark(char: str) -> bool:
    return unicodedata.category(char) in ("Mn", "Cf")


def _number_forms(raw: str) -> set[str]:
    """Return an identifier's letters and digits, if they are enough to tell it from any number."""
    plain = "".join(fold(raw))
    if not any(c.isdigit() for c in plain):
        return set()
    forms = set()
    if len(plain) >= (5 if plain.isdigit() else 4):
        forms.add(plain)
    bare = plain.lstrip("0")
    if bare.isdigit() and len(bare) >= 5:
        forms.add(bare)
    digits = "".join(c for c in plain if c.isdigit())
    if raw.strip().startswith("+") and len(digits) >= 10:
        forms |= {digits[2:], "0" + digits[2:]}
    elif not plain.isdigit() and len(digits) >= 6:
        forms.add(digits)
    return forms


def _phrase_terms(phrases: Iterable[str]) -> tuple[frozenset[str], set[str]]:
    """Return whole phrases (and their parts between commas), and words that tell by themselves."""
    whole: set[str] = set()
    telling: set[str] = set()
    for phrase in phrases:
        parts = [phrase, *re.split(r"[,;^=\r\n|]", phrase)]
        for part in parts:
            tokens = _tokens(part)
            plain = "".join(fold(part))
            tells = len(tokens) > 1 or any(token not in words() for token in tokens)
            if len(plain) >= 4 and tells:
                whole.add(plain)
            telling |= {
                token
                for token in tokens
                if len(token) >= 4 and token not in words() and not _is_unspaced(token)
            }
    return frozenset(whole), telling
