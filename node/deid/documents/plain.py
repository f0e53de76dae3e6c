"""Plain text, and text with markup: HTML and RTF, which come out with their words only.

Markup can hide a name from any matcher (``W&auml;ng``, ``W\\'e4ng``, ``<b>W</b>ang``), so that it
is taken off before the text is cleaned.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from node.deid.documents.document import Cleaner, Document
from node.deid.documents.hypertext import html_text
from node.deid.reading import Unsafe

_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_GUESSES = ("utf-8", "gb18030", "shift_jis", "euc_jp", "euc_kr", "big5", "cp1251", "latin-1")


def clean_plain(data: bytes, matcher: Cleaner, encodings: Sequence[str] = ()) -> Document:
    """Return the text cleaned, in UTF-8."""
    text = matcher.clean(_decoded(data, matcher, encodings))
    return Document(_encoded(text), {"texts": 1})


def clean_html(data: bytes, matcher: Cleaner, encodings: Sequence[str] = ()) -> Document:
    """Return a page with the cleaned words of a page, a paragraph for each line."""
    words = matcher.clean(html_text(_decoded(data, matcher, encodings)))
    lines = "\n".join(f"<p>{html.escape(line)}</p>" for line in words.splitlines() if line.strip())
    page = f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"></head><body>\n{lines}\n'
    return Document(_encoded(page + "</body></html>\n"), {"texts": 1, "markup-removed": 1})


def clean_rtf(data: bytes, matcher: Cleaner) -> Document:
    """Return a Rich Text document with the cleaned words of another."""
    if not data.startswith(b"{\\rtf"):
        raise Unsafe("unreadable-document")
    words = matcher.clean(rtf_text(data.decode("latin-1")))
    body = "".join(_escaped(character) for character in words)
    return Document(
        b"{\\rtf1\\ansi\\uc1 " + body.encode("ascii") + b"}",
        {"texts": 1, "markup-removed": 1},
    )


def strip_markup(text: str) -> str | None:
    """Return the words of a value that is HTML or RTF, None if it is neither."""
    start = text.lstrip()[:512].lower()
    if start.startswith("{\\rtf"):
        return rtf_text(text)
    if re.match(r"<(!doctype html|html|head|body|p|div|span|br|b|i|table|font)\b", start):
        return html_text(text)
    return None


_RTF = re.compile(
    r"\\'([0-9a-fA-F]{2})|\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\(.)|([{}])|([\r\n]+)|([^\\{}\r\n]+)",
    re.DOTALL,
)
_RTF_SIGNS = {
    **dict.fromkeys(("par", "line", "sect", "page", "row"), "\n"),
    **{"tab": "\t", "cell": "\t", "emdash": "\u2014", "endash": "\u2013", "bullet": "\u2022"},
    **{"lquote": "\u2018", "rquote": "\u2019", "ldblquote": "\u201c", "rdblquote": "\u201d"},
}
_RTF_HIDDEN = frozenset({
    "fonttbl", "colortbl", "stylesheet", "info", "pict", "object", "themedata", "datastore",
    "listtable", "rsidtbl", "listoverridetable", "generator", "xmlnstbl", "filetbl", "revtbl",
    "fldinst",
})  # fmt: skip


def rtf_text(text: str) -> str:
    """Return an RTF document's words (Rich Text Format 1.9.1); bytes are in its code page."""
    return _Rtf().words(text)


class _Rtf:
    def __init__(self) -> None:
        self._out: list[str] = []
        self._bytes = bytearray()
        self._page = "cp1252"
        self._hidden = False
        self._width = 1  # how many signs stand in for one that is given by its number
        self._skip = 0
        self._invisible = False
        self._groups: list[tuple[bool, int, bool]] = []

    def words(self, text: str) -> str:
        for match in _RTF.finditer(text):
            byte, word, number, sign, brace, _, plain = match.groups()
            if byte is not None:
                self._byte(int(byte, 16))
                continue
            self._flush()
            if plain is not None:
                kept = plain[self._skip :]
                self._skip = max(0, self._skip - len(plain))
                self._add(kept)
            elif brace == "{":
                self._groups.append((self._hidden, self._width, self._invisible))
            elif brace == "}":
                before = self._groups.pop() if self._groups else (False, 1, False)
                self._hidden, self._width, self._invisible = before
            elif sign is not None:
                self._hidden = self._hidden or sign == "*"
                self._add({"~": " ", "-": "", "_": "-"}.get(sign, sign))
            elif word is not None:
                self._word(word, number)
        self._flush()
        pairs = "".join(self._out).encode("utf-16-le", "surrogatepass")
        return pairs.decode("utf-16-le", "replace").strip(" \0")

    def _word(self, word: str, number: str | None) -> None:
        if word == "ansicpg" and number:
            self._page = _page(number)
        elif word == "uc":
            self._width = min(max(int(number or 1), 0), 8)
        elif word == "u" and number is not None:
            self._skip = self._width
            self._add(chr(int(number) % 65536))
        elif word in ("v", "deleted"):
            self._invisible = number != "0"
        elif word in _RTF_HIDDEN:
            self._hidden = True
        else:
            self._add(_RTF_SIGNS.get(word, ""))

    def _byte(self, value: int) -> None:
        if self._skip:
            self._skip -= 1
        elif not (self._hidden or self._invisible):
            self._bytes.append(value)

    def _flush(self) -> None:
        if self._bytes:
            self._out.append(bytes(self._bytes).decode(self._page, "replace"))
            self._bytes.clear()

    def _add(self, text: str) -> None:
        if not (self._hidden or self._invisible):
            self._out.append(text)


def _page(number: str) -> str:
    try:
        "".encode("cp" + number)
    except LookupError:
        return "cp1252"
    return "cp" + number


def _escaped(character: str) -> str:
    if character == "\n":
        return "\\par\n"
    if character in "\\{}":
        return "\\" + character
    if " " <= character <= "~":
        return character
    if character < " ":
        return " "
    units = character.encode("utf-16-le", "replace")
    numbers = (int.from_bytes(units[at : at + 2], "little") for at in range(0, len(units), 2))
    return "".join(f"\\u{number - 65536 if number > 32767 else number}?" for number in numbers)


def _decoded(data: bytes, matcher: Cleaner, encodings: Sequence[str]) -> str:
    """Return the text in the first character set that fits, or in which most identifies."""
    data = unpadded(data)
    for mark, encoding in _BOMS.items():
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError:
                raise Unsafe("unreadable-document") from None
    if data.isascii() and b"\x1b" not in data:
        return data.decode("ascii")
    best, most = "", -1
    for encoding in dict.fromkeys((*encodings, *_GUESSES)):
        try:
            text = data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
        count = len(matcher.spans(text))
        if encoding == "utf-8" or (encoding in encodings and count):
            return text
        if count > most:
            best, most = text, count
    return best


def unpadded(data: bytes) -> bytes:
    """Return a text's bytes without the zeros that make its length even (PS3.5 section 6.2)."""
    if data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        return data.rstrip(b"\0")
    end = len(data) - len(data) % 2
    while data[end - 2 : end] == b"\0\0":
        end -= 2
    return data[:end]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")
