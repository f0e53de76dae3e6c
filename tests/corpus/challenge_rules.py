"""How the MIDI-B challenge's published validation reads a file and compares text.

Learnt of its scripts, version 3.14: an attribute is known by its path, items by their number; its
value is pydicom's text of it. An answer's text is cut into words as NLTK's ``word_tokenize`` does,
which cuts at blanks and most signs, but at no hyphen, slash or circumflex; a word counts where it
is any part of the value. Numbers are compared as numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

STOP_WORDS = frozenset(
    """
    i me my myself we our ours ourselves you you're you've you'll you'd your yours yourself
    yourselves he him his himself she she's her hers herself it it's its itself they them their
    theirs themselves what which who whom this that that'll these those am is are was were be been
    being have has had having do does did doing a an the and but if or because as until while of at
    by for with about against between into through during before after above below to from up down
    in out on off over under again further then once here there when where why how all any both
    each few more most other some such no nor not only own same so than too very s t can will just
    don don't should should've now d ll m o re ve y ain aren aren't couldn couldn't didn didn't
    doesn doesn't hadn hadn't hasn hasn't haven haven't isn isn't ma mightn mightn't mustn mustn't
    needn needn't shan shan't shouldn shouldn't wasn wasn't weren weren't won won't wouldn wouldn't
    """.split()  # noqa: SIM905
)
_SIGNS = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~“”‘’•") | {"``", "''"}
_APART = (
    (re.compile(r"([«“‘„»”’])"), r" \1 "),
    (re.compile(r'"'), " '' "),
    (re.compile(r"([:,])([^\d])"), r" \1 \2"),
    (re.compile(r"([:,])$"), r" \1 "),
    (re.compile(r"\.\.+"), r" \g<0> "),
    (re.compile(r"[;@#$%&?!*\]\[(){}<>]"), r" \g<0> "),
    (re.compile(r"([^.])(\.)([\])}>\"' ]*)\s*$"), r"\1 \2 \3 "),
    (re.compile(r"([^'])' "), r"\1 ' "),
    (re.compile(r"--"), " -- "),
    (re.compile(r"('(?:s|m|d|ll|re|ve)|n't)(?= |$)"), r" \1 "),
)
_UNREAD = ("Pixel Data", "Overlay Data", "File Meta Information Version")


def flat(dataset: Any, above: str = "") -> dict[str, str]:
    """Return every attribute's text by its path: tags and numbers of items, "/" between them."""
    found: dict[str, str] = {}
    for tag in sorted(dataset.keys()):
        try:
            element = dataset[tag]
            text = "" if element.value is None else str(element.value).strip()
        except Exception:
            continue
        path = f"{above}{_name(element)}"
        found[path] = "" if element.name in _UNREAD else text
        if element.VR == "SQ":
            for number, item in enumerate(element.value):
                found |= flat(item, f"{path}[{number}]/")
    return found


def _name(element: Any) -> str:
    tag = element.tag
    if tag.is_private and element.private_creator:
        creator = element.private_creator.replace("/", "|")
        return f"{tag.group:04X}xx{tag.element & 0xFF:02X}@{creator}"
    return f"{tag.group:04X}{tag.element:04X}"


def place(path: str) -> str:
    """Return a path without its items' numbers."""
    return re.sub(r"\[\d+\]", "", path)


def words(text: str) -> list[str]:
    """Return the words of a folded text, without stop words and signs."""
    for pattern, apart in _APART:
        text = pattern.sub(apart, text)
    return [word for word in text.split() if word not in STOP_WORDS and word not in _SIGNS]


def gone(value: str, answer: str) -> bool:
    """Say whether no word of the answer is part of the value."""
    value, answer = _plain(value), _plain(answer)
    if _is_number(value) and _is_number(answer):
        return float(value) != float(answer)
    return answer not in value and not any(word in value for word in words(answer))


def retained(value: str, answer: str) -> bool:
    """Say whether every word of the answer is part of the value."""
    value, answer = _plain(value), _plain(answer)
    if _is_number(value) and _is_number(answer):
        return float(value) == float(answer)
    return answer in value or all(word in value for word in words(answer))


def paths_of(texts: dict[str, str], wanted: str, holding: Iterable[str] = ()) -> list[str]:
    """Return the paths at a place whose text holds all of some strings, else all paths there."""
    every = [path for path in texts if place(path) == wanted]
    return [p for p in every if all(h.casefold() in _plain(texts[p]) for h in holding)] or every


def _plain(text: str) -> str:
    return text.replace("<", "").replace(">", "").casefold()


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
