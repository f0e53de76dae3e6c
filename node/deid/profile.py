"""A de-identification profile: PS3.15 Table E.1-1 and options, as one action for each attribute.

Where the table leaves a choice by the attribute's type in its IOD, the action is the one that is
conformant whatever the type: ``X/Z`` is Z, ``X/D``, ``Z/D`` and ``X/Z/D`` are D, ``X/Z/U*`` is U.

Beyond the table, because a file may hold what no IOD foresees: elements that neither the table nor
the data dictionary knows are removed; names of persons (PN) and times (DA, DT, TM) that the table
doesn't list are emptied, or moved; UIDs that it doesn't list are replaced, save those that name a
class, a syntax or a code. Every text that stays is searched for what identifies the patient.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Literal

from contract.errors import ConfigurationError
from foundation.defaults import default_text
from foundation.files import read_bounded
from foundation.settings import MAX_SETTINGS_BYTES, Settings, build, check_keys
from node.deid.dictionary import keyword_of, vr_of
from node.deid.table import OPTIONS, Row, e1_1


class Action(Enum):
    """What happens to an attribute (PS3.15 section E.3.1, Table E.1-1a)."""

    DUMMY = "D"
    ZERO = "Z"
    REMOVE = "X"
    KEEP = "K"
    UID = "U"
    CLEAN = "C"
    """Of a date: moved by the subject's days. Of text: without what identifies. Of a sequence:
    each of its items cleaned."""


CONDITIONAL = {"X/Z": "Z", "X/D": "D", "Z/D": "D", "X/Z/D": "D", "X/Z/U*": "U"}
# Referenced Study Sequence is Type 3 in every composite IOD, and must have items where it is.
_DECIDED = {0x00081110: "X"}
_TIMES = frozenset({"DA", "DT", "TM"})
_CLASS_UIDS = ("SOPClass", "TransferSyntax", "CodingSchemeUID", "ContextUID", "MappingResource")
_ICON = 0x00880200
_OVERLAY, _CURVE = 0x60, 0x50


class Options(Settings):
    """The options of PS3.15 section E.3 that a hospital may choose."""

    private: Literal["removed", "safe"] = "removed"
    """removed: no private attribute stays. safe: those of Table E.3.10-1 stay (section E.3.10)."""
    unknown_private: Literal["removed", "refused"] = "removed"
    """removed: attributes of private creators that Table E.3.10-1 doesn't name are left out.
    refused: a file that has one is put in quarantine."""
    uids: Literal["replaced", "kept"] = "replaced"
    """replaced: by a keyed function, the same everywhere. kept: as they are (section E.3.9)."""
    dates: Literal["removed", "modified", "kept"] = "removed"
    """removed: no date stays. modified: dates move by a secret number of days (366 to 1095) that is
    the same for all of a subject's dates; times of day stay. kept: as they are (section E.3.6)."""
    patient_characteristics: bool = False
    """Keep sex, age, size, weight, ethnic group and smoking status (section E.3.7)."""
    device_identity: bool = False
    """Keep serial numbers, station names and other identities of devices (section E.3.8)."""
    institution_identity: bool = False
    """Keep the institution's name, address and department (section E.3.11)."""
    clean_descriptors: bool = False
    """Keep descriptions and comments without what identifies in them (section E.3.5)."""
    clean_structured_content: bool = False
    """Keep content items and acquisition context without what identifies (section E.3.4)."""
    clean_graphics: bool = False
    """Keep graphics, annotations and overlays without what identifies (section E.3.3)."""
    pixels: Literal["off", "rules", "ocr"] = "off"
    """Text burned into pixels (section E.3.1). off: not looked for; what is declared to have it is
    put in quarantine. rules: known places of known devices are blacked out. ocr: and text is looked
    for, read, and blacked out unless it is known to be harmless."""
    visual_features: Literal["kept", "refused"] = "kept"
    """refused: images in which a face could be recognised are put in quarantine: they can't be
    cleaned here (section E.3.2)."""


class ProfileSettings(Settings):
    """A de-identification profile, as its file says it."""

    name: str = "basic"
    """What the profile is called in reports."""
    standard: Literal["PS3.15 2026d"] = "PS3.15 2026d"
    """The edition of the table that this file was written for."""
    options: Options = Options()
    """What the basic profile's strictness is relaxed by, and what is cleaned."""


BUILT_IN = ("basic", "longitudinal", "research")
"""The profiles that come with Wardgate, in ``configs/deid``."""
DEFAULT = "research"
"""The profile that commands use unless another is named."""

# Code value and meaning of each method, coding scheme DCM: PS3.16 CID 7050.
_BASIC = ("113100", "Basic Application Confidentiality Profile")
_PIXELS = ("113101", "Clean Pixel Data Option")
_METHODS = {
    "clean_graphics": ("113103", "Clean Graphics Option"),
    "clean_structured_content": ("113104", "Clean Structured Content Option"),
    "clean_descriptors": ("113105", "Clean Descriptors Option"),
    "retain_longitudinal_full_dates": (
        "113106",
        "Retain Longitudinal Temporal Information Full Dates Option",
    ),
    "retain_longitudinal_modified_dates": (
        "113107",
        "Retain Longitudinal Temporal Information Modified Dates Option",
    ),
    "retain_patient_characteristics": ("113108", "Retain Patient Characteristics Option"),
    "retain_device_identity": ("113109", "Retain Device Identity Option"),
    "retain_uids": ("113110", "Retain UIDs Option"),
    "retain_safe_private": ("113111", "Retain Safe Private Option"),
    "retain_institution_identity": ("113112", "Retain Institution Identity Option"),
}


class Profile:
    """The action for each attribute, under the profile's settings."""

    def __init__(self, settings: ProfileSettings) -> None:
        self.settings = settings
        chosen = settings.options
        wanted = {
            "retain_safe_private": chosen.private == "safe",
            "retain_uids": chosen.uids == "kept",
            "retain_longitudinal_full_dates": chosen.dates == "kept",
            "retain_longitudinal_modified_dates": chosen.dates == "modified",
            "retain_patient_characteristics": chosen.patient_characteristics,
            "retain_device_identity": chosen.device_identity,
            "retain_institution_identity": chosen.institution_identity,
            "clean_descriptors": chosen.clean_descriptors,
            "clean_structured_content": chosen.clean_structured_content,
            "clean_graphics": chosen.clean_graphics,
        }
        self.options = tuple(option for option in OPTIONS if wanted[option])
        self._found: dict[tuple[int, str], Action] = {}

    @property
    def dates(self) -> str:
        """What happens to dates: removed, modified or kept."""
        return self.settings.options.dates

    @property
    def label(self) -> str:
        """The profile's name, for De-identification Method."""
        return self.settings.name

    @property
    def methods(self) -> tuple[tuple[str, str], ...]:
        """Code and meaning of each method, for De-identification Method Code Sequence."""
        methods = [_METHODS[option] for option in self.options]
        if self.settings.options.pixels != "off":
            methods.append(_PIXELS)
        return (_BASIC, *sorted(methods))

    @property
    def keeps_safe_private(self) -> bool:
        """Whether the private attributes of Table E.3.10-1 stay."""
        return self.settings.options.private == "safe"

    def keeps_identity(self, tag: int) -> bool:
        """Whether the attribute names a device or an institution, and stays for that."""
        row = e1_1().row(tag)
        identities = ("retain_device_identity", "retain_institution_identity")
        return row is not None and any(
            option in self.options and row.options.get(option) == "K" for option in identities
        )

    def with_pixels(self, mode: Literal["off", "rules", "ocr"]) -> Profile:
        """Return this profile with another way to clean pixels."""
        options = self.settings.options.model_copy(update={"pixels": mode})
        return Profile(self.settings.model_copy(update={"options": options}))

    def action(self, tag: int, vr: str) -> Action:
        """Return what happens to the attribute ``tag`` that a file gives as ``vr`` ("" unknown)."""
        found = self._found.get((tag, vr))
        if found is None:
            found = self._found[tag, vr] = self._decide(tag, vr)
        return found

    def _decide(self, tag: int, vr: str) -> Action:
        if tag & 0xFFFF == 0 or tag >> 16 in (0x0000, 0x0002, 0x0004):
            # Group lengths would be wrong now; the others are not of a data set.
            return Action.REMOVE
        cleans_graphics = self.settings.options.clean_graphics
        if tag >> 24 == _OVERLAY and not tag >> 16 & 1:
            # What describes an overlay goes and stays with it.
            return Action.CLEAN if cleans_graphics else Action.REMOVE
        if tag >> 24 == _CURVE:
            return Action.REMOVE  # retired, and of binary data that may be a waveform or a name
        if tag == _ICON and self.settings.options.pixels == "ocr":
            return Action.CLEAN  # cleaned as other pixels are (section E.3.1)
        row = e1_1().row(tag)
        if row is not None:
            return self._of_row(row, tag, vr)
        known = vr_of(tag)
        return self._of_unlisted(tag, {vr, known}) if known else Action.REMOVE

    def _of_unlisted(self, tag: int, kinds: set[str]) -> Action:
        if "PN" in kinds:
            return Action.ZERO
        if kinds & _TIMES and self.dates != "kept":
            if self.dates == "modified":
                return Action.CLEAN if kinds & {"DA", "DT"} else Action.KEEP
            return Action.ZERO
        if "UI" in kinds and not _names_a_class(tag) and self.settings.options.uids == "replaced":
            return Action.UID
        return Action.KEEP

    def _of_row(self, row: Row, tag: int, vr: str) -> Action:
        codes = {option: row.options[option] for option in self.options if option in row.options}
        if "K" in codes.values():
            return Action.KEEP
        kind = vr_of(tag) or vr
        if codes:
            if kind == "TM":
                return Action.KEEP
            return Action.CLEAN
        return Action(_DECIDED.get(tag) or CONDITIONAL.get(row.basic, row.basic))


def load_profile(name: str) -> Profile:
    """Return a built-in profile (one of ``BUILT_IN``), or that in the TOML file ``name``.

    ``ConfigurationError`` names an unknown key and the nearest known one.
    """
    path = Path(name)
    if name in BUILT_IN:
        text = default_text(f"deid/{name}.toml")
    elif path.is_file():
        text = read_bounded(path, MAX_SETTINGS_BYTES).decode(errors="replace")
    else:
        raise ConfigurationError(
            f"There is no profile {name!r}: name a TOML file or one of {', '.join(BUILT_IN)}."
        )
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"Profile {name} is not TOML: {error}.") from None
    return Profile(_parse(values, f"Profile {name}"))


def _parse(values: Mapping[str, object], origin: str) -> ProfileSettings:
    check_keys(ProfileSettings, values, origin)
    return build(ProfileSettings, values, origin)


def _names_a_class(tag: int) -> bool:
    keyword = keyword_of(tag)
    return any(part in keyword for part in _CLASS_UIDS) and "Instance" not in keyword
