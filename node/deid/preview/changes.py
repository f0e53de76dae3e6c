"""The elements of a file before and after, side by side, with what was done and by which pass."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from node.deid.charsets import Charset, decode, parse_charset
from node.deid.dictionary import keyword_of
from node.deid.elements import Element, Elements, File, parse, value
from node.deid.profile import Action, Profile

_CHARSET = 0x00080005
_SHOWN_BYTES = 4096
_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}
_BINARY = frozenset(["OB", "OW", "OF", "OD", "OL", "OV", "UN", ""])
_META = 0x0002

By = Literal["", "table", "search", "private", "pixels", "meta", "declared"]
"""The pass that decided: the standard's table, the search of what it leaves, the rule for private
attributes, the cleaning of pixels, the new file meta group, or what is declared about it all."""


@dataclass(frozen=True)
class Line:
    """One element. ``before`` or ``after`` is None where the file doesn't have it."""

    depth: int
    """0 is the data set; each sequence around it counts one."""
    tag: int
    vr: str
    name: str
    """The keyword, or the private creator and the element's low byte."""
    before: str | None
    after: str | None
    action: str
    """D, Z, X, K, U or C (PS3.15 Table E.1-1a); + for an element that is new."""
    by: By

    @property
    def changed(self) -> bool:
        """Say whether anything was done."""
        return self.action != "K"


def changes(source: bytes, result: bytes, profile: Profile) -> list[Line]:
    """Return every element of both files, in their order."""
    before, after = parse(source), parse(result)
    lines = list(_meta(before, after))
    lines += _level(before, before.dataset, after, after.dataset, profile, (), 0)
    return lines


def _meta(before: File, after: File) -> Iterator[Line]:
    for tag in sorted(before.meta.keys() | after.meta.keys()):
        old, new = (
            None if (raw := meta.get(tag)) is None else _meta_text(tag, raw)
            for meta in (before.meta, after.meta)
        )
        action = "K" if old == new else "X" if new is None else "+" if old is None else "D"
        yield Line(0, tag, "", _name(tag, ""), old, new, action, "" if action == "K" else "meta")


def _meta_text(tag: int, raw: bytes) -> str:
    if tag in (0x00020000, 0x00020001, 0x00020102):
        return f"<{len(raw)} bytes>"
    return raw.decode("latin-1").rstrip(" \0")


def _level(
    old_file: File,
    old: Elements | None,
    new_file: File,
    new: Elements | None,
    profile: Profile,
    charset: Charset,
    depth: int,
    above: By = "",
) -> Iterator[Line]:
    olds = {one.tag: one for one in (old.elements if old else ())}
    news = {one.tag: one for one in (new.elements if new else ())}
    old_charset = _charset(old_file, olds, charset)
    new_charset = _charset(new_file, news, charset)
    creators = {tag: _text(old_file, old, one, ()) for tag, one in olds.items() if _is_creator(tag)}
    for tag in sorted(olds.keys() | news.keys()):
        one, other = olds.get(tag), news.get(tag)
        before = None if one is None else _text(old_file, old, one, old_charset)
        after = None if other is None else _text(new_file, new, other, new_charset)
        given = one or other
        assert given is not None
        creator = creators.get(tag & ~0xFFFF | (tag & 0xFFFF) >> 8, "")
        same = before == after and _same(old_file, one, new_file, other)
        action = _action(before, after, given.vr, same, profile, tag)
        by = above if new is None and above else _by(tag, one, given.vr, action, profile)
        yield Line(depth, tag, given.vr, _name(tag, creator), before, after, action, by)
        items = list(one.items or ()) if one else []
        others = list(other.items or ()) if other else []
        for index in range(max(len(items), len(others))):
            yield from _level(
                old_file,
                items[index] if index < len(items) else None,
                new_file,
                others[index] if index < len(others) else None,
                profile,
                old_charset,
                depth + 1,
                by,
            )


def _charset(file: File, elements: dict[int, Element], inherited: Charset) -> Charset:
    found = elements.get(_CHARSET)
    return inherited if found is None else parse_charset(value(file.data, found))


def _same(old_file: File, old: Element | None, new_file: File, new: Element | None) -> bool:
    if old is None or new is None or old.items is not None or new.items is not None:
        return True
    if old.fragments is not None and new.fragments is not None:
        return [bytes(old_file.data[a:b]) for a, b in old.fragments] == [
            bytes(new_file.data[a:b]) for a, b in new.fragments
        ]
    return value(old_file.data, old).rstrip(b" \0") == value(new_file.data, new).rstrip(b" \0")


def _action(
    before: str | None, after: str | None, vr: str, same: bool, profile: Profile, tag: int
) -> str:
    if before is None:
        return "+"
    if after is None:
        return "X"
    if same:
        return "K"
    if not after:
        return "Z"
    if vr == "UI":
        return "U"
    decided = profile.action(tag, vr)
    return "D" if decided in (Action.DUMMY, Action.ZERO) else "C"


def _by(tag: int, old: Element | None, vr: str, action: str, profile: Profile) -> By:
    if action == "K":
        return ""
    if old is None:
        return "declared"
    if tag >> 16 & 1:
        return "private"
    if tag >> 16 == 0x7FE0 or tag >> 24 == 0x60:
        return "pixels"
    decided = profile.action(tag, vr)
    if decided is Action.KEEP or (decided is Action.CLEAN and vr not in ("DA", "DT", "TM", "SQ")):
        return "search"
    return "table"


def _name(tag: int, creator: str) -> str:
    if tag >> 16 & 1:
        if _is_creator(tag):
            return "creator"
        return f"{creator or '?'} {tag & 0xFF:02x}"
    return keyword_of(tag) or f"group {tag >> 16:04x}"


def _is_creator(tag: int) -> bool:
    return bool(tag >> 16 & 1) and 0x10 <= tag & 0xFFFF <= 0xFF


def _text(file: File, scope: Elements | None, element: Element, charset: Charset) -> str:
    """Return a value as people read it; of what is long or binary its size."""
    if element.items is not None:
        return f"<{len(element.items)} items>"
    if element.fragments is not None:
        return f"<{sum(b - a for a, b in element.fragments)} bytes in fragments>"
    size = element.end - element.start
    raw = bytes(file.data[element.start : min(element.end, element.start + _SHOWN_BYTES)])
    little = scope is None or scope.little
    if element.vr in _NUMBERS:
        return _numbers(raw, _NUMBERS[element.vr], little)
    if element.vr == "AT":
        numbers = struct.unpack(
            f"{'<' if little else '>'}{len(raw) // 4 * 2}H", raw[: len(raw) // 4 * 4]
        )
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        return "\\".join(f"({group:04x},{number:04x})" for group, number in pairs)
    if element.vr in _BINARY and not _is_text(raw):
        return f"<{size} bytes>" if size else ""
    return decode(raw.rstrip(b" \0"), charset)


def _numbers(raw: bytes, code: str, little: bool) -> str:
    size = struct.calcsize("=" + code)
    count = len(raw) // size
    numbers = struct.unpack(f"{'<' if little else '>'}{count}{code}", raw[: count * size])
    return "\\".join(f"{number:g}" if code in "fd" else str(number) for number in numbers)


def _is_text(raw: bytes) -> bool:
    return 0 < len(raw) < 1024 and all(byte >= 32 or byte in b"\0\r\n\t\x1b" for byte in raw)
