"""The character set that a file's text really has, where the file declares another or none.

A file whose bytes are UTF-8 or GB 18030 throughout, and which declares the default repertoire, a
set of single bytes, or code extensions that it never switches to, gets the one that it has, so that
its text can be read again (PS3.3 section C.12.1.1.2). Nothing is guessed where a single value
speaks against it.
"""

from __future__ import annotations

from collections.abc import Iterator

from node.deid.charsets import Charset, is_single_byte, looks_chinese, parse_charset
from node.deid.elements import Buffer, Elements, File

_CHARSET = 0x00080005
_TEXTS = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "PN"})
_MOST_BYTES = 4 << 20


def real_charset(file: File) -> Charset:
    """Return the set of the file's text if another is declared; () if that one may hold."""
    declared: Charset = ()
    for element in file.dataset.elements:
        if element.tag >= _CHARSET:
            if element.tag == _CHARSET:
                declared = parse_charset(bytes(file.data[element.start : element.end]))
            break
    if not is_single_byte(declared):
        return ()
    found: list[bytes] = []
    length = 0
    for raw in _foreign(file.data, file.dataset):
        if raw is None or b"\x1b" in raw:
            return ()  # an item has a set of its own, or there are escapes
        found.append(raw)
        length += len(raw)
        if length > _MOST_BYTES:
            return ()
    if not found:
        return ()
    if all(_is_utf8(raw) for raw in found):
        return ("ISO_IR 192",)
    return ("GB18030",) if looks_chinese(found) else ()


def _foreign(data: Buffer, scope: Elements, depth: int = 0) -> Iterator[bytes | None]:
    """Yield the text values that aren't ASCII; None for a set that an item declares itself."""
    for element in scope.elements:
        if element.items is not None:
            for item in element.items:
                yield from _foreign(data, item, depth + 1)
        elif element.tag == _CHARSET and depth:
            yield None
        elif element.fragments is None and element.vr in _TEXTS:
            raw = bytes(data[element.start : element.end])
            if not raw.isascii():
                yield raw


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
