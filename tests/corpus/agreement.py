"""Pseudonyms, UIDs and dates of a de-identified corpus: the same everywhere, intervals kept."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from datetime import date, timedelta
from typing import TYPE_CHECKING

from pydicom.datadict import keyword_for_tag
from pydicom.uid import UID, UID_dictionary

from tests.corpus.listed import basic_actions

if TYPE_CHECKING:
    from tests.corpus.score import Pair, Result

_UID_TEXT = re.compile(r"(?<![\d.])[0-2](?:\.(?:0|[1-9]\d*)){5,}(?![\d.])")


def check(paired: list[Pair], result: Result) -> None:
    """Add the sections ``consistent`` and ``declared``."""
    present = [p for p in paired if p.after is not None]
    subjects(present, result)
    mapping = uids(present, result)
    uids_in_text(present, mapping, result)
    dates(present, result)
    for pair in present:
        declared(pair, result)


def subjects(paired: list[Pair], result: Result) -> None:
    """One pseudonym for each patient, whatever the character set or the padding."""
    given: dict[int, Counter[str]] = defaultdict(Counter)
    for pair in paired:
        given[pair.file.patient][_first(pair, "00100020")] += 1
    common = {index: names.most_common(1)[0][0] for index, names in given.items()}
    for pair in paired:
        mine, old = _first(pair, "00100020"), pair.before.values.get("00100020", [""])[0]
        others = {name for index, name in common.items() if index != pair.file.patient}
        if pair.file.patient < 0:
            continue
        good = bool(mine) and mine == common[pair.file.patient] and mine not in others
        line = f"{pair}: {old!r} -> {mine!r}, mostly {common[pair.file.patient]!r}"
        result.count("consistent", "pseudonyms", good and mine != old.strip(), line)


def uids(paired: list[Pair], result: Result) -> dict[str, str]:
    """Every instance UID replaced by one other, in all files and references."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    places: list[tuple[Pair, str, list[str], list[str]]] = []
    for pair in paired:
        assert pair.after is not None
        for place, vr in pair.before.representations.items():
            old = [v for v in pair.before.values.get(place, []) if _is_instance(v)]
            if vr != "UI" or not old or "@" in place or names_class(place):
                continue
            new = [v for v in pair.after.values.get(place, []) if v]
            if "/" not in place and len(old) == len(new):
                for a, b in zip(old, new, strict=True):
                    seen[a][b] += 1
            places.append((pair, place, old, new))
    mapping = {old: counts.most_common(1)[0][0] for old, counts in seen.items()}
    users = Counter(mapping.values())
    for pair, place, old, new in places:
        if not new:
            if _must_stay(place):
                result.count("consistent", "UIDs", False, f"{pair} {place}: {old[0]} is gone")
            continue
        if len(old) == len(new):
            for a, b in zip(old, new, strict=True):
                good = a != b and UID(b).is_valid and mapping.setdefault(a, b) == b
                good = good and users[b] <= 1
                result.count("consistent", "UIDs", good, f"{pair} {place}: {a} -> {b}")
        else:
            good = all(b in mapping.values() for b in new)
            result.count("consistent", "UIDs", good, f"{pair} {place}: {len(old)} -> {len(new)}")
    return mapping


def uids_in_text(paired: list[Pair], mapping: dict[str, str], result: Result) -> None:
    """UIDs that text mentions are replaced by what replaces them elsewhere."""
    for pair in paired:
        assert pair.after is not None
        for place, values in pair.before.values.items():
            if pair.before.representations.get(place) in ("LO", "LT", "ST", "UT", "UC"):
                for uid in _UID_TEXT.findall(" ".join(values)):
                    if uid in mapping:
                        text = " ".join(pair.after.values.get(place, []))
                        line = f"{pair} {place}: {text[:80]}"
                        result.count("consistent", "UIDs in text", mapping[uid] in text, line)


def dates(paired: list[Pair], result: Result) -> None:
    """All dates of one patient moved by the same number of days."""
    moved: dict[int, list[tuple[Pair, str, int | None]]] = defaultdict(list)
    for pair in paired:
        assert pair.after is not None
        # A birth date goes, wherever it stands: it must not tell the age in days.
        birth = (pair.before.values.get("00100030") or [""])[0]
        for place, vr in pair.before.representations.items():
            if vr not in ("DA", "DT") or place == "00100030":
                continue
            old, new = pair.before.values[place], pair.after.values.get(place, [])
            if not any(_day(v) for v in old) or (_is_private(place) and not new):
                continue
            if len(old) != len(new):
                moved[pair.file.patient].append((pair, place, None))
                continue
            for a, b in zip(old, new, strict=True):
                before, after = _day(a), _day(b)
                if before and not (a == birth and a != b):
                    moved[pair.file.patient].append(
                        (pair, place, (after - before).days if after else None)
                    )
    for patient, found in moved.items():
        days = Counter(d for _, _, d in found if d is not None)
        common = days.most_common(1)[0][0] if days else 0
        for pair, place, offset in found:
            line = f"{pair} {place}: {offset} days, mostly {common}"
            if offset is None:
                result.count("kept", "dates", False, f"{pair} {place}")
                continue
            result.count("kept", "dates", True)
            if patient >= 0:
                result.count("consistent", "intervals", offset == common, line)


def declared(pair: Pair, result: Result) -> None:
    """The file says what was done (PS3.15 section E.1.1, PS3.3 C.7.1.1, C.12.1.1)."""
    assert pair.after is not None
    if "00041220" in pair.after.representations:
        return
    values = pair.after.values
    wanted = {
        "PatientIdentityRemoved": values.get("00120062") == ["YES"],
        "DeidentificationMethod": bool(values.get("00120063")),
        "DeidentificationMethodCodeSequence": bool(values.get("00120064/00080100")),
        "LongitudinalTemporalInformationModified": values.get("00280303", [""])[0]
        in ("REMOVED", "MODIFIED", "UNMODIFIED"),
    }
    for name, good in wanted.items():
        result.count("declared", name, good, str(pair))


def names_class(place: str) -> bool:
    """Say whether the attribute's UIDs name classes, syntaxes or codes, not instances."""
    keyword = keyword_for_tag(int(place.rsplit("/", maxsplit=1)[-1], 16))
    kinds = ("SOPClass", "TransferSyntax", "CodingSchemeUID", "ContextUID", "MappingResource")
    return any(kind in keyword for kind in kinds)


def _must_stay(place: str) -> bool:
    """Say whether no level of the place is one that the standard lets a tool remove."""
    return not any("X" in basic_actions().get(level, "") for level in place.split("/"))


def _first(pair: Pair, place: str) -> str:
    assert pair.after is not None
    return (pair.after.values.get(place) or [""])[0].strip()


def _is_instance(value: str) -> bool:
    """Say whether a UID names something of a hospital's; "0" stands for none."""
    return value not in (*UID_dictionary, "0") and not value.startswith("1.2.840.10008.")


def _is_private(place: str) -> bool:
    return "@" in place or "xx" in place


def _day(value: str) -> date | None:
    digits = value[:8]
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) + timedelta(0)
    except ValueError:
        return None
