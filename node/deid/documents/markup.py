"""All text of an XML tree cleaned, and what identifies only across the borders of its elements."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from node.deid.documents.document import Cleaner

_INLINE = frozenset({
    "content", "sub", "sup", "b", "i", "u", "em", "strong", "span", "font", "a", "linkHtml",
    "footnoteRef",
})  # fmt: skip
MASK = "***"


class Places:
    """A tree's texts in the order of reading, each with its place in them joined.

    Elements end a line, unless they are only of style: a name may be half bold, or have its family
    and given part in two cells of a table.
    """

    def __init__(self, root: Any) -> None:
        self._places: list[tuple[int, Any, bool]] = []
        self._joined: list[str] = []
        self._length = 0
        self._walk(root)

    def _add(self, element: Any, is_tail: bool) -> None:
        text = (element.tail if is_tail else element.text) or ""
        if not text.strip():
            if text:
                self._separate(" ")
            return
        self._places.append((self._length, element, is_tail))
        self._joined.append(text)
        self._length += len(text)

    def _separate(self, sign: str) -> None:
        if self._joined and self._joined[-1] not in ("\n", sign):
            self._joined.append(sign)
            self._length += 1

    def _walk(self, root: Any) -> None:
        stack: list[tuple[Any, bool]] = [(root, False)]
        while stack:
            element, is_left = stack.pop()
            inline = isinstance(element.tag, str) and local_name(element.tag) in _INLINE
            if not inline:
                self._separate("\n")
            if is_left:
                if element is not root:
                    self._add(element, True)
                continue
            self._add(element, False)
            stack.append((element, True))
            stack.extend((child, False) for child in reversed(element))

    def clean(self, matcher: Cleaner) -> int:
        """Clean every text of the tree; return how many were changed."""
        joined = "".join(self._joined)
        texts = [text for _, element, tail in self._places if (text := _text(element, tail))]
        for start, stop in reversed(matcher.spans(joined)):
            self._mask_across(texts, start, stop)
        changed = 0
        seen: dict[str, str] = {}
        for (_, element, tail), text in zip(self._places, texts, strict=True):
            if text not in seen:
                seen[text] = xml_text(matcher.clean(text))
            changed += seen[text] != _text(element, tail)
            if tail:
                element.tail = seen[text]
            else:
                element.text = seen[text]
        return changed

    def _mask_across(self, texts: list[str], start: int, stop: int) -> None:
        """Mask a span in each of the texts that it is in, if it is in several."""
        first = max(0, bisect_right(self._places, start, key=lambda place: place[0]) - 1)
        if self._stop(first) >= stop:
            return
        for index in range(first, len(self._places)):
            offset = self._places[index][0]
            if offset >= stop:
                break
            begin, end = max(start - offset, 0), stop - offset
            if self._stop(index) > start:
                texts[index] = texts[index][:begin] + MASK + texts[index][end:]

    def _stop(self, index: int) -> int:
        offset, element, tail = self._places[index]
        return offset + len(_text(element, tail))


def _text(element: Any, tail: bool) -> str:
    return str((element.tail if tail else element.text) or "")


def local_name(tag: str) -> str:
    """Return a tag's or attribute's name without its namespace."""
    return tag.rpartition("}")[2]


def xml_text(text: str) -> str:
    """Return ``text`` without what XML 1.0 doesn't allow in it."""
    if text.isprintable():
        return text
    return "".join(
        sign
        for sign in text
        if sign in "\t\n\r"
        or (sign >= " " and not "\ud800" <= sign <= "\udfff" and sign not in "\ufffe\uffff")
    )
