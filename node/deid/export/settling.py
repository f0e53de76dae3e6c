"""Files that asked for one name: which gets it is decided by position, not by who was first.

They have one instance with different content. None is left out: which is right, nobody knows. Those
with the same content are one, of which the first by position was written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from node.deid.export.forks import Row
from node.deid.export.names import instance_name
from node.deid.export.output import same_bytes
from node.deid.export.work import CONTESTED, DUPLICATE, WRITTEN

_ASIDE = ".part-content-"


@dataclass
class _Content:
    """What was written once, and the files that it came from."""

    path: Path
    rows: list[Row]

    @property
    def first(self) -> int:
        first: int = min(row["position"] for row in self.rows)
        return first


def contested(rows: Iterable[Row]) -> set[str]:
    """Return the names that more than one content asked for."""
    return {row["file"] for row in rows if row["outcome"] == CONTESTED}


def settle(rows: Iterable[Row], target: Path) -> None:
    """Give each content a name and each row its outcome; the first by position gets the name."""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        if row["outcome"] in (WRITTEN, DUPLICATE, CONTESTED):
            by_name.setdefault(row["file"], []).append(row)
    for name in sorted(by_name):
        asking = by_name[name]
        if any(row["outcome"] == CONTESTED for row in asking):
            _share(name, asking, target)
        elif len(asking) > 1:
            _credit(asking)


def _share(name: str, asking: list[Row], target: Path) -> None:
    there = [row for row in asking if row["outcome"] != CONTESTED]
    contents = [_Content(target / name, there)]
    uid = ""
    for row in asking:
        if row["outcome"] == CONTESTED:
            uid = row.pop("uid", "") or uid
            _add(contents, target / row.pop("part"), row)
    contents.sort(key=lambda content: content.first)
    # Set aside first: a content's new name may be another's present one.
    for number, content in enumerate(contents):
        content.path = content.path.rename(target / f"{_ASIDE}{number}")
    attempt, folder = 0, name.rpartition("/")[0]
    for content in contents:
        place = name
        while (target / place).exists():
            attempt += 1
            place = f"{folder}/{instance_name(uid, attempt)}"
        content.path.rename(target / place)
        for row in content.rows:
            row["file"] = place
        _credit(content.rows)


def _add(contents: list[_Content], part: Path, row: Row) -> None:
    for content in contents:
        if same_bytes(str(content.path), str(part)):
            part.unlink()
            content.rows.append(row)
            return
    contents.append(_Content(part, [row]))


def _credit(rows: list[Row]) -> None:
    """Say that the first by position was written, and that the others are its duplicates."""
    first = min(row["position"] for row in rows)
    for row in rows:
        row["outcome"] = WRITTEN if row["position"] == first else DUPLICATE
