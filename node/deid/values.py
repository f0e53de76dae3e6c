"""What becomes of one value: text cleaned, dates moved, UIDs replaced; each of one patient.

Values come and go as the bytes of a file, without padding. The same value under the same context
is worked out once: the files of a series hold mostly the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from hashlib import blake2b

from node.deid.binary import identifies, may_hold_text
from node.deid.charsets import Charset, decode, encode, likeliest, readings
from node.deid.dates import shift_date, shift_datetime
from node.deid.identifiers import PLACEHOLDER, Known, Matcher
from node.deid.profile import Options
from node.deid.pseudonyms import Pseudonyms
from node.deid.vocabulary import words

LIMITS = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "ST": 1024, "LT": 10240}
"""Characters that a value may have (PS3.5 table 6.2-1)."""
PACKED = frozenset({"AT", "FD", "FL", "OD", "OF", "OL", "OV", "SL", "SS", "SV", "UL", "US", "UV"})
"""Numbers in binary."""
_MULTIPLE = frozenset({"LO", "SH", "CS", "AE", "UC", "PN"})
_NUMBER = re.compile(rb"[\d+\-.eE\\ ]*")
_TIME = re.compile(rb"(?:[01]\d|2[0-4])(?::?[0-6]\d(?::?[0-6]\d(?:\.\d{0,6})?)?)?")
_AGE = re.compile(rb"(\d{1,3})([DWMY])")
_UIDS = re.compile(rb"[\d.\\]*")
_WORD = re.compile(r"[^\W\d_]+")
_DIGITS = re.compile(r"\d{4}")
_CODE_PLACEHOLDER = "REMOVED"
_MOST_KEPT = 50_000
_LONG = 4096
_OLDEST = 90
_SCRIPTS = re.compile(r"[\u0400-\u04ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\s·・]{2,}")

Cleaned = bytes | None
"""The new value; None where the old one may stay."""


class Values:
    """The values of one patient's files."""

    def __init__(
        self,
        known: Known,
        matcher: Matcher,
        pseudonyms: Pseudonyms,
        subject: str,
        days: int | None,
        options: Options,
    ) -> None:
        self.known = known
        self.matcher = matcher
        self.subject = subject
        self.days = days
        """By which dates move into the past; None removes them."""
        self.options = options
        self.is_foreign = False
        """Whether names or places of the header are more than ASCII."""
        self._uid = pseudonyms.uid if options.uids == "replaced" else None
        self._digits = frozenset(
            digits
            for number in known.numbers
            if len(digits := "".join(c for c in number if c.isdigit())) >= 6
        )
        self._done: dict[tuple[str, bytes, Charset], Cleaned] = {}
        self._kinds: dict[str, Callable[[bytes, Charset, str], Cleaned]] = {
            **dict.fromkeys(("LO", "SH", "ST", "LT", "UT", "UC", "PN"), self._text),
            **dict.fromkeys(("CS", "AE", "UR"), self._code),
            **dict.fromkeys(("IS", "DS"), self._number),
            **dict.fromkeys(("OB", "OW", "UN"), self._binary),
            **dict.fromkeys(PACKED, self._packed),
            "AS": self._age,
            "TM": self._time,
            "UI": self._class_uid,
        }

    def clean(self, raw: bytes, vr: str, charset: Charset) -> Cleaned:
        """Return the value without what identifies, by its value representation."""
        act = self._kinds.get(vr)
        if act is None or not raw:
            return None
        key = (vr, raw if len(raw) <= _LONG else blake2b(raw).digest(), charset)
        try:
            return self._done[key]
        except KeyError:
            new = act(raw, charset, vr)
        if len(self._done) >= _MOST_KEPT:
            self._done.clear()
        self._done[key] = new
        return new

    def uid(self, raw: bytes) -> bytes:
        """Return what replaces one or more UIDs."""
        parts = raw.decode("latin-1").split("\\")
        if self._uid is None:
            return raw
        # "0" stands for none and names nothing.
        return "\\".join(
            self._uid(p) if (p := part.strip(" \0")) not in ("", "0") else p for part in parts
        ).encode()

    def date(self, raw: bytes, vr: str) -> bytes:
        """Return moved DAs or DTs; empty what is none, or is to be removed."""
        if self.days is None:
            return b""
        shift = shift_date if vr == "DA" else shift_datetime
        moved = [
            shift(value, self.days)
            for part in raw.decode("latin-1").split("\\")
            if (value := part.strip(" \0"))
        ]
        return b"" if None in moved else "\\".join(m for m in moved if m).encode()

    def instance_number(self, raw: bytes) -> str:
        """Return an Instance Number as text, as it stays."""
        new = self.clean(raw, "IS", ())
        text = (raw if new is None else new).decode("latin-1")
        return text.partition("\0")[0].strip()[:12]

    # ---- by value representation ---------------------------------------------------------------

    def _text(self, raw: bytes, charset: Charset, vr: str) -> Cleaned:
        text, codec = likeliest(raw, charset)
        cleaned = self.matcher.clean(_shown(text))
        new = raw if cleaned == text else encode(_fitting(cleaned, vr), charset, codec)
        for other, its in readings(new, charset):
            # In another encoding than is likely, only a name in its own script counts.
            if its != codec and self._names_in(other):
                new = encode(_fitting(self.matcher.clean(other), vr), charset, its)
        return None if new == raw else new

    def _names_in(self, text: str) -> bool:
        return any(
            not text[start:end].isascii() and _SCRIPTS.fullmatch(text, start, end)
            for start, end in self.matcher.known_spans(text)
        )

    def _code(self, raw: bytes, charset: Charset, vr: str) -> Cleaned:
        text = decode(raw, charset)
        shown = _shown(text)
        cleaned = self.matcher.clean(shown).replace(PLACEHOLDER, _CODE_PLACEHOLDER)
        if cleaned == text or (vr == "CS" and _is_term(text)):
            return None
        if vr == "UR":
            return b"urn:removed"
        return _fitting(cleaned, vr).encode("ascii", "replace")

    def _number(self, raw: bytes, charset: Charset, vr: str) -> Cleaned:
        if not _NUMBER.fullmatch(raw.rstrip(b"\0")):
            return self._text(raw, charset, "SH")
        parts = [part.strip().decode() for part in raw.split(b"\\")]
        if any(part in self._digits for part in parts):
            return b""
        if vr == "IS" and any(
            len(part) > 9 and part.isdigit() and int(part) >> 31 for part in parts
        ):
            return b""  # no such integer is one (PS3.5 table 6.2-1): a part of a number
        return None

    def _age(self, raw: bytes, charset: Charset, vr: str) -> Cleaned:
        found = _AGE.fullmatch(raw.strip(b" \0"))
        if found is None:
            return b""
        old = found[2] == b"Y" and int(found[1]) > _OLDEST
        return b"%03dY" % _OLDEST if old else None

    def _time(self, raw: bytes, charset: Charset, vr: str) -> Cleaned:
        parts = raw.rstrip(b"\0").split(b"\\")
        times = all(not (one := part.strip()) or _TIME.fullmatch(one) for part in parts)
        return None if times else b""

    def _class_uid(self, raw: bytes, charset: Charset, vr: str) -> Cleaned:
        text = raw.rstrip(b" \0")
        if not _UIDS.fullmatch(text):
            return b""
        components = text.decode("ascii").replace("\\", ".").split(".")
        return None if self._digits.isdisjoint(components) else b""

    def _binary(self, raw: bytes, charset: Charset, vr: str) -> Cleaned:
        """Empty bytes in which a name or number of the patient can be read."""
        return b"" if identifies(raw, charset, self.matcher) else None

    def _packed(self, raw: bytes, charset: Charset, vr: str) -> Cleaned:
        return self._binary(raw, charset, vr) if may_hold_text(raw) else None


def _shown(text: str) -> str:
    """Return what readers show: up to the first NUL, which only pads."""
    return text.partition("\0")[0]


def _is_term(text: str) -> bool:
    """Say whether a code string is made of words that identify nobody, whoever is called so."""
    return all(word.lower() in words() for word in _WORD.findall(text)) and not _DIGITS.search(text)


def _fitting(text: str, vr: str) -> str:
    limit = LIMITS.get(vr)
    if limit is None:
        return text
    if vr not in _MULTIPLE:
        return text[:limit]
    return "\\".join(part[:limit] for part in text.split("\\"))


def shifted(day: date, days: int | None) -> date | None:
    """Return a day moved as the dates of a file are, None where they are removed."""
    if days is None:
        return None
    try:
        return date.fromordinal(day.toordinal() - days)
    except (ValueError, OverflowError):
        return None
