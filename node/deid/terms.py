"""What of a number, a birth date or a phrase is searched for, so that it isn't found everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date

from node.deid.names import LETTERS, fold, is_unspaced
from node.deid.vocabulary import adjectives, makers, places, words


def number_forms(raw: str) -> set[str]:
    """Return an identifier's letters and digits, if they are enough to tell it from any number."""
    plain = fold(raw)
    if not any(c.isdigit() for c in plain):
        return set()
    forms = set()
    if len(plain) >= (5 if plain.isdigit() else 4):
        forms.add(plain)
    bare = plain.lstrip("0")
    if bare.isdigit() and len(bare) >= 5:
        forms.add(bare)
    digits = "".join(c for c in plain if c.isdigit())
    if raw.strip().startswith("+") and len(digits) >= 9:
        # A telephone number: country codes have one to three digits (ITU-T E.164).
        for code in (1, 2, 3):
            if len(digits) - code >= 7:
                forms |= {digits[code:], "0" + digits[code:]}
    elif not plain.isdigit() and len(digits) >= 6:
        forms.add(digits)
    return forms


def short_numbers(numbers: Iterable[str]) -> re.Pattern[str] | None:
    """Return a pattern of numbers of four digits, which are told from others by what is before.

    Behind a label of a number, and where one is all that stands there.
    """
    short = sorted(
        bare for raw in numbers if len(bare := raw.strip().lstrip("0")) == 4 and bare.isdigit()
    )
    if not short:
        return None
    return re.compile(
        r"(?i)(?:(?<![^\W_])(?:no|nr|num|number|id|mrn|pid|pat|patient|pt|case|fall|chart|acc|"
        r"accession|hosp|n°|№)[.:#=№_ -]{0,4}|#\s?|(?:病历号|患者番号|등록번호|号)[:： ]?)"
        rf"(?P<x>0*(?:{'|'.join(short)}))(?:(?!\w|[.,]\d)|(?=_))"
        rf"|^\s*(?P<y>0*(?:{'|'.join(short)}))\s*$"
    )


def births(days: Iterable[date]) -> re.Pattern[str] | None:
    """Return a pattern of birth dates in digits alone, as numbers of citizens begin with them."""
    forms = ("%d%m%Y", "%m%d%Y", "%Y%m%d", "%d%m%y", "%m%d%y", "%y%m%d")
    written = {f"{day:{form}}" for day in days if day.year >= 1900 for form in forms}
    return re.compile(rf"(?<![\d.])(?:{'|'.join(sorted(written))})(?![\d.])") if written else None


def phrase_terms(phrases: Iterable[str]) -> tuple[frozenset[str], set[str]]:
    """Return whole phrases (and their parts between commas), and words that tell by themselves."""
    whole: set[str] = set()
    telling: set[str] = set()
    for phrase in phrases:
        parts = [phrase, *re.split(r"[,;^=\r\n|]", phrase)]
        for part in parts:
            tokens = [fold(word) for word in LETTERS.findall(part)]
            plain = fold(part)
            # A department's name may be all clinical words, or the maker of its devices:
            # "Nuclear Medicine", "Philips Medical Systems".
            tells = any(token not in words() for token in tokens) or (
                len(tokens) > 1 and not places().isdisjoint(tokens) and makers().isdisjoint(tokens)
            )
            if len(plain) >= 4 and tells:
                whole.add(plain)
            telling |= {
                token
                for token in tokens
                if len(token) >= 4
                and token not in words()
                and token not in adjectives()
                and not is_unspaced(token)
            }
    return frozenset(whole), telling
