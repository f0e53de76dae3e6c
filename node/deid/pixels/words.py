"""What text burned into pixels tells: identifies, is harmless, or can't be judged.

Text is harmless only when it is read with confidence and every piece of it is known to be: a
number with its unit, a setting's name, a word of anatomy or imaging. All else that looks like text
is unknown, and unknown text goes: in the pixels of a clinical image there is little of it that
isn't somebody's name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from enum import Enum
from functools import cache
from typing import Protocol

from node.deid.pixels import lexicon
from node.deid.vocabulary import words


class Matcher(Protocol):
    """What identifies this patient and hospital, to be found in text."""

    @property
    def terms(self) -> frozenset[str]:
        """Words and numbers that identify: NFKC, casefolded, letters and digits only."""

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the sorted disjoint spans of ``text`` that identify."""


class Verdict(Enum):
    IDENTIFIES = "identifies"
    HARMLESS = "harmless"
    UNKNOWN = "unknown"


_DATES = re.compile(
    r"""(?<!\d)(?:19|20)\d\d\s?[-./\s]\s?(?:0?[1-9]|1[0-2])\s?[-./\s]\s?(?:0?[1-9]|[12]\d|3[01])(?!\d)
    |(?<![\d.])\d{1,2}\s?[-/]\s?\d{1,2}\s?[-/]\s?(?:\d{4}|\d\d)(?!\d)
    |(?<![\d.])\d{1,2}\.\s?\d{1,2}\.\s?(?:19|20)?\d\d(?![\d.])
    |(?<![a-z\d])\d{1,2}[-./\s]*(?:MONTHS)[a-z]*[-./,\s]*(?:'?\d\d|\d{4})(?!\d)
    |(?<![a-z])(?:MONTHS)[a-z]*[-./,\s]*\d{1,2}(?:st|nd|rd|th)?[-./,\s]+(?:\d{4}|'?\d\d)(?!\d)
    |(?<![a-z])(?:MONTHS)[a-z]*[-./,\s]*(?:19|20)\d\d(?!\d)
    |\d{1,4}\s?[年년]|\d{1,2}\s?[月월]\s?\d|\d\s?[日일](?!\w)|(?:令和|平成|昭和|大正)
    |(?<![a-z\d])[rhs]\d{1,2}\.\d{1,2}\.\d{1,2}(?!\d)""".replace("MONTHS", lexicon.MONTHS),
    re.IGNORECASE | re.VERBOSE,
)
_TIME = re.compile(r"\d{1,2}[:.]\d{2}(?:[:.]\d{2})?\s?(?:[AaPp]\.?[Mm]\.?)?")
_DIGITS = str.maketrans("OQDoIl|iSsBZzG", "00001111558226")
_PLAIN_DATES = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d[-./](?:0?[1-9]|1[0-2])[-./](?:[012]?\d|3[01])"
    r"|(?:[012]?\d|3[01])[-./](?:[012]?\d|3[01])[-./](?:19|20)\d\d)(?!\d)"
)
"""Dates in digits, after letters that digits are taken for."""
_WHOLE_DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{2,4}")
_NUMBERS = re.compile(
    r"""(?<!\d)\d{6,}                                  # record, accession, telephone numbers
    |(?<![\d.,])\d{5}(?![\d.,])
    |\d{2,5}[-/]\d{2,}[-/]\d{2,}
    |\d{4,}[-/]\d{3,}|\d{3,}[-/]\d{4,}
    |\+\s?\d{1,3}[\s().-]*\d(?:[\s().-]*\d){5,}        # telephones
    |\(\s?\d{2,5}\s?\)\s?\d{2,4}[\s-]?\d{2,4}
    |(?<!\d)\d{3,4}[\s.-]\d{3,4}[\s.-]\d{4}(?!\d)
    |\d+(?:\.\d+){4,}                                  # UIDs
    |(?<!\w)[^\W\d]{1,5}[-_#]\d{4,}
    |(?<!\w)[^\W\d]{1,3}\d{3,}[-/]\d
    |[\w.+-]+@\w[\w-]*\.\w+""",
    re.VERBOSE,
)
_MIXED = re.compile(r"(?<!\w)(?=\w*[^\W\d])(?=(?:\w*\d){4})\w{6,}")
_NAMES = re.compile(
    r"""[^\W\d_]{1,}\s?\^\s?[^\W\d_]*|\^\s?[^\W\d_]{2,}
    |(?<!\w)(?:dr|prof|mr|mrs|ms|miss|herr|frau|sra|mme|pt|doc)\.?\s+[^\W\d_]{2,}
    |(?<!\w)(?:dr|prof|mr|mrs|ms)\.\s?[^\W\d_]|(?<!\w)m\.?d\.?$""",
    re.IGNORECASE | re.VERBOSE,
)
_LABELS = re.compile(lexicon.LABELS, re.IGNORECASE | re.VERBOSE)
_PLACES = re.compile(lexicon.PLACES, re.IGNORECASE | re.VERBOSE)
_MAKERS = re.compile(lexicon.MAKERS, re.IGNORECASE | re.VERBOSE)
_PIECES = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)?")
_TOKEN = re.compile(r"[^\s,;:/|()\[\]=<>+*~]+")
_GLUED = re.compile(r"([^\W\d_]{0,3})(\d{1,4}(?:[.,]\d{1,3})?)([^\W\d_%°]{0,3}[%°]?)")
_CODE = re.compile(r"(?=\D*\d)[^\W\d_]{0,2}\d{0,3}[-.]?[^\W\d_]{0,2}\d{0,2}[^\W\d_]{0,1}")
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]+")
_PLAIN_NUMBER = 0.65
"""Confidence that is enough for a short number."""
_CONFUSED = str.maketrans("oqdilsbzgеоасрхувнткм", "000115829eoacpxybhtkm")
"""Characters that recognisers take for each other; Cyrillic ones look like Latin ones."""


def judge(text: str, confidence: float, min_confidence: float, matcher: Matcher) -> Verdict:
    """Judge one line of text that was read with ``confidence`` (0 to 1)."""
    text = unicodedata.normalize("NFKC", text).strip()
    text = _MAKERS.sub(" MM ", text).strip()
    if identifies(text, matcher):
        return Verdict.IDENTIFIES
    needed = min(min_confidence, _PLAIN_NUMBER) if _is_plain_number(text) else min_confidence
    if confidence >= needed and is_harmless(text):
        return Verdict.HARMLESS
    return Verdict.UNKNOWN


def _is_plain_number(text: str) -> bool:
    """Say whether ``text`` is digits: misread or not, they are too few to name anybody."""
    return text.isascii() and any(map(str.isdigit, text)) and not any(map(str.isalpha, text))


def identifies(text: str, matcher: Matcher) -> bool:
    """Say whether NFKC ``text`` holds what identifies, by what is known or by its shape."""
    shapes = (_DATES, _NUMBERS, _NAMES, _LABELS, _PLACES)
    return (
        any(shape.search(text) for shape in shapes)
        or bool(_PLAIN_DATES.search(text.translate(_DIGITS)))
        or any(not _is_setting(match.group()) for match in _MIXED.finditer(text))
        or bool(matcher.spans(text))
        or is_near_term(text, matcher.terms)
        or any(_is_han_name(run) for run in _HAN.findall(text))
    )


def is_cut(left: str, right: str, matcher: Matcher) -> bool:
    """Say whether two pieces of a line make up a known term, or a date in digits."""
    whole = unicodedata.normalize("NFKC", left.strip() + right.strip())
    return bool(_WHOLE_DATE.fullmatch(whole)) or is_near_term(whole, matcher.terms)


def is_label(text: str) -> bool:
    """Say whether ``text`` announces an identifier that follows it: "Name:", "ID", "姓名"."""
    text = unicodedata.normalize("NFKC", text).strip()
    found = list(_LABELS.finditer(text))
    return bool(found) and len(text) - found[-1].end() <= 1


def is_time(text: str) -> bool:
    """Say whether ``text`` is a time of day, which is harmless without its date."""
    return bool(_TIME.fullmatch(text.strip()))


def is_mark(text: str) -> bool:
    """Say whether ``text`` is one sign: a side, a caliper, a shape that is taken for a letter."""
    signs = [c for c in unicodedata.normalize("NFKC", text) if not c.isspace()]
    return len(signs) == 1


def is_harmless(text: str) -> bool:
    """Say whether all of NFKC ``text`` is known to identify nobody."""
    tokens = _TOKEN.findall(text)
    signs = [c for c in text if c.isalnum()]
    if len(signs) > 4 and len(set(signs)) == 1:
        return False  # what scripts look like that can't be read: 0 0 0 0 0
    return bool(tokens) and all(_is_harmless_token(token) for token in tokens)


def _is_harmless_token(token: str) -> bool:
    token = token.strip(".'\"-_·•°^!?#&@")
    if not token or token.casefold() in lexicon.SHORT or _is_word(token):
        return True
    if glued := _GLUED.fullmatch(token):
        before, number, after = (part.casefold() for part in glued.groups())
        short = len(before) <= 2 or before in lexicon.SHORT or _is_word(before)
        if len(number) == 4 and number.isdigit() and before and not _takes_thousands(before):
            return False
        return short and (len(after) <= 2 or after in lexicon.SHORT or _is_word(after))
    if _CODE.fullmatch(token) or _is_settings(token):
        return True
    pieces = [p for p in re.split(r"[-.'’_&%°]|(?<=[a-z])(?=[A-Z])", token) if p]
    return len(pieces) > 1 and all(_is_harmless_token(piece) for piece in pieces)


def _takes_thousands(setting: str) -> bool:
    """Say whether a number of four digits may stand right behind it: TR2000, W2500, b1000."""
    return setting in lexicon.SHORT and (len(setting) > 1 or setting in "wlbthd")


def _is_settings(token: str) -> bool:
    """Say whether a token is settings run together, their blanks lost: W400L40, Depth16cm."""
    pieces = _PIECES.findall(token)
    letters = [piece for piece in pieces if not piece[0].isdigit()]
    numbers = [piece for piece in pieces if piece[0].isdigit()]
    return (
        "".join(pieces) == token.replace("%", "")
        and all(len(number.split(".")[0]) <= 3 for number in numbers)
        and all(_is_known(piece.casefold()) for piece in letters)
        and bool(letters)
    )


def _is_setting(token: str) -> bool:
    return _is_settings(token) or _is_harmless_token(token)


def _is_known(word: str) -> bool:
    return word in lexicon.SHORT or word in vocabulary()


def _is_word(token: str) -> bool:
    folded = _plain(token)
    if not folded.isalpha():
        return False
    if _HAN.fullmatch(folded):
        return _is_han_term(folded)
    if not folded.isascii():
        return False
    if len(folded) <= 3 and folded not in lexicon.NAMES:
        return True
    return folded in vocabulary() or _has_near_word(folded)


def _has_near_word(word: str) -> bool:
    """Allow for one letter read wrong, in words long enough to be told from names by it."""
    if len(word) < 8:
        return False
    words = vocabulary()
    letters = "abcdefghijklmnopqrstuvwxyz"
    return any(
        word[:i] + middle + word[i + 1 :] in words
        for i in range(len(word))
        for middle in ("", *letters)
    )


@cache
def vocabulary() -> frozenset[str]:
    """Return words of imaging and anatomy: the project's list, and what DICOM's codes are called.

    Names of persons that are words too ("Long", "Hand") are in it; the matcher, which is asked
    first, knows those that count.
    """
    from pydicom.datadict import keyword_dict
    from pydicom.sr import codes

    found: set[str] = set()
    keywords: Iterable[str] = [*keyword_dict, *codes.SCT.dir(), *codes.DCM.dir()]
    for keyword in keywords:
        if not keyword.endswith(("Breed", "Organism", "Virus")):
            found.update(w.lower() for w in re.findall(r"[A-Z]?[a-z]{3,}", keyword))
    return frozenset((found | words() | lexicon.WORDS) - lexicon.NAMES)


def _is_han_term(run: str) -> bool:
    """Say whether a run of Han characters is made of known terms only."""
    if not run:
        return True
    return any(
        run.startswith(term) and _is_han_term(run[len(term) :])
        for term in lexicon.HAN_TERMS
        if term[0] == run[0]
    )


def _is_han_name(run: str) -> bool:
    return 2 <= len(run) <= 4 and run[0] in lexicon.HAN_SURNAMES and not _is_han_term(run)


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def folded(text: str) -> str:
    """Return letters and digits only, without accents, look-alikes made one."""
    return "".join(c for c in _plain(text) if c.isalnum()).translate(_CONFUSED)


def is_near_term(text: str, terms: frozenset[str]) -> bool:
    """Say whether a term occurs in ``text`` as a recogniser might have read it.

    One edit is allowed from 5 characters on, two from 9, three from 13. Terms of less than four
    Latin letters or digits, and single Han characters, are left to the matcher: too much is alike.
    """
    if not terms:
        return False
    whole = folded(text)
    for term in _folded_terms(terms):
        if len(term) < (4 if term.isascii() else 2):
            continue
        if term in whole or (len(term) >= 5 and _occurs(term, whole, (len(term) - 1) // 4)):
            return True
    return False


@cache
def _folded_terms(terms: frozenset[str]) -> frozenset[str]:
    return frozenset(f for term in terms if (f := folded(term)))


def _occurs(term: str, text: str, edits: int) -> bool:
    """Say whether ``term`` is somewhere in ``text`` with at most ``edits`` edits (Sellers 1980)."""
    if len(text) < len(term) - edits:
        return False
    row = list(range(len(term) + 1))
    for character in text:
        above, row[0] = row[0], 0
        for i, wanted in enumerate(term, 1):
            above, row[i] = (
                row[i],
                min(row[i] + 1, row[i - 1] + 1, above + (character != wanted)),
            )
        if row[-1] <= edits:
            return True
    return False
