"""A score in the manner of the MIDI-B challenge: passed actions of ten kinds, over all actions.

As its published validation has it (``challenge_rules``): a missing attribute passes what wants
removal or another value, and fails what wants retention; so does a missing file, and one without
the prefix of Part 10 is missing; consistency compares with the tool's own mapping, made here of
most files' answers; retained pixels are the same MD5 of the stored pixel data. Its reports count by
series, too: there an action passes if it does in every instance of the series.

An answer key for removed text lists identifiers as they stand there, dates in text among them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.corpus.agreement import names_class
from tests.corpus.challenge_rules import flat, gone, paths_of, place, retained, words
from tests.corpus.key import Key, Plant, Words
from tests.corpus.pixels import PIXELS, both, digest
from tests.corpus.retention import must_keep
from tests.corpus.sources import REAL_TEXT

if TYPE_CHECKING:
    from tests.corpus.score import Pair, Result

_NOT_NULL = ("00080016", "00080060", "00100010", "00100020", "00080018", "0020000D", "0020000E")
_NOT_ELEMENTS = ("path", "preamble", "trailing", "7FE00010")


@dataclass
class Case:
    """One file's texts by path, before and after, and its actions by series."""

    pair: Pair
    result: Result
    by_series: dict[tuple[str, ...], list[bool]]
    old: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.old = flat(self.pair.before.dataset)
        after = self.pair.after
        target = self.pair.target
        if after is not None and target is not None and _is_part_10(target):
            self.new = flat(after.dataset)

    def check(self, action: str, path: str, passed: bool) -> None:
        line = f"{self.pair} {path}: {self.old.get(path, '')[:70]!r} -> {self.new.get(path)!r:.90}"
        self.result.count("challenge", action, passed, line)
        series = [self.old.get(tag, "") for tag in ("00100020", "0020000D", "0020000E")]
        self.by_series[(action, path, *series)].append(passed)


def check(key: Key, paired: list[Pair], result: Result) -> None:
    """Add the sections ``challenge`` and ``challenge by series``."""
    plants: dict[int, list[Plant]] = defaultdict(list)
    for plant in key.plants:
        plants[plant.file].append(plant)
    kept: dict[int, list[Words]] = defaultdict(list)
    for some in key.words:
        kept[some.file].append(some)
    boxed = {box.file for box in key.boxes if box.place == "pixels"}
    boxed |= {plant.file for plant in key.plants if plant.place == "7FE00010"}
    by_series: dict[tuple[str, ...], list[bool]] = defaultdict(list)
    cases = [Case(pair, result, by_series) for pair in paired if pair.file.patient >= 0]
    identifiers, uids = _mappings(cases)
    for case in cases:
        number = case.pair.file.number
        _texts(case, plants[number], kept[number])
        _kept(case, {plant.place for plant in plants[number]})
        _dates_and_uids(case, uids)
        case.check("patid_consistent", "00100020", _is_consistent(case, "00100020", identifiers))
        free = number not in boxed and case.pair.file.source not in REAL_TEXT
        before = case.pair.before.dataset
        if free and any(name in before for name in PIXELS):
            after = case.pair.after
            same = bool(case.new) and after is not None and digest(before) == digest(after.dataset)
            case.check("pixels_retained", "7FE00010", same)
        for box in key.boxes:
            if box.place == "pixels" and not box.harmless and box.file == number:
                hidden = not case.new or _changed(case.pair, box.box, max(box.frame, 0))
                case.check("pixels_hidden", f"7FE00010 {box.text!r}", hidden)
    for name, passed in by_series.items():
        result.count("challenge by series", name[0], all(passed), " ".join(name[1:]))


def _texts(case: Case, plants: list[Plant], kept: list[Words]) -> None:
    for plant in plants:
        if plant.place in _NOT_ELEMENTS or plant.place.startswith("meta:"):
            continue
        if not words(plant.value.casefold()) or case.pair.before.representations.get(
            plant.place
        ) in ("DA", "DT", "UI", "OB", "OW", "UN"):
            continue
        for path in paths_of(case.old, plant.place, [plant.value]):
            passed = gone(case.new.get(path, ""), plant.value)
            case.check("text_removed", path, passed)
    for some in kept:
        if case.pair.before.representations.get(some.place) in ("OB", "OW", "UN"):
            continue
        wanted = " ".join(some.words)
        paths = paths_of(case.old, some.place, some.words)
        good = [bool(v := case.new.get(path, "")) and retained(v, wanted) for path in paths]
        if not all(
            word.casefold() in case.old[path].casefold() for path in paths for word in some.words
        ):
            # It can't be read before: any of the place's items may be the one.
            paths, good = paths[:1], [any(good)]
        for path, passed in zip(paths, good, strict=True):
            case.check("text_retained", path, passed)


def _kept(case: Case, planted: set[str]) -> None:
    wanted = set(must_keep(case.pair.before)) - planted
    for path, value in case.old.items():
        if value and place(path) in wanted:
            case.check("tag_retained", path, path in case.new)
            new = case.new.get(path, "")
            case.check("text_retained", path, bool(new) and retained(new, value))
        if value and path in _NOT_NULL:
            case.check("text_notnull", path, bool(case.new.get(path)))


def _dates_and_uids(case: Case, uids: dict[str, str]) -> None:
    for path, old in case.old.items():
        vr = case.pair.before.representations.get(place(path))
        if "@" in path or not old or vr not in ("DA", "DT", "UI"):
            continue
        new = case.new.get(path, "")
        if vr != "UI":
            case.check("date_shifted", path, _bare(old) not in _bare(new))
        elif not old.startswith(("1.2.840.10008.", "[")) and not names_class(place(path)):
            case.check("uid_changed", path, _bare(old) not in _bare(new))
            case.check("uid_consistent", path, _is_consistent(case, path, uids))


def _is_consistent(case: Case, path: str, mapping: dict[str, str]) -> bool:
    if not case.new:
        return False
    return path not in case.new or case.new[path] == mapping.get(case.old.get(path, ""), "")


def _is_part_10(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _bare(text: str) -> str:
    return text.replace("<", "").replace(">", "").replace("\\", "")


def _mappings(cases: list[Case]) -> tuple[dict[str, str], dict[str, str]]:
    """Return what most files say each Patient ID and UID became."""
    identifiers: dict[str, Counter[str]] = defaultdict(Counter)
    uids: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        if "00100020" in case.new:
            identifiers[case.old.get("00100020", "")][case.new["00100020"]] += 1
        for path, old in case.old.items():
            if case.pair.before.representations.get(place(path)) == "UI" and path in case.new:
                uids[old][case.new[path]] += 1
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
