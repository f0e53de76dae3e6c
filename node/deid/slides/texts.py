"""What may be said of a slide in words: texts built anew from closed lists.

A text that a scanner wrote is never edited. It is read for keys that are technical and whose value
has the shape it must have (a number, a known model), and a new text is made of those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, tostring

NUMBER = re.compile(r"[-+]?\d{1,7}(\.\d{1,17})?([eE][-+]?\d{1,2})?")
_NUMBERS = re.compile(r"[-+]?\d{1,7}(\.\d{1,9})?(,[-+]?\d{1,7}(\.\d{1,9})?){0,3}")

MAKERS = (
    "3DHISTECH", "Aperio", "Carl Zeiss", "Hamamatsu", "Huron", "Leica", "Leica Biosystems",
    "Motic", "Nikon", "Olympus", "Philips", "Roche", "Ventana", "Zeiss",
)  # fmt: skip
_MODELS = re.compile(
    r"C\d{4,5}(-\d{2})?|NanoZoomer( (XR|SQ|S20|S60|S210|S360|2\.0-HT|2\.0-RS|S20MD|S360MD))?"
    r"|GT ?450( DX)?|AT2( DX)?|CS2|CS|AT|ScanScope( (CS|XT|GL|OS|AT|FL))?|Versa"
    r"|Pannoramic( (SCAN|MIDI|DESK|250|1000|250 Flash)( II| III)?)?|VS120|VS200|Axioscan( 7)?"
)
_SOFTWARE = re.compile(
    r"(NDP\.scan|NDP\.toolkit|libvips|vips|tifffile\.py|OpenSlide|Bio-Formats|OME Bio-Formats"
    r"|Aperio Image Library|ImageScope|ImageMagick|GDAL|QuPath|LibTIFF, Version)"
    r"([ -]?v?\d{1,3}(\.\d{1,4}){0,3})?"
)
_STAINS = re.compile(
    r"H&E|HE|H-E|Hematoxylin and Eosin|PAS|IHC|Giemsa|Ki-?67|HER2|ER|PR|PD-?L1|CD\d{1,3}"
    r"|Masson Trichrome|(DAPI|FITC|TRITC|Cy[2357]|Cy5\.5|Texas Red|GFP|YFP|CFP|RFP|mCherry"
    r"|Alexa ?\d{3}|Hoechst)( \d)?( \(\d{3}\))?",
    re.IGNORECASE,
)

APERIO = "Aperio"
_APERIO_PROGRAM = re.compile(
    r"Aperio (Image Library|Leica Biosystems (?:GT ?450(?: DX)?|AT2|CS2|Versa)) v?[\d.]{1,12}"
)
_APERIO_SHAPE = re.compile(
    r"\d{1,7}x\d{1,7}"
    r"( \[-?\d{1,7},-?\d{1,7}[ ,]-?\d{1,7}x-?\d{1,7}\])?"
    r"( \(\d{1,5}x\d{1,5}\))?"
    r"( -> \d{1,7}x\d{1,7}( -)?)?"
    r"( (JPEG|JPEG2000|J2K|LZW|RAW|Uncompressed)(/[A-Z]{2,5}\d{0,3})?"
    r"( Q=\d{1,3}| ;\d{1,3}| KDU)?)?"
)
APERIO_KEYS = frozenset({
    "AppMag", "MPP", "StripeWidth", "Left", "Top", "LineCameraSkew", "LineAreaXOffset",
    "LineAreaYOffset", "Focus Offset", "OriginalWidth", "OriginalHeight", "Originalheight",
    "Filtered", "Exposure", "Exposure Time", "Exposure Scale", "Gamma", "DisplayColor",
    "Quality", "CompressionQuality", "TotalDepth", "NumberOfFocusPlanes", "FocusPlaneSpacing",
})  # fmt: skip
NDPI_KEYS = frozenset({
    "system.version", "slide.tickness", "PSHV", "exposure.slide.macro", "exposure.barcode.macro",
    "Objective.Lens.Magnificant", "ccd.width", "ccd.height", "valid.DDKP", "valid.DSHP",
    "valid.DLTP", "coarse.focus.pitch", "fine.focus.pitch", "stage.center", "lane.shift.amount",
    "exposure.slide.darkfield.macro", "cube.kind", "variable.exposuretime", "colorfilterID",
    "PSHV.ploidy", "PSHV.ploidy.10x", "ccd.width.ploidy", "PSHV.10x", "PSHV.40x",
    "target.white.intensity", "calibration.version",
})  # fmt: skip


def pairs(text: str, separator: str) -> dict[str, str]:
    """Return ``key=value`` pairs; of a key that comes twice, the last value."""
    found = (part.partition("=") for part in text.split(separator))
    return {key.strip(): value.strip() for key, sign, value in found if sign}


def maker(text: str) -> str | None:
    """Return the maker of a scanner if it is one on the list."""
    clean = text.strip(" \0")
    return next((name for name in MAKERS if name.lower() == clean.lower()), None)


def model(text: str) -> str | None:
    """Return the model of a scanner if it has the shape of a known one."""
    return _whole(_MODELS, text)


def software(text: str) -> str | None:
    """Return a program and its version if it is one on the list."""
    return _whole(_SOFTWARE, text)


def stain(text: str) -> str | None:
    """Return a stain or fluorescence filter if it is on the list."""
    return _whole(_STAINS, text)


def numbers_only(found: dict[str, str], keys: Iterable[str]) -> dict[str, str]:
    """Return the pairs whose key is among ``keys`` and whose value is one to four numbers."""
    allowed = frozenset(keys)
    return {
        key: value
        for key, value in found.items()
        if key in allowed and value and (NUMBER.fullmatch(value) or _NUMBERS.fullmatch(value))
    }


def aperio(text: str, width: int, height: int) -> str:
    """Return an Aperio description: programs, geometry and technical keys, nothing else."""
    head, _, _ = text.partition("|")
    parts = []
    for part in head.split(";"):
        lines = [line.strip() for line in re.split(r"[\r\n]+", part) if line.strip()]
        program = _whole(_APERIO_PROGRAM, lines[0]) if lines else None
        shape = _whole(_APERIO_SHAPE, lines[1]) if len(lines) > 1 else None
        if program is not None:
            parts.append(f"{program} \r\n{shape}" if shape else program)
    new = ";".join(parts) or f"Aperio Image Library \r\n{width}x{height}"
    known = numbers_only(pairs(text, "|"), APERIO_KEYS)
    return "|".join([new, *(f"{key} = {value}" for key, value in known.items())])


def aperio_model(text: str) -> str | None:
    """Return the scanner that an Aperio description names in its first words."""
    found = re.match(r"Aperio Leica Biosystems ([A-Z]+ ?\d*(?: DX)?) ", text)
    return model(found[1]) if found is not None else None


def aperio_numbers(text: str) -> dict[str, float]:
    """Return magnification and micrometres a pixel of an Aperio description."""
    found = pairs(text, "|")
    read = {
        key: float(found[key]) for key in ("AppMag", "MPP") if NUMBER.fullmatch(found.get(key, ""))
    }
    return {key: value for key, value in read.items() if 0 < value <= 1000}


def ndpi_properties(text: str) -> str:
    """Return an NDPI property map (tag 65449) of technical keys, without dates and serials."""
    found = pairs(text, "\n")
    known = numbers_only(found, NDPI_KEYS)
    product = model(found.get("Product", ""))
    if product:
        known = {"Product": product, **known}
    return "".join(f"{key}={value}\r\n" for key, value in known.items())


_PIXEL_KEYS = {
    "DimensionOrder": re.compile(r"XY[ZCT]{3}"),
    "Type": re.compile(r"u?int(8|16|32)|float|double|bit|(double-)?complex"),
    "BigEndian": re.compile(r"true|false"),
    "Interleaved": re.compile(r"true|false"),
    **{f"Size{axis}": re.compile(r"\d{1,7}") for axis in "XYZCT"},
    **{f"PhysicalSize{axis}": NUMBER for axis in "XYZ"},
    **{f"PhysicalSize{axis}Unit": re.compile("[µμnm]?m") for axis in "XYZ"},
    "SignificantBits": re.compile(r"\d{1,2}"),
}
_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def ome(text: str, planes: int) -> str | None:
    """Return OME-XML that says how the first image's ``planes`` directories are arranged.

    None for text that is no OME-XML of one image with as many planes: without it, readers take
    the directories as they are.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root = fromstring(text.strip("\0 \r\n\t"), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError):
        return None
    pixels = root.find("{*}Image/{*}Pixels")
    if not root.tag.endswith("}OME") or pixels is None:
        return None
    known = {
        key: value
        for key, value in pixels.attrib.items()
        if key in _PIXEL_KEYS and _PIXEL_KEYS[key].fullmatch(value)
    }
    wanted = {"DimensionOrder", "Type", *(f"Size{axis}" for axis in "XYZCT")}
    if not wanted <= known.keys():
        return None
    channels = pixels.findall("{*}Channel")
    samples = [channel.get("SamplesPerPixel", "1") for channel in channels]
    if len(samples) > 256 or not all(re.fullmatch(r"\d{1,3}", sample) for sample in samples):
        return None
    total = int(known["SizeC"]) // max(int(samples[0]) if samples else 1, 1)
    if total * int(known["SizeZ"]) * int(known["SizeT"]) != planes:
        return None
    new = Element("OME", {"xmlns": _NAMESPACE})
    image = SubElement(new, "Image", {"ID": "Image:0"})
    place = SubElement(image, "Pixels", {"ID": "Pixels:0", **known})
    for number, sample in enumerate(samples):
        values = {"ID": f"Channel:0:{number}", "SamplesPerPixel": sample}
        SubElement(place, "Channel", values)
    SubElement(place, "TiffData", {"IFD": "0", "PlaneCount": str(planes)})
    return '<?xml version="1.0" encoding="UTF-8"?>' + tostring(new, encoding="unicode")


def _whole(pattern: re.Pattern[str], text: str) -> str | None:
    clean = text.strip(" \0\r\n")
    return clean if pattern.fullmatch(clean) else None
