"""What DICOM PS3.6 and PS3.16 list: pydicom's tables, without its readers and writers.

``import pydicom`` also loads decoders, Pillow and an HTTP client, which takes longer than some
hundred files do. Its tables are modules of plain values, so each is read by itself, where pydicom
isn't there already.
"""

from __future__ import annotations

import sys
from functools import cache, lru_cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

_Row = tuple[str, str, str, str, str]
"""Value representation, multiplicity, name, "Retired" or "", keyword."""


def table(name: str) -> ModuleType:
    """Return one of pydicom's modules that hold nothing but a table, such as ``_uid_dict``."""
    loaded = sys.modules.get(f"pydicom.{name}")
    return loaded if loaded is not None else _alone(name)


@cache
def _alone(name: str) -> ModuleType:
    package = find_spec("pydicom")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("pydicom is not installed", name="pydicom")
    place = Path(package.origin).parent.joinpath(*name.split(".")).with_suffix(".py")
    spec = spec_from_file_location(f"{__name__}.{name}", place)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"pydicom has no {name}", name=f"pydicom.{name}")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=65536)
def vr_of(tag: int) -> str:
    """Return an attribute's value representation ("US or SS", where it has two), "" without one."""
    row = _row(tag)
    return row[0] if row else ""


def keyword_of(tag: int) -> str:
    """Return an attribute's keyword, "" for one that PS3.6 doesn't list."""
    row = _row(tag)
    return row[4] if row else ""


def tag_of(keyword: str) -> int | None:
    """Return the attribute that has this keyword."""
    return _keywords().get(keyword)


def _row(tag: int) -> _Row | None:
    found = _attributes().get(tag)
    if found is None and not tag >> 16 & 1:
        for bits, mask, row in _repeating():
            if tag & mask == bits:
                return row
    return found


@cache
def _attributes() -> dict[int, _Row]:
    found: dict[int, _Row] = table("_dicom_dict").DicomDictionary
    return found


@cache
def _repeating() -> list[tuple[int, int, _Row]]:
    """Return repeating groups (PS3.5 section 7.6): the bits that tell them, and which these are."""
    rows: dict[str, _Row] = table("_dicom_dict").RepeatersDictionary
    return [
        (int(tag.replace("x", "0"), 16), int("".join("F0"[c == "x"] for c in tag), 16), row)
        for tag, row in rows.items()
    ]


@cache
def _keywords() -> dict[str, int]:
    return {row[4]: tag for tag, row in _attributes().items()}
