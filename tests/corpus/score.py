"""Compare a de-identified folder with its corpus and key: what is gone, and what is still there."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.corpus.key import File, Key, Plant
from tests.corpus.patients import normal
from tests.corpus.search import Haystack, haystack


@dataclass
class Category:
    """One line of the result."""

    name: str
    passed: int = 0
    total: int = 0
    failures: list[str] = field(default_factory=list)

    def count(self, passed: bool, failure: str) -> None:
        self.total += 1
        self.passed += bool(passed)
        if not passed:
            self.failures.append(failure)

    @property
    def percent(self) -> float:
        return 100.0 * self.passed / self.total if self.total else 100.0


@dataclass
class Result:
    """All lines, by section: removed, kept, consistent, challenge, conformance."""

    sections: dict[str, dict[str, Category]] = field(default_factory=lambda: defaultdict(dict))

    def count(self, section: str, name: str, passed: bool, failure: str = "") -> None:
        lines = self.sections[section]
        lines.setdefault(name, Category(name)).count(passed, failure)

    def percent(self, section: str, name: str | None = None) -> float:
        """Return per cent passed in a section or one of its lines; 100 of nothing."""
        lines = self.sections.get(section, {})
        picked = [lines[name]] if name in lines else [] if name else list(lines.values())
        total = sum(line.total for line in picked)
        return 100.0 * sum(line.passed for line in picked) / total if total else 100.0

    def failures(self, section: str, name: str | None = None) -> list[str]:
        lines = self.sections.get(section, {})
        return [f for n, line in lines.items() if name in (None, n) for f in line.failures]

    def as_json(self) -> dict[str, Any]:
        return {
            section: {
                "percent": round(self.percent(section), 3),
                "categories": {
                    n: {"passed": c.passed, "total": c.total, "percent": round(c.percent, 3),
                        "failures": c.failures}
                    for n, c in lines.items()
                },
            }
            for section, lines in self.sections.items()
        }  # fmt: skip


@dataclass
class Pair:
    """An input file and what became of it; ``after`` is None when it is lost."""

    file: File
    before: Haystack
    after: Haystack | None
    source: Path
    target: Path | None

    def __str__(self) -> str:
        return f"{self.file.number} ({self.file.source}, patient {self.file.patient})"


def score(source: Path, key: Key, target: Path, *, conformance: bool = True) -> Result:
    """Return the result of the de-identified ``target``, made from ``source``."""
    from tests.corpus import agreement, challenge, conform, pixels

    result = Result()
    paired = list(pairs(source, key, target))
    for pair in paired:
        result.count("files", "not lost", pair.after is not None, str(pair))
    removed(key, paired, target, result)
    kept(key, paired, result)
    agreement.check(paired, result)
    pixels.check(key, paired, result)
    challenge.check(key, paired, result)
    if conformance:
        conform.check(paired, result)
    return result


def pairs(source: Path, key: Key, target: Path) -> Iterator[Pair]:
    """Find each input's output: by Instance Number, else by its class (directories) or path."""
    outputs: dict[int, tuple[Path, Haystack]] = {}
    directories: list[tuple[Path, Haystack]] = []
    for path in sorted(p for p in target.rglob("*") if p.is_file()):
        if path.suffix in (".json", ".txt", ".log", ".csv", ".html"):
            continue
        try:
            found = haystack(path)
        except Exception:
            continue
        if "00041220" in found.representations:
            directories.append((path, found))
            continue
        number = found.values.get("00200013", [""])[:1]
        if number and number[0].strip().isdigit():
            outputs[int(number[0])] = (path, found)
        else:
            relative = path.relative_to(target)
            for file in key.files:
                if file.path == str(relative):
                    outputs.setdefault(file.number, (path, found))
    for file in key.files:
        path = source / file.path
        before = haystack(path)
        after: tuple[Path, Haystack] | None = outputs.get(file.number)
        if after is None and "00041220" in before.representations and directories:
            after = directories.pop(0)
        yield Pair(file, before, after and after[1], path, after and after[0])  # type: ignore[arg-type]


def removed(key: Key, paired: list[Pair], target: Path, result: Result) -> None:
    """Count planted identifiers that are gone; a lost file leaks nothing."""
    by_file: dict[int, list[Plant]] = defaultdict(list)
    for plant in key.plants:
        by_file[plant.file].append(plant)
    for pair in paired:
        for plant in by_file[pair.file.number]:
            if pair.after is None:
                continue
            leaked = leak(plant, pair, target)
            line = f"{pair} {where(plant.place)}: {plant.value!r}{leaked and f' -> {leaked}'}"
            result.count("removed", plant.category, not leaked, line)
        if pair.after is not None:
            _elsewhere(by_file[pair.file.number], pair, result)
    for path in target.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".txt", ".log", ".csv", ".html"):
            text = normal(path.read_text("utf-8", "replace"))
            for plant in key.plants:
                if plant.category not in ("dates", "paths"):
                    held = [t for t in plant.tokens if len(t) > 5 and t in text]
                    if held:
                        result.count("removed", "reports", False, f"{path.name}: {held}")


def leak(plant: Plant, pair: Pair, target: Path) -> str:
    """Return what is left of an identifier at its place, empty when it is gone."""
    after = pair.after
    assert after is not None and pair.target is not None
    if plant.place == "path":
        text = normal(str(pair.target.relative_to(target)))
        return next((t for t in plant.tokens if t in text), "")
    if plant.place == "trailing":
        return next((t for t in plant.tokens if after.holds("file", t)), "")
    # In a compressed stream, three letters occur by chance.
    long = tuple(t for t in plant.tokens if len(t) >= 5 or plant.place != "7FE00010")
    levels = plant.place.split("/")
    for depth in range(len(levels), 0, -1):
        # A sequence that can't be seen into is searched as bytes, at its own place.
        place = "/".join(levels[:depth])
        held = next((t for t in long or plant.tokens if after.holds(place, t)), "")
        if held:
            return f"{held} in {str(after.values.get(place, []))[:90]}"
    return ""


def _elsewhere(plants: list[Plant], pair: Pair, result: Result) -> None:
    """Look for long tokens wherever they were not planted, or were and are noted there."""
    assert pair.after is not None
    tokens = {t for p in plants if p.category != "dates" for t in p.tokens if len(t) >= 7}
    planted = {p.place for p in plants}
    for place, texts in pair.after.texts.items():
        if place in planted or place in ("file", "trailing"):
            continue
        held = sorted(t for t in tokens if any(t in text for text in texts))
        if held:
            result.count("removed", "elsewhere", False, f"{pair} {where(place)}: {held}")


def kept(key: Key, paired: list[Pair], result: Result) -> None:
    """Count must-keep attributes, clinical words and safe private attributes that are kept."""
    from tests.corpus.retention import must_keep

    after = {p.file.number: p for p in paired}
    planted = {(plant.file, plant.place) for plant in key.plants}
    for pair in paired:
        for place in must_keep(pair.before):
            if (pair.file.number, place) in planted:
                continue
            old = pair.before.lists[place]
            new = pair.after.lists.get(place, []) if pair.after else []
            line = f"{pair} {where(place)}: {str(old)[:60]} -> {str(new)[:60]}"
            result.count("kept", "must-keep attributes", old == new, line)
    for words in key.words:
        pair = after[words.file]
        values = pair.after.values.get(words.place, []) if pair.after else []
        text = unicodedata.normalize("NFKC", " ".join(values)).casefold()
        for word in words.words:
            line = f"{pair} {where(words.place)}: {word!r} not in {str(values)[:90]}"
            document = words.place == "00420011"
            held = has_word(word, text) or _in_readings(word, pair, words.place, document=document)
            name = "words in documents" if document else "clinical words"
            result.count("kept", name, held, line)
    for number, place in key.safe_private:
        pair = after[number]
        old, new = pair.before.lists[place], pair.after.lists.get(place, []) if pair.after else []
        line = f"{pair} {where(place)}: {old} -> {new}"
        result.count("kept", "safe private attributes", old == new, line)


def has_word(word: str, text: str) -> bool:
    """Say whether a word is in a folded text, as a word of its own where words have borders."""
    folded = unicodedata.normalize("NFKC", word).casefold()
    if word.isascii():
        return re.search(rf"(?<![a-z0-9]){re.escape(folded)}(?![a-z0-9])", text) is not None
    return folded in text


def _in_readings(word: str, pair: Pair, place: str, *, document: bool) -> bool:
    readable = document or not word.isascii()
    return readable and pair.after is not None and pair.after.holds(place, normal(word))


def where(place: str) -> str:
    """Return a place with keywords for the tags of the standard."""
    from pydicom.datadict import keyword_for_tag

    parts = [
        keyword_for_tag(int(p, 16)) if re.fullmatch("[0-9A-F]{8}", p) else p
        for p in place.split("/")
    ]
    return ".".join(part or place for part in parts)


def most_common(values: list[Any]) -> Any:
    """Return what most of the values are."""
    return Counter(values).most_common(1)[0][0]
