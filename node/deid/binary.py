"""Whether names or numbers of a patient can be read in bytes that are no text.

In many bytes anything occurs by chance: a word of four letters, in some reading and with some
accents, in every megabyte of a waveform. A value is emptied for what is found, so what counts must
be as unlikely by chance as the value is long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from node.deid.charsets import Charset, decode
from node.deid.identifiers import Matcher

_SHORT = 4096
"""Up to so many bytes every reading is searched, and four letters count."""
_WINDOW = 16 << 20
_OVERLAP = 1024
_TELLING = 5
_TEXT = 8
"""Characters of text around a shorter name among many bytes."""
_BETWEEN = "\0\1\2\3"
"""Stands between runs; nothing is found across it."""
_RUN = re.compile(r"[^\x00-\x1f\x7f-\x9f\ufffd]{2,}")
_ASCII = re.compile(rb"[ -~]{4,}")
_WIDE_LITTLE = re.compile(rb"(?:[ -~]\0){4,}")
_WIDE_BIG = re.compile(rb"(?:\0[ -~]){4,}")
_LIKE_TEXT = re.compile(r"[A-Za-z0-9 ^,.'/=-]*")
_MAY_HOLD = re.compile(rb"[ -~]{4}|(?:[ -~]\0){4}|(?:\0[ -~]){4}|[\x80-\xff]{4}")
_TRAILER = re.compile(rb"(?:[ -~]{8,}|(?:[ -~]\0){8,}|(?:\0[ -~]){8,})\0*\Z")
TRAILER_BYTES = 256
"""Bytes at the end of pixels that are looked at."""
_WORDS = re.compile(r"[^\s^=,\\]{2,}")
_CODECS = ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "gb18030", "shift_jis", "euc_kr")
_LAST_LATIN = "\u024f"


def may_hold_text(raw: bytes) -> bool:
    """Say whether anything that reads like text is in it; cheaper than ``identifies``."""
    return len(raw) > _SHORT or _MAY_HOLD.search(raw) is not None


def ends_in_text(raw: bytes) -> bool:
    """Say whether the last of pixels read like text: a file's trailer that slid into them."""
    return _TRAILER.search(raw) is not None


def identifies(raw: bytes, charset: Charset, matcher: Matcher) -> bool:
    """Say whether something known to identify stands in the bytes, in any usual encoding."""
    if len(raw) <= _SHORT:
        return _in_short(raw, charset, matcher)
    return any(
        _in_long(raw[start : start + _WINDOW + _OVERLAP], matcher)
        for start in range(0, len(raw), _WINDOW)
    )


def _in_short(raw: bytes, charset: Charset, matcher: Matcher) -> bool:
    for text in _readings(raw, charset):
        for run in _RUN.finditer(text):
            found = run.group()
            if any(_counts(found[start:end]) for start, end in matcher.known_spans(found)):
                return True
    return any(spelled in raw for spelled in _spelled(matcher))


def _readings(raw: bytes, charset: Charset) -> Iterator[str]:
    yield raw.decode("latin-1")
    yield raw.decode("utf-8", "replace")
    if charset:
        yield decode(raw, charset)
    for start in (0, 1):
        even = raw[start : len(raw) - (len(raw) - start) % 2]
        for codec in ("utf-16-le", "utf-16-be"):
            yield even.decode(codec, "replace")


def _in_long(raw: bytes, matcher: Matcher) -> bool:
    for runs, codec in (
        (_ASCII, "ascii"),
        (_WIDE_LITTLE, "utf-16-le"),
        (_WIDE_BIG, "utf-16-be"),
    ):
        text = _BETWEEN.join(found.decode(codec) for found in runs.findall(raw))
        for start, end in matcher.known_spans(text):
            if _counts(text[start:end]) and (
                end - start >= _TELLING or _is_amid_text(text, start, end)
            ):
                return True
    return any(spelled in raw for spelled in _spelled(matcher))


def _spelled(matcher: Matcher) -> Iterator[bytes]:
    """Yield the names that aren't ASCII, in the encodings that they may have."""
    for name in matcher.known.persons | matcher.known.phrases:
        for word in _WORDS.findall(name):
            if word.isascii():
                continue
            for form in {word, word.upper(), word.lower(), word.title()}:
                for codec in _CODECS:
                    spelled = form.encode(codec, "ignore")
                    if len(spelled) >= _TELLING - 1 and spelled.decode(codec, "ignore") == form:
                        yield spelled


def _is_amid_text(text: str, start: int, end: int) -> bool:
    after = _LIKE_TEXT.match(text, end)
    before = _LIKE_TEXT.match(text[max(start - _TEXT, 0) : start][::-1])
    around = sum(len(found.group()) for found in (before, after) if found is not None)
    return end - start + around >= _TEXT


def _counts(found: str) -> bool:
    """Say whether what was found looks written, not like bytes that happen to fold to a name."""
    if any(c > _LAST_LATIN for c in found):
        return True
    accents = sum(not c.isascii() for c in found)
    if len(found) < _TELLING - 1 or accents * 3 > len(found):
        return False
    capitals = sum(c.isupper() for c in found)
    small = sum(c.islower() for c in found)
    words = len(_WORDS.findall(found)) or 1
    return not capitals or not small or capitals <= 2 * words
