"""A person's name as the terms by which it is found in text, whoever wrote it and in which script.

Orders, initials, capitals, accents and umlauts, particles, hyphens; the syllables and kanji of
Japanese, Chinese in pinyin, Korean and Cyrillic in the usual transliterations, Russian endings. A
part that is a word as well ("Brown") is only a name beside another part of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from node.deid.vocabulary import adjectives, words

_EAST = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
LETTERS = re.compile(rf"[{_EAST}]+|[^\W\d_{_EAST}]+")
"""Words; a Latin one ends where a Chinese one begins."""
TITLES = frozenset({
    "dr", "drs", "prof", "professor", "doctor", "mr", "mrs", "ms", "miss", "md", "phd", "sir",
    "herr", "herrn", "frau", "fr", "hr", "dott", "dipl", "ing", "mme", "mlle", "monsieur", "madame",
    "sra", "srta", "senor", "senora", "pan", "pani", "med",
})  # fmt: skip
PARTICLES = frozenset({
    "van", "der", "den", "de", "la", "las", "le", "les", "lo", "los", "du", "des", "del", "della",
    "di", "da", "das", "dos", "do", "el", "al", "bin", "ibn", "ben", "bint", "abu", "ter", "ten",
    "te", "vom", "von", "zu", "zur", "zum", "und", "af", "av", "san", "st", "mac", "y", "e",
})  # fmt: skip
_SUFFIXES = frozenset({"jr", "sr", "ii", "iii", "iv", "junior", "senior"})
_NONE = TITLES | _SUFFIXES
_APOSTROPHES = str.maketrans("", "", "'’`´ʼ")
_ELIDED = re.compile(r"(?<![^\W\d_])[^\W\d_]{1,2}['’`´ʼ][^\W\d_]{3,}")
_KOREAN_WORDS = frozenset({
    "지수", "지연", "수정", "미정", "유지", "정상", "진단", "진행", "소아", "상아", "성인", "남성",
    "여성", "미세", "주의", "조정", "선정", "상지", "하지", "수지", "족지", "인대",
})  # fmt: skip
"""Given names that a report has as words: index, delay, correction, normal."""
_RUSSIAN_ENDING = re.compile(r"(?:ая|яя|ий|ый|ой|[аяйь])$")
_UMLAUTS = {"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"}
_WRITTEN_OUT = (("ae", "a"), ("oe", "o"), ("ue", "u"), ("aa", "a"))


class Names:
    """The terms of any number of names, folded (``fold``)."""

    def __init__(self) -> None:
        self.strong: set[str] = set()
        """Tell by themselves."""
        self.cased: set[str] = set()
        """Tell by themselves, unless in small letters: short, or an adjective somewhere."""
        self.weak: set[str] = set()
        """Tell beside another part of a name, or after a title."""
        self.joined: set[str] = set()
        """Several parts, with separators between them or none."""
        self.initialled: set[str] = set()
        """A part and an initial that would be a word without a separator between them."""
        self.scripts: set[str] = set()
        """In scripts that don't divide words."""
        self.loose: set[str] = set()
        """Keys of parts (``loose``)."""
        self.initials: set[str] = set()
        self.slips: set[str] = set()
        """Long parts, and those without one of their letters (``slips``)."""

    def add(self, person: str) -> None:
        """Add a name: DICOM's PN (PS3.5 section 6.2.1) or plain."""
        one = _names(person)
        for kind, terms in vars(one).items():
            getattr(self, kind).update(terms)

    def _add(self, person: str) -> None:
        for group in unicodedata.normalize("NFC", person).split("="):
            parts = [_tokens(part) for part in _components(group)]
            parts = [part for part in parts if part]
            if parts:
                self._add_group(parts)
            # O'Brien is written O Brien, too.
            self._add_joined({fold(word) for word in _ELIDED.findall(group)})

    def _add_group(self, parts: list[list[str]]) -> None:
        every = [token for part in parts for token in part]
        if any(is_unspaced(token) for token in every):
            folded = [[fold(token) for token in part] for part in parts]
            given = [token for part in folded[1:3] for token in part]
            self._add_script(folded[0], given, [token for part in folded for token in part])
        if not all(token.isascii() for token in every):
            latin = [[latin for t in part for latin in _latin(t)] for part in parts]
            self._add_alphabetic(latin, syllables=any(is_unspaced(token) for token in every))
        for spelled in _spellings(parts):
            self._add_alphabetic(spelled)

    def _add_alphabetic(self, parts: list[list[str]], *, syllables: bool = False) -> None:
        """Add a name of an alphabet; of what was transliterated, a token is a syllable."""
        parts = [
            [token for token in part if token and token not in _NONE and not is_unspaced(token)]
            for part in parts
        ]
        parts = [part for part in parts if part]
        for part in parts:
            for token in part:
                self._add_token(token, syllable=syllables and len(token) < 5)
            self._add_with_particles(part)
            if len(part) > 1 and len("".join(part)) > 4:
                self._add_token("".join(part))
                bare = "".join(token for token in part if token not in PARTICLES)
                if len(bare) > 4:
                    self._add_token(bare)
        if syllables and len(parts) == 1 and len(parts[0]) > 1:
            parts = [parts[0][:1], parts[0][1:]]
        if parts:
            given = [token for part in parts[1:3] for token in part]
            self._join(parts[0], given)
            if given:
                both = (parts[0] + given, given + parts[0])
                self.loose |= {loose("".join(part)) for part in both}

    def _add_token(self, token: str, *, syllable: bool = False) -> None:
        self.initials.add(token[0])
        if syllable or len(token) < 3 or token in PARTICLES or token in words():
            self.weak.add(token)
            return
        # With an ending: a possessive without its apostrophe, a case.
        self.cased |= {form for form in _inflected(token) if form not in words()}
        if len(token) == 3 or token in adjectives():
            self.cased.add(token)
        else:
            self.strong.add(token)
            stem = _RUSSIAN_ENDING.sub("", token)
            if len(stem) >= 5 and "\u0400" <= stem[0] <= "\u04ff":
                self.strong.add(stem)
        if len(token) >= 4:
            self.loose.add(loose(token))
        self.slips |= slips(token)

    def _add_with_particles(self, part: list[str]) -> None:
        """Add "vanderBerg" and "vdBerg"."""
        for index, token in enumerate(part):
            first = index
            while first and part[first - 1] in PARTICLES:
                first -= 1
            if first < index and len(token) > 2:
                before = part[first:index]
                self._add_joined({"".join(before) + token, "".join(p[0] for p in before) + token})

    def _join(self, family: list[str], given: list[str]) -> None:
        if not given:
            return
        first, last = "".join(given), "".join(family)
        bare = "".join(t for t in family if t not in PARTICLES) or last
        self._add_joined({last + first, first + last, bare + first, first + bare})
        self._add_joined({last + given[0], given[0] + last, bare + given[0], given[0] + bare})
        self._add_joined({family[-1] + given[0], given[0] + family[-1]})
        short = "".join(token[0] for token in given)
        for initial in {short, short[0]}:
            for form in (initial + last, last + initial, initial + bare, bare + initial):
                if last in words() or bare in words() or len(form) < 5 or form in words():
                    self.initialled.add(form)
                else:
                    self.joined.add(form)

    def _add_joined(self, forms: Iterable[str]) -> None:
        self.joined |= {
            form
            for form in forms
            if len(form) >= 4 and form not in words() and not is_unspaced(form)
        }

    def _add_script(self, family: list[str], given: list[str], every: list[str]) -> None:
        """Add names in scripts that don't divide words: Chinese, Japanese, Korean."""
        whole = "".join(family) + "".join(given)
        for form in (whole, "".join(given), *every, *(family if len("".join(family)) > 1 else ())):
            if len(form) >= 2 and is_unspaced(form) and form not in _KOREAN_WORDS:
                self.scripts.add(form)
        if given:
            self.scripts.add("".join(given) + "".join(family))
        elif 2 < len(whole) <= 4 and whole[1:] not in _KOREAN_WORDS:
            self.scripts.add(whole[1:])


@lru_cache(maxsize=4096)
def _names(person: str) -> Names:
    names = Names()
    names._add(person)
    return names


def _components(group: str) -> list[str]:
    """Return the parts of a name, the family's first."""
    if "^" in group:
        return group.split("^")
    if "," in group:
        return group.split(",")
    tokens = group.split()
    if not 1 < len(tokens) <= 6:
        return [group]
    first = len(tokens) - 1
    while first > 1 and fold(tokens[first - 1]) in PARTICLES:
        first -= 1
    return [" ".join(tokens[first:]), *tokens[:first]]


def _tokens(part: str) -> list[str]:
    return [token.lower() for token in LETTERS.findall(part.translate(_APOSTROPHES))]


def _spellings(parts: list[list[str]]) -> Iterable[list[list[str]]]:
    """Yield the name folded, with its umlauts written out, and without what was written out."""
    folded = [[folded for token in part if (folded := fold(token))] for part in parts]
    yield folded
    if any(mark in token for part in parts for token in part for mark in _UMLAUTS):
        yield [[fold(_written_out(token)) for token in part] for part in parts]
    if any(pair in token for part in folded for token in part for pair, _ in _WRITTEN_OUT):
        yield [[_drawn_in(token) for token in part] for part in folded]


def _written_out(token: str) -> str:
    for mark, pair in _UMLAUTS.items():
        token = token.replace(mark, pair)
    return token


def _drawn_in(token: str) -> str:
    for pair, mark in _WRITTEN_OUT:
        token = token.replace(pair, mark)
    return token


def _latin(token: str) -> list[str]:
    """Return the token in Latin letters; of Chinese and Korean, a token for each syllable."""
    from anyascii import anyascii

    plain = anyascii(token)
    if is_unspaced(token):
        return [part.lower() for part in re.findall(r"[A-Z][a-z']*|[a-z]+", plain)]
    folded = fold(token)
    return [folded] if folded.isascii() else ["".join(c for c in plain.lower() if c.isalnum())]


_ENDINGS = (
    (re.compile("a$"), ("y", "i", "e", "o", "ie", "u", "ze")),
    (re.compile("[sc]ki$"), ("skiego", "skiemu", "skim", "ska", "skiej", "ckiego", "ckiej", "cka")),
    (re.compile("(?<=[nłlrmwtd])y$"), ("ego", "emu", "ym", "a", "ej")),
    (re.compile("ek$"), ("ka", "kowi", "kiem")),
    (
        re.compile("(?<=[bcdfgklmnprstwz])$"),
        ("owi", "em", "iem", "ow", "owa", "owej", "ova", "ove"),
    ),
    (re.compile("(?<=[бвгджзклмнпрстфхцчшщ])$"), ("а", "у", "ом", "е", "ым", "ой")),
    (re.compile("ии$"), ("ия", "ию", "ием", "ии")),
    (re.compile("(?<![и])и$"), ("я", "ю", "ем", "е")),
    (re.compile("а$"), ("ы", "и", "у", "е", "ои")),
    (re.compile("я$"), ("и", "ю", "е", "еи")),
    (re.compile("ь$"), ("я", "ю", "ем", "е", "и")),
)
"""Endings of names in Polish, Czech and Russian, folded, by how the name ends."""


@lru_cache(maxsize=65536)
def _inflected(token: str) -> frozenset[str]:
    forms = {token + "s"} if token.isascii() else set()
    if len(token) >= 4:
        for ending, others in _ENDINGS:
            if ending.search(token):
                forms |= {ending.sub("", token) + other for other in others}
    return frozenset(forms)


_LOOSE = (
    ("shch", "s"), ("sch", "s"), ("tch", "c"), ("zh", "z"), ("kh", "h"), ("ch", "c"), ("sh", "s"),
    ("ts", "c"), ("tz", "c"), ("cz", "c"), ("sz", "s"), ("ks", "x"), ("ph", "f"), ("th", "t"),
    ("ou", "o"), ("oy", "o"), ("oo", "o"), ("uu", "u"), ("ee", "i"), ("w", "v"), ("y", "i"),
    ("j", "i"), ("ii", "i"), ("oe", "o"), ("ue", "u"), ("ae", "a"), ("iu", "u"), ("ia", "a"),
    ("io", "o"),
)  # fmt: skip


@lru_cache(maxsize=65536)
def loose(word: str) -> str:
    """Return a key that the usual transliterations of one name share."""
    for old, new in _LOOSE:
        word = word.replace(old, new)
    kept = [c for i, c in enumerate(word) if i == 0 or c != word[i - 1]]
    return "".join(kept)


_FEWEST_TYPED = 6
"""Letters from which on a word is told from another by one letter."""


def slips(word: str) -> frozenset[str]:
    """Return the word and what is left without one letter, the first aside; none of a short word.

    Two words share one of these if a letter was left out, doubled, mistaken or exchanged with its
    neighbour in one of them. People seldom mistake the first.
    """
    if len(word) < _FEWEST_TYPED:
        return frozenset()
    return frozenset({word, *(word[:i] + word[i + 1 :] for i in range(1, len(word)))})


_LATIN = {
    "ß": "ss", "ẞ": "ss", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe",
    "ı": "i", "ħ": "h",
}  # fmt: skip
_KANA = range(0x30A1, 0x30F7)
_KANA_STEP = 0x60


@lru_cache(maxsize=65536)
def fold_char(char: str) -> str:
    """Return a character's letters and digits as they are compared; "" if it has none."""
    if char.isascii():
        return char.lower() if char.isalnum() else ""
    special = _LATIN.get(char.lower())
    if special:
        return special
    if is_hangul(char):
        return char
    plain = unicodedata.normalize("NFKD", char).casefold()
    # Katakana, hiragana, of any width and with any mark, are one.
    plain = "".join(chr(ord(c) - _KANA_STEP) if ord(c) in _KANA else c for c in plain)
    return "".join(c for c in plain if c.isalnum())


_LOWER = bytes(range(256)).lower()
_NEITHER = bytes(c for c in range(256) if not (c < 128 and chr(c).isalnum()))


def fold(text: str) -> str:
    """Return the letters and digits of ``text`` as they are compared."""
    if text.isascii():
        return text.encode("ascii").translate(_LOWER, _NEITHER).decode("ascii")
    return "".join(map(fold_char, text))


def is_unspaced(text: str) -> bool:
    """Return whether any of the text is Chinese, Japanese or Korean."""
    return not text.isascii() and any(
        "\u3040" <= c <= "\u9fff" or is_hangul(c) or "\uf900" <= c <= "\ufaff" for c in text
    )


def is_hangul(char: str) -> bool:
    """Return whether a character is a Korean syllable."""
    return "\uac00" <= char <= "\ud7a3"
