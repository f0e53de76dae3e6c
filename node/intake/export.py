"""De-identified copies of folder trees, for use without a federation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contract.errors import AlreadyExists, UsageError
from foundation.files import private_folder, write_durably
from node.deid.engine import Deidentified, Deidentifier
from node.deid.reading import Unsafe
from node.intake.walk import Found, read_file, walk


def export(paths: Sequence[Path], target: Path, deidentifier: Deidentifier) -> dict[str, Any]:
    """Write ``target/<subject>/<study>/<series>/<instance>.dcm`` and return the report.

    The report has, for JSON: the profile, the number of files by outcome, of elements by action,
    and a row for each file by its position in the sorted trees. It names no source.
    ``AlreadyExists`` unless ``target`` is new or empty.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise AlreadyExists(f"{target} is not an empty folder; nothing in it is overwritten.")
    place = target.resolve()
    if any(path.resolve() == place or path.resolve() in place.parents for path in paths):
        raise UsageError("The target lies within the source; name another folder.")
    private_folder(target)
    outcomes: Counter[str] = Counter()
    actions: Counter[str] = Counter()
    files: list[dict[str, Any]] = []
    for found in walk(paths):
        row: dict[str, Any] = {"position": found.position}
        try:
            result = _deidentify(found, deidentifier)
            row |= {"outcome": "written", "file": _write(target, result)}
            actions.update(result.actions)
        except Unsafe as unsafe:
            row |= {"outcome": unsafe.reason}
        except _NotAFile as error:
            row |= {"outcome": str(error)}
        outcomes[row["outcome"]] += 1
        files.append(row)
    return {
        "profile": deidentifier.profile.settings.model_dump(mode="json"),
        "outcomes": dict(sorted(outcomes.items())),
        "actions": dict(sorted(actions.items())),
        "files": files,
    }


class _NotAFile(Exception):
    pass


def _deidentify(found: Found, deidentifier: Deidentifier) -> Deidentified:
    if found.kind != "file":
        raise _NotAFile(found.kind)
    try:
        data = read_file(found.path)
    except OSError:
        raise _NotAFile("unreadable-file") from None
    if data is None:
        raise Unsafe("too-large")
    return deidentifier.deidentify(data)


def _write(target: Path, result: Deidentified) -> str:
    folder = Path(result.subject, result.study_uid or "no-study", result.series_uid or "no-series")
    relative = folder / f"{result.sop_instance_uid}.dcm"
    path = target / relative
    if path.exists():
        if path.read_bytes() != result.data:
            raise Unsafe("duplicate-instance")
        return str(relative)
    private_folder(path.parent)
    write_durably(path, result.data)
    return str(relative)
