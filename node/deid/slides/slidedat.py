"""Slidedat.ini of a MIRAX slide: what of it may stay, and what its Index.dat is read by.

The keys are those by which OpenSlide reads MIRAX, and numbers that describe the scan. Names of
slides and projects, dates, serial numbers, profiles and every section that is no zoom level stay
behind; sections get names of our own.
"""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass
from pathlib import PurePath

from node.deid.reading import Unsafe
from node.deid.slides.texts import NUMBER, numbers_only

MAX_BYTES = 1 << 20
GENERAL, LAYERS, FILES = "GENERAL", "HIERARCHICAL", "DATAFILE"
_GENERAL = (
    "SLIDE_VERSION", "IMAGENUMBER_X", "IMAGENUMBER_Y", "OBJECTIVE_MAGNIFICATION",
    "CameraImageDivisionsPerSide", "CURRENT_SLIDE_VERSION", "OUTPUT_RESOLUTION",
    "ADAPTER_SIZE", "CAMERA_ADAPTER_MAGNIFICATION", "SLIDE_BITDEPTH",
)  # fmt: skip
_LEVEL = (
    "OVERLAP_X", "OVERLAP_Y", "MICROMETER_PER_PIXEL_X", "MICROMETER_PER_PIXEL_Y",
    "IMAGE_FILL_COLOR_BGR", "DIGITIZER_WIDTH", "DIGITIZER_HEIGHT", "IMAGE_CONCAT_FACTOR",
    "IMAGE_COMPRESSION_FACTOR",
)  # fmt: skip
_FORMATS = ("JPEG", "PNG", "BMP24")
_KINDS = re.compile(r"SLIDE_TYPE_(BRIGHTFIELD|FLUORESCENCE|FLUORESCENT)")
POSITIONS, STITCHING = "VIMSLIDE_POSITION_BUFFER", "StitchingIntensityLayer"
MAX_LEVELS, MAX_LAYERS, MAX_FILES = 32, 256, 4096


@dataclass(frozen=True)
class Level:
    """A zoom level: its technical numbers as they are written, and its tiles' format."""

    numbers: dict[str, str]
    image_format: str

    @property
    def concat(self) -> int:
        return int(float(self.numbers["IMAGE_CONCAT_FACTOR"]))


@dataclass(frozen=True)
class Slidedat:
    """What is read of a Slidedat.ini."""

    slide_id: str
    general: dict[str, str]
    kind: str | None
    levels: tuple[Level, ...]
    index_name: str
    data_names: tuple[str, ...]
    positions_record: int | None
    """Number of the record with the camera's positions among those outside the hierarchy."""
    positions_deflated: bool
    layer_names: tuple[str, ...]
    """Values of the layers outside the hierarchy, one for each record."""
    keys: int
    """How many keys there were."""

    @property
    def images(self) -> tuple[int, int]:
        """Images across and down."""
        return int(self.general["IMAGENUMBER_X"]), int(self.general["IMAGENUMBER_Y"])

    @property
    def divisions(self) -> int:
        return int(self.general.get("CameraImageDivisionsPerSide", "1"))


def read_slidedat(data: bytes) -> Slidedat:
    """Read a Slidedat.ini; ``Unsafe`` when it lacks what a reader needs."""
    try:
        return _read(_parse(data))
    except (KeyError, ValueError, TypeError, configparser.Error):
        raise Unsafe("unreadable-slide") from None


def _parse(data: bytes) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(
        delimiters=("=",), comment_prefixes=("#", ";"), interpolation=None, strict=False,
        default_section="", allow_no_value=True,
    )  # fmt: skip
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(data.decode("utf-8-sig", "replace").replace("\0", ""))
    return parser


def _read(ini: configparser.ConfigParser) -> Slidedat:
    layers = ini[LAYERS]
    if layers["HIER_0_NAME"] != "Slide zoom level":
        raise ValueError
    general = numbers_only(dict(ini[GENERAL]), _GENERAL)
    magnification = ini[GENERAL].get("OBJECTIVE_MAGNIFICATION", "").rstrip("x")
    if NUMBER.fullmatch(magnification):
        general["OBJECTIVE_MAGNIFICATION"] = magnification
    kind = ini[GENERAL].get("SLIDE_TYPE", "")
    count = _count(layers["HIER_0_COUNT"], MAX_LEVELS)
    levels = tuple(_level(ini[layers[f"HIER_0_VAL_{n}_SECTION"]]) for n in range(count))
    files = _count(ini[FILES]["FILE_COUNT"], MAX_FILES)
    names: list[str] = []
    record, found, deflated = 0, None, False
    for layer in range(_count(layers["NONHIER_COUNT"], MAX_LAYERS, least=0)):
        name = layers[f"NONHIER_{layer}_NAME"]
        values = _count(layers[f"NONHIER_{layer}_COUNT"], MAX_LAYERS)
        if (name == POSITIONS and (found is None or deflated)) or (
            name == STITCHING and found is None
        ):
            found, deflated = record, name == STITCHING
        names += [name + "/" + layers.get(f"NONHIER_{layer}_VAL_{n}", "") for n in range(values)]
        record += values
    slide = Slidedat(
        slide_id=ini[GENERAL]["SLIDE_ID"],
        general=general,
        kind=kind if _KINDS.fullmatch(kind) else None,
        levels=levels,
        index_name=_plain(layers["INDEXFILE"]),
        data_names=tuple(_plain(ini[FILES][f"FILE_{n}"]) for n in range(files)),
        positions_record=found,
        positions_deflated=deflated,
        layer_names=tuple(names),
        keys=sum(len(ini[section]) for section in ini.sections()),
    )
    across, down = slide.images
    if not (0 < across < 1 << 16 and 0 < down < 1 << 16 and 0 < slide.divisions < 1 << 10):
        raise ValueError
    if len(set(slide.data_names)) != len(slide.data_names) or len(slide.slide_id) > 256:
        raise ValueError
    return slide


def _level(section: configparser.SectionProxy) -> Level:
    found = numbers_only(dict(section), _LEVEL)
    if re.fullmatch(r"\d{1,8}", section["IMAGE_FILL_COLOR_BGR"]):
        found["IMAGE_FILL_COLOR_BGR"] = section["IMAGE_FILL_COLOR_BGR"]
    needed = set(_LEVEL) - {"IMAGE_COMPRESSION_FACTOR"}
    if section["IMAGE_FORMAT"] not in _FORMATS or not needed <= found.keys():
        raise ValueError
    level = Level(found, section["IMAGE_FORMAT"])
    if not 0 <= level.concat <= 30:
        raise ValueError
    return level


def _count(text: str, most: int, least: int = 1) -> int:
    number = int(text)
    if not least <= number <= most:
        raise ValueError
    return number


def _plain(name: str) -> str:
    """A file's name and nothing that leads elsewhere."""
    if name != PurePath(name).name or name in ("", ".", "..") or "\\" in name:
        raise ValueError
    return name


def write_slidedat(slide: Slidedat, slide_id: str, data_names: list[str], index: str) -> bytes:
    """Return the new Slidedat.ini. If there are positions, they are its one other layer."""
    lines = [f"[{GENERAL}]", f"SLIDE_ID = {slide_id}"]
    lines += [f"{key} = {value}" for key, value in slide.general.items()]
    lines += [f"SLIDE_TYPE = {slide.kind}"] if slide.kind else []
    lines += [
        f"[{LAYERS}]", f"INDEXFILE = {index}", "HIER_COUNT = 1", "HIER_0_NAME = Slide zoom level",
        f"HIER_0_COUNT = {len(slide.levels)}",
    ]  # fmt: skip
    for number in range(len(slide.levels)):
        lines.append(f"HIER_0_VAL_{number} = ZoomLevel_{number}")
        lines.append(f"HIER_0_VAL_{number}_SECTION = LAYER_0_LEVEL_{number}_SECTION")
    if slide.positions_record is None:
        lines.append("NONHIER_COUNT = 0")
    else:
        name = STITCHING if slide.positions_deflated else POSITIONS
        lines += [
            "NONHIER_COUNT = 1", f"NONHIER_0_NAME = {name}", "NONHIER_0_COUNT = 1",
            "NONHIER_0_VAL_0 = default", "NONHIER_0_VAL_0_SECTION = NONHIERLAYER_0_SECTION",
            "[NONHIERLAYER_0_SECTION]",
        ]  # fmt: skip
    for number, level in enumerate(slide.levels):
        lines.append(f"[LAYER_0_LEVEL_{number}_SECTION]")
        lines += [f"{key} = {value}" for key, value in level.numbers.items()]
        lines.append(f"IMAGE_FORMAT = {level.image_format}")
    lines += [f"[{FILES}]", f"FILE_COUNT = {len(data_names)}"]
    lines += [f"FILE_{number} = {name}" for number, name in enumerate(data_names)]
    return ("\ufeff" + "\r\n".join([*lines, ""])).encode()


def objective(slide: Slidedat) -> float | None:
    """Return the magnification that is declared."""
    text = slide.general.get("OBJECTIVE_MAGNIFICATION")
    return float(text) if text else None
