"""A score in the manner of the MIDI-B challenge: passed actions of ten kinds, over all actions.

Learnt of the challenge's published validation: a removed text fails if any of its words (stop
words and punctuation aside) is still a part of the value; a retained one passes if all are, or if
both are the same number; a missing attribute passes what wants removal and fails what wants
retention; a missing file likewise; consistency compares with the tool's own mapping, made here of
most files' answers; retained pixels are the same MD5 of the stored pixel data.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from tests.corpus.agreement import names_class
from tests.corpus.key import Key, Plant
from tests.corpus.patients import normal
from tests.corpus.pixels import PIXELS, both, digest
from tests.corpus.retention import must_keep
from tests.corpus.sources import REAL_TEXT

if TYPE_CHECKING:
    from tests.corpus.score import Pair, Result

_STOP = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "been",
        "by",
        "can",
        "did",
        "do",
        "for",
        "from",
        "had",
        "has",
        "have",
        "he",
        "her",
        "his",
        "i",
        "in",
        "is",
        "it",
        "me",
        "mr",
        "mrs",
        "no",
        "not",
        "of",
        "on",
        "or",
        "our",
        "she",
        "so",
        "than",
        "that",
        "the",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "too",
        "up",
        "was",
        "we",
        "were",
        "what",
        "when",
        "which",
        "who",
        "why",
        "will",
        "with",
        "you",
        "your",
    ]
)
_NOT_NULL = ("00080016", "00080060", "00100010", "00100020", "00080018", "0020000D", "0020000E")
_TEXT = frozenset(["free text", "unlisted attributes", "nested items", "standard"])
_DATE = re.compile(
    r"(?:19|20)\d{6}(?:\d{6}.*)?|\d{1,2}[-/. ]\d{1,2}[-/. ]\d{4}|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}"
    r"|[A-Z][a-z]{2,8} \d{1,2}, \d{4}|\d{1,2}[- ][A-Za-z]{3,9}[- ]\d{4}|\d{4}.\d{1,2}.\d{1,2}."
)
_UID = re.compile(r"[0-2](\.\d+){5,}")


def check(key: Key, paired: list[Pair], result: Result) -> None:
    """Add the section ``challenge``."""
    plants: dict[int, list[Plant]] = defaultdict(list)
    for plant in key.plants:
        plants[plant.file].append(plant)
    boxed = {box.file for box in key.boxes if box.place == "pixels"}
    boxed |= {plant.file for plant in key.plants if plant.place == "7FE00010"}
    identifiers, uids = _mappings(paired)
    kept = {(w.file, w.place): w.words for w in key.words}
    for pair in paired:
        if pair.file.patient < 0:
            continue
        _text(pair, plants[pair.file.number], kept, result)
        _dates_and_uids(pair, uids, result)
        before = pair.before.values
        new = pair.after.values if pair.after else {}
        planted = {plant.place for plant in plants[pair.file.number]}
        for place in must_keep(pair.before):
            if place in planted:
                continue
            name = f"{pair} {place}"
            result.count("challenge", "tag_retained", place in new, name)
            good = retained(new.get(place, []), " ".join(before[place]))
            result.count("challenge", "text_retained", good, f"{name}: {new.get(place)}")
        for place in _NOT_NULL:
            if before.get(place):
                result.count("challenge", "text_notnull", bool(new.get(place)), f"{pair} {place}")
        given = (new.get("00100020") or [""])[0].strip()
        wanted = identifiers.get((before.get("00100020") or [""])[0].strip(), "")
        line = f"{pair}: {given}, not {wanted}"
        result.count("challenge", "patid_consistent", bool(given) and given == wanted, line)
        free = pair.file.number not in boxed and pair.file.source not in REAL_TEXT
        if free and any(n in pair.before.dataset for n in PIXELS):
            good = pair.after is not None and digest(pair.before.dataset) == digest(
                pair.after.dataset
            )
            result.count("challenge", "pixels_retained", good, str(pair))
    for box in key.boxes:
        if box.place == "pixels" and not box.harmless:
            pair = next(p for p in paired if p.file.number == box.file)
            hidden = pair.after is None or _changed(pair, box.box, max(box.frame, 0))
            result.count("challenge", "pixels_hidden", hidden, f"{pair} {box.text!r}")


def _text(
    pair: Pair, plants: list[Plant], kept: dict[tuple[int, str], tuple[str, ...]], result: Result
) -> None:
    new = pair.after.values if pair.after else {}
    for plant in plants:
        if plant.category in _TEXT and not _UID.fullmatch(plant.value):
            values = new.get(plant.place, [])
            line = f"{pair} {plant.place}: {plant.value!r} in {str(values)[:90]}"
            if _DATE.fullmatch(plant.value):
                # A date that was moved shares some of its numbers with what it was.
                good = plant.value.casefold() not in " ".join(values).casefold()
                result.count("challenge", "text_removed", good, line)
                continue
            telling = " ".join(w for w in plant.value.split() if _tells(w, plant))
            result.count("challenge", "text_removed", gone(values, telling), line)
    for (number, place), words in kept.items():
        if number == pair.file.number:
            values = new.get(place, [])
            line = f"{pair} {place}: {words} in {str(values)[:90]}"
            result.count("challenge", "text_retained", retained(values, " ".join(words)), line)


def _tells(word: str, plant: Plant) -> bool:
    """Say whether a word of a planted value is a part of what identifies."""
    plain = normal(word)
    return len(plain) > 1 and any(plain in token or token in plain for token in plant.tokens)


def _dates_and_uids(pair: Pair, uids: dict[str, str], result: Result) -> None:
    new = pair.after.values if pair.after else {}
    for place, vr in pair.before.representations.items():
        old = pair.before.values.get(place, [])
        if "@" in place or not old or vr not in ("DA", "DT", "UI"):
            continue
        text = "".join(new.get(place, []))
        line = f"{pair} {place}: {text[:80]}"
        if vr != "UI":
            result.count("challenge", "date_shifted", "".join(old) not in text, line)
        elif not old[0].startswith("1.2.840.10008.") and not names_class(place):
            result.count("challenge", "uid_changed", "".join(old) not in text, line)
            good = pair.after is not None and (
                place not in new or len(old) > 1 or new[place] == [uids.get(old[0], "")]
            )
            result.count("challenge", "uid_consistent", good, line)


def gone(values: list[str], answer: str) -> bool:
    """Say whether no word of the answer is part of the values."""
    text, wanted = " ".join(values).casefold(), answer.casefold()
    if not text:
        return True
    if _is_number(text) and _is_number(wanted):
        return float(text) != float(wanted)
    return wanted not in text and not any(word in text for word in _words(wanted))


def retained(values: list[str], answer: str) -> bool:
    """Say whether every word of the answer is part of the values."""
    text, wanted = " ".join(values).casefold(), answer.casefold()
    if not text:
        return False
    if _is_number(text) and _is_number(wanted):
        return float(text) == float(wanted)
    return wanted in text or all(word in text for word in _words(wanted))


def _words(text: str) -> list[str]:
    found = re.findall(r"\w[\w.'-]*\w|\w|\^", text)
    return [word for word in found if word not in _STOP and word != "^"]


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def _mappings(paired: list[Pair]) -> tuple[dict[str, str], dict[str, str]]:
    """Return what most files say each Patient ID and UID became."""
    identifiers: dict[str, Counter[str]] = defaultdict(Counter)
    uids: dict[str, Counter[str]] = defaultdict(Counter)
    for pair in paired:
        if pair.after is None:
            continue
        for place, values in pair.before.values.items():
            new = pair.after.values.get(place, [])
            if place == "00100020" and values:
                identifiers[values[0].strip()][(new or [""])[0].strip()] += 1
            elif pair.before.representations.get(place) == "UI" and len(values) == len(new):
                for a, b in zip(values, new, strict=True):
                    uids[a][b] += 1
    return (
        {old: found.most_common(1)[0][0] for old, found in identifiers.items()},
        {old: found.most_common(1)[0][0] for old, found in uids.items()},
    )


def _changed(pair: Pair, box: tuple[int, int, int, int], frame: int) -> bool:
    from tests.corpus.pixels import _likeness

    assert pair.after is not None
    left, top, right, bottom = box
    try:
        old, new = both(pair)
        area = (frame, slice(top, bottom), slice(left, right))
        return old.shape == new.shape and _likeness(old[area], new[area]) < 0.3
    except Exception:
        return True
