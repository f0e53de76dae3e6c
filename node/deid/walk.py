"""A profile's actions applied to every element of every level, as a list of parts of a new file.

What stays is not decoded and not copied: runs of elements that stay are stretches of the source.
Element by element this is the table of actions (``Profile.action``) met by the value
representation; nothing here knows a single attribute but those that stand for others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from node.deid import dummies
from node.deid.charsets import Charset, decode, parse_charset
from node.deid.dictionary import vr_of
from node.deid.elements import (
    ITEM,
    SEQUENCE_END,
    UNDEFINED,
    Buffer,
    Element,
    Elements,
    encode_header,
)
from node.deid.parts import Parts
from node.deid.private import is_known, is_safe
from node.deid.profile import Action, Profile
from node.deid.reading import Unsafe
from node.deid.structured import concept_action
from node.deid.values import PACKED, Values

PATIENT_NAME, PATIENT_ID = 0x00100010, 0x00100020
CHARSET = 0x00080005
DOCUMENT = 0x00420011
PIXELS = frozenset({0x7FE00001, 0x7FE00002, 0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Pixel data in its kinds, and the tables of offsets that go with it (PS3.3 C.7.6.3)."""
_CONCEPT, _VALUE_TYPE, _CODE, _SCHEME = 0x0040A043, 0x0040A040, 0x00080100, 0x00080102
_CONTENT = frozenset({0x0040A730, 0x00400555, 0x00400610})
"""Sequences of content items (PS3.3 section C.17.3, and C.7.6.14, C.7.6.22)."""
_OBSERVERS = 0x0040A073
_CONTENT_VALUES: Mapping[int, str] = {
    0x0040A160: "UT",
    0x0040A123: "PN",
    0x0040A120: "DT",
    0x0040A121: "DA",
    0x0040A122: "TM",
    0x0040A124: "UI",
    0x0040A168: "SQ",
    0x0040A300: "SQ",
}
"""Where a content item has its value, by value type (PS3.3 table C.17.3-7)."""
_BLANKED = frozenset({"TEXT", "PNAME", "DATE", "TIME", "DATETIME"})
"""Value types whose items stay where the table removes them, with a dummy for a value: an item that
went would give all behind it other numbers, and a template less than it requires."""
_SEARCHED = frozenset(
    (
        *("LO", "SH", "ST", "LT", "UT", "UC", "PN", "CS", "AE", "UR", "IS", "DS"),
        *("AS", "TM", "UI", "OB", "OW", "UN"),
    )
)

_TEXT = 4
"""Bytes from which on numbers are looked at for text."""

# What is done with an element, whatever the reason.
KEEP: Final = 0
REMOVE: Final = 1
VALUE: Final = 2
UID: Final = 3
DATE: Final = 4
ZERO: Final = 5
DUMMY: Final = 6
ITEMS: Final = 7
CONTENT: Final = 8
SUBJECT: Final = 9
SPECIAL: Final = 10
"""Pixels, overlays and documents: replaced as the caller says, or removed."""
_NAMES = ("K", "X", "C", "U", "C", "Z", "D", "C", "C", "D", "C")

Special = Mapping[int, Parts]
"""New elements with their headers, by the identity of the element that they replace."""


class Rules:
    """How elements are treated under a profile; the same for all files."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._options = profile.settings.options
        self._found: dict[tuple[int, str], tuple[int, str]] = {}

    def of(self, tag: int, vr: str) -> tuple[int, str]:
        """Return what is done with an attribute, and the VR by which that is done."""
        key = (tag, vr)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._decide(tag, vr)
        return found

    def of_private(self, tag: int, vr: str, creator: str) -> tuple[int, str]:
        """Return the same for an element of a private block."""
        safe = is_safe(creator, tag)
        if not safe and self._options.unknown_private == "refused" and not is_known(creator):
            raise Unsafe("unknown-private-creator")
        if not safe or not self.profile.keeps_safe_private:
            return REMOVE, vr
        vr = vr or "UN"
        if vr in ("DA", "DT"):
            return (KEEP if self._options.dates == "kept" else DATE), vr
        return {"PN": ZERO, "UI": UID, "SQ": ITEMS}.get(vr, _searched(vr)), vr

    def _decide(self, tag: int, vr: str) -> tuple[int, str]:
        kind = _kind(tag, vr)
        action = self.profile.action(tag, vr)
        if action is Action.REMOVE:
            what = REMOVE
        elif tag in PIXELS or tag == DOCUMENT or (tag >> 24 == 0x60 and tag & 0xFFFF == 0x3000):
            what = SPECIAL
        elif action in (Action.ZERO, Action.DUMMY) and tag in (PATIENT_ID, PATIENT_NAME):
            what = SUBJECT
        elif kind == "SQ":
            what = self._of_sequence(tag, action)
        elif action is Action.UID or (action is Action.DUMMY and kind == "UI"):
            what = UID if kind == "UI" else DUMMY
        elif action in (Action.ZERO, Action.DUMMY):
            what = ZERO if action is Action.ZERO else DUMMY
        elif kind in ("DA", "DT"):
            what = DATE if action is Action.CLEAN and self._options.dates != "kept" else KEEP
        else:
            what = KEEP if self.profile.keeps_identity(tag) else _searched(kind)
        return what, kind

    def _of_sequence(self, tag: int, action: Action) -> int:
        if tag == _OBSERVERS and self._options.dates != "removed":
            # Each of its attributes has a row of its own; a dummy's date would break intervals.
            return ITEMS
        if action in (Action.ZERO, Action.DUMMY):
            return DUMMY if action is Action.DUMMY else ZERO
        is_content = tag in _CONTENT and self._options.clean_structured_content
        return CONTENT if is_content else ITEMS


@dataclass(slots=True)
class Level:
    """A data set or an item on its way, and what its elements have told so far."""

    scope: Elements
    charset: Charset
    dummy: bool = False
    """Whether its content item's value is replaced by a dummy."""
    creators: dict[int, str] = field(default_factory=dict)
    kept_blocks: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Top:
    """A data set's parts, and where in them each of its elements went."""

    parts: Parts
    marks: list[tuple[int, int, int]]
    """Of each element: where what was inserted before it begins, where it begins, and its end."""
    level: Level
    inserted: frozenset[int]


class Walk:
    """One file's elements on their way."""

    def __init__(
        self,
        data: Buffer,
        rules: Rules,
        values: Values,
        special: Special,
        actions: Counter[str],
        dropped: frozenset[int] = frozenset(),
        charset: Charset = (),
    ) -> None:
        """``charset`` is what the text has, if the data set declares another."""
        self._data = data
        self._rules = rules
        self._values = values
        self._special = special
        self._actions = actions
        self._dropped = dropped
        self._charset = charset
        self._private = rules.profile.keeps_safe_private
        self._counts = [0] * len(_NAMES)

    def top(self, dataset: Elements, inserted: Mapping[int, bytes]) -> Top:
        """Return the data set's parts, with whole elements of ours in their places."""
        parts, marks = Parts(), []
        level = Level(dataset, self._charset)
        waiting = iter(sorted(inserted.items()))
        due = next(waiting, None)
        for element in dataset.elements:
            before = parts.length
            while due is not None and due[0] <= element.tag:
                parts.put(due[1])
                due = next(waiting, None)
            own = parts.length
            if element.tag not in inserted:
                self.element(element, level, parts)
            marks.append((before, own, parts.length))
        while due is not None:
            parts.put(due[1])
            due = next(waiting, None)
        for index, count in enumerate(self._counts):
            self._actions[_NAMES[index]] += count
        return Top(parts, marks, level, frozenset(inserted))

    # ---- one level -----------------------------------------------------------------------------

    def element(self, element: Element, level: Level, parts: Parts) -> bool:
        """Collect what becomes of one element; return whether it differs."""
        tag = element.tag
        if tag >> 16 & 1:
            if level.kept_blocks is None:
                level.kept_blocks = self._kept_blocks(level)
            what, vr = self._of_private(element, level)
        elif tag >> 16 in self._dropped:
            what, vr = REMOVE, element.vr
        else:
            what, vr = self._rules.of(tag, element.vr)
            if tag == CHARSET:
                level.charset = parse_charset(self._raw(element))
        if level.dummy and tag in _CONTENT_VALUES:
            what, vr = DUMMY, _CONTENT_VALUES[tag]
        self._counts[what] += 1
        if what == REMOVE:
            return True
        if what != KEEP:
            return self._change(element, what, vr, level, parts)
        if element.items is None and element.fragments is None:
            if vr in PACKED and element.end - element.start >= _TEXT:
                # Too long for most numbers: letters may stand there instead.
                return self._change(element, VALUE, vr, level, parts)
            parts.take(element.header, element.after)
            return False
        # Items although the attribute is no sequence, or fragments although it is no pixels.
        if element.items is not None:
            self._sequence(element, level, parts, False)
        return True

    def _scope(self, scope: Elements, charset: Charset, parts: Parts, dummy: bool) -> bool:
        """Collect an item's parts; return whether any differs."""
        level = Level(scope, charset, dummy)
        changed = False
        for element in scope.elements:
            changed |= self.element(element, level, parts)
        return changed

    def _change(self, element: Element, what: int, vr: str, level: Level, parts: Parts) -> bool:
        tag, scope = element.tag, level.scope
        if what == VALUE and element.items is not None:
            what = ITEMS  # a sequence, whatever its attribute is
        if what in (ITEMS, CONTENT):
            return self._of_items(element, level, parts, what == CONTENT)
        if what == SPECIAL:
            replacement = self._special.get(id(element))
            if replacement is not None:
                parts.extend(replacement)
            return True
        if what == DUMMY:
            parts.put(dummies.encoded(tag, vr, scope.implicit, scope.little))
            return True
        new = self._new_value(element, what, vr, level)
        if new is None:
            parts.take(element.header, element.after)
            return False
        parts.put(encode(tag, element.vr if element.vr != "SQ" else vr, new, scope))
        return True

    def _new_value(self, element: Element, what: int, vr: str, level: Level) -> bytes | None:
        """Return an element's new value, None where the old one stays."""
        if what == ZERO or (what == VALUE and element.fragments is not None):
            return b""
        if what == SUBJECT:
            return self._values.subject.encode()
        raw = self._raw(element)
        if what == VALUE:
            return self._values.clean(raw, vr, level.charset)
        return self._values.uid(raw) if what == UID else self._values.date(raw, vr)

    def _of_items(self, element: Element, level: Level, parts: Parts, content: bool) -> bool:
        if element.items is not None:
            return self._sequence(element, level, parts, content)
        if element.end > element.start:
            return True  # an inside that can't be seen goes
        parts.take(element.header, element.after)
        return False

    def _sequence(self, element: Element, level: Level, parts: Parts, content: bool) -> bool:
        assert element.items is not None
        scope, charset = level.scope, level.charset
        body = Parts()
        last = element.items[-1] if element.items else None
        after = element.start if last is None else last.end + (8 if last.undefined else 0)
        changed = after != element.end  # bytes that are no item
        for item in element.items:
            end = item.end + (8 if item.undefined else 0)
            action = self._content_action(item, charset) if content else "C"
            if action == "X":
                changed = True
                continue
            inner = Parts()
            if not self._scope(item, charset, inner, action == "D") and _is_whole(item):
                body.take(item.start - 8, end)
                continue
            changed = True
            body.put(_item_header(ITEM, inner.length, item.little))
            body.extend(inner)
        if not changed:
            parts.take(element.header, element.after)
            return False
        if content and not body.length and element.items:
            return True  # nothing is left of a document's branch: Type 1C, so it goes
        vr = element.vr if element.vr in ("SQ", "UN") else "SQ"
        length = UNDEFINED if element.undefined else body.length
        parts.put(
            encode_header(element.tag, vr, length, implicit=scope.implicit, little=scope.little)
        )
        parts.extend(body)
        if element.undefined:
            parts.put(_item_header(SEQUENCE_END, 0, scope.little))
        return True

    def _content_action(self, item: Elements, charset: Charset) -> str:
        """Return what happens to a content item."""
        value_type = code = scheme = ""
        for element in item.elements:
            if element.tag == _VALUE_TYPE:
                value_type = decode(self._raw(element), charset).strip()
            elif element.tag == _CONCEPT and element.items:
                for inner in element.items[0].elements:
                    if inner.tag == _CODE:
                        code = decode(self._raw(inner), charset).strip()
                    elif inner.tag == _SCHEME:
                        scheme = decode(self._raw(inner), charset).strip()
        profile = self._rules.profile
        if not code:
            return "C"
        cleans_text = profile.settings.options.clean_descriptors
        action = concept_action(code, scheme, value_type, profile.options, cleans_text=cleans_text)
        return "D" if action == "X" and value_type in _BLANKED else action

    # ---- private blocks ------------------------------------------------------------------------

    def _kept_blocks(self, level: Level) -> frozenset[int]:
        """Note each block's creator (PS3.5 section 7.8.1); return the blocks that stay."""
        kept: set[int] = set()
        creators = level.creators
        for element in level.scope.elements:
            tag = element.tag
            if not tag >> 16 & 1:
                continue
            if 0x10 <= tag & 0xFFFF <= 0xFF:
                raw = self._raw(element).decode("latin-1").strip(" \0")
                creators[(tag & 0xFFFF0000) | (tag & 0xFF) << 8] = raw
            elif self._private and is_safe(creators.get(tag & 0xFFFFFF00, ""), tag):
                kept.add(tag & 0xFFFFFF00)
        return frozenset(kept)

    def _of_private(self, element: Element, level: Level) -> tuple[int, str]:
        tag, vr = element.tag, element.vr
        number = tag & 0xFFFF
        if 0x10 <= number <= 0xFF:
            stays = (tag & 0xFFFF0000) | number << 8 in (level.kept_blocks or ())
            return (KEEP if stays else REMOVE), vr
        if number < 0x1000:
            return REMOVE, vr
        if element.items is not None:
            vr = "SQ"
        return self._rules.of_private(tag, vr, level.creators.get(tag & 0xFFFFFF00, ""))

    def _raw(self, element: Element) -> bytes:
        return bytes(self._data[element.start : element.end])


def encode(tag: int, vr: str, value: bytes, scope: Elements) -> bytes:
    """Return a whole element, its value padded to an even length (PS3.5 section 6.2)."""
    if len(value) & 1:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    header = encode_header(tag, vr, len(value), implicit=scope.implicit, little=scope.little)
    return header + value


def _is_whole(item: Elements) -> bool:
    """Say whether an item's bytes are all those of its elements."""
    return (item.elements[-1].after if item.elements else item.start) == item.end


def _item_header(tag: int, length: int, little: bool) -> bytes:
    return encode_header(tag, "", length, implicit=True, little=little)


def _searched(vr: str) -> int:
    return VALUE if vr in _SEARCHED else KEEP


@lru_cache(maxsize=65536)
def _kind(tag: int, given: str) -> str:
    """Return the value representation that counts: the dictionary's, unless the file has items."""
    if given == "SQ":
        return given
    known = vr_of(tag)
    if not known:
        return given or "UN"
    if len(known) == 2:
        return known
    return "OW" if "OW" in known else given or "UN"
