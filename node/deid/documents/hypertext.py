"""The words of an HTML page, read in one pass: each byte once, whatever a stranger wrote.

Tags are taken off as the HTML Standard's tokenizer (section 13.2.5) would see them. What is never
closed (a tag, a comment, a script) is left out to the end of the page.
"""

from __future__ import annotations

import html
import re

_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "br", "caption", "dd", "div", "dl", "dt", "footer",
    "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "ol", "p", "pre",
    "section", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
})  # fmt: skip
_HIDDEN = frozenset({"head", "template"})
_RAW = frozenset({"script", "style", "title", "noscript", "iframe", "xmp", "noembed", "textarea"})
"""Elements whose content has no tags; what they hold isn't shown as a page's words."""
_TAG = re.compile(r"</?([a-zA-Z][^\s/>]*)")
_EDGE = re.compile("[>\"']")


def html_text(text: str) -> str:
    """Return an HTML page's words; a line ends where a block does."""
    words = "".join(_words(text))
    return re.sub(r"[ \t]*\n\s*", "\n", words).strip()


def _words(text: str) -> list[str]:
    low = text.lower()
    found: list[str] = []
    hidden = position = 0
    while position < len(text):
        start = text.find("<", position)
        end = len(text) if start < 0 else start
        if end > position and not hidden:
            found.append(html.unescape(text[position:end]))
        if start < 0:
            break
        tag = _TAG.match(text, start)
        if tag is not None:
            name, closes = tag[1].lower(), text[start + 1] == "/"
            position = _tag_end(text, tag.end())
            if name in _BLOCKS:
                found.append("\n")
            if name in _HIDDEN:
                hidden = max(0, hidden + (-1 if closes else 1))
            elif name == "body":
                hidden = 0
            elif name in _RAW and not closes:
                position = _after(low, f"</{name}", position, back=True)
        elif text.startswith("<!--", start):
            position = _after(text, "-->", start + 4)
        elif text[start + 1 : start + 2] in ("!", "?", "/"):
            position = _after(text, ">", start + 2)
        else:
            if not hidden:
                found.append("<")
            position = start + 1
    return found


def _tag_end(text: str, position: int) -> int:
    """Return where a tag ends: at the first > outside of an attribute's quotes."""
    while True:
        edge = _EDGE.search(text, position)
        if edge is None:
            return len(text)
        position = edge.end()
        if edge[0] == ">":
            return position
        if text[max(0, edge.start() - 8) : edge.start()].rstrip().endswith("="):
            position = _after(text, edge[0], position)


def _after(text: str, mark: str, position: int, *, back: bool = False) -> int:
    """Return where ``mark`` ends (``back``: begins), or the text."""
    found = text.find(mark, position)
    return len(text) if found < 0 else found if back else found + len(mark)
