"""Where devices are known to write who the patient is, by modality, class and maker.

PS3.15 section E.3.1 (Clean Pixel Data) leaves open how identifying text is found. Two things are
known beforehand. An ultrasound machine says where its image is (Sequence of Ultrasound Regions,
PS3.3 C.8.5.5); it writes names only outside. And some makers' banners always have the same place.

In mode "rules" these areas are blacked out whole, as are whole pictures of screens that say they
hold such text. In mode "ocr" the areas are searched whatever a cheaper look says; a scale or a
mechanical index that is read there without doubt need not be lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from node.deid.pixels.image import Box, Image


@dataclass(frozen=True)
class Banner:
    """An area that holds identifiers in the images of one kind of device, of one size."""

    manufacturer: str
    """Part of Manufacturer, of any case; "" fits all."""
    model: str
    """Part of Manufacturer's Model Name."""
    kind: str
    """A value of Image Type."""
    rows: int
    """Size that the area is measured in; 0 fits all."""
    columns: int
    area: Box
    burned_in: bool = False
    """Only where Burned In Annotation is YES."""


BANNERS = (
    Banner("ge medical", "", "", 512, 512, Box(0, 0, 512, 25), burned_in=True),
    Banner("ge medical", "", "", 1024, 1024, Box(0, 0, 300, 150), burned_in=True),
    Banner("ge medical", "", "", 1024, 1024, Box(724, 0, 1024, 150), burned_in=True),
    Banner("", "logiq9", "", 0, 0, Box(0, 0, 640, 40)),
    Banner("", "logiqe9", "", 0, 0, Box(0, 0, 960, 70)),
    Banner("siemens", "", "SECONDARY", 860, 1132, Box(0, 0, 1132, 60)),
    Banner("philips", "", "DOSE", 0, 0, Box(0, 0, 512, 135)),
    Banner("toshiba", "aquilion one", "SECONDARY", 512, 512, Box(0, 0, 410, 240)),
    Banner("", "iu22", "", 480, 640, Box(0, 0, 640, 47)),
    Banner("", "iu22", "", 600, 800, Box(0, 0, 800, 59)),
    Banner("", "iu22", "", 768, 1024, Box(0, 0, 1024, 75)),
    Banner("", "z_one", "", 0, 0, Box(0, 0, 800, 65)),
    Banner("atl", "hdi 5000", "", 476, 640, Box(40, 0, 240, 40)),
    Banner("atl", "hdi 5000", "", 476, 640, Box(240, 0, 430, 16)),
    Banner("siemens", "antares", "", 768, 1024, Box(0, 0, 1024, 60)),
    Banner("siemens", "antares", "", 768, 1024, Box(800, 65, 904, 79)),
    Banner("siemens", "acuson", "", 600, 800, Box(0, 0, 800, 43)),
    Banner("acuson", "sequoia", "", 480, 640, Box(0, 0, 640, 30)),
    Banner("toshiba", "a500", "", 720, 960, Box(0, 0, 960, 60)),
    Banner("canon", "cxdi", "", 2592, 2208, Box(0, 0, 2208, 80)),
    Banner("canon", "cxdi", "", 2592, 2208, Box(0, 2512, 2208, 2592)),
    Banner("adac", "", "", 832, 1024, Box(0, 0, 1024, 60)),
    Banner("adac", "", "", 832, 1024, Box(0, 762, 1024, 832)),
)
"""Facts collected by users of the RSNA's CTP (example-dicom-pixel-anonymizer.script)."""

_ULTRASOUND = ("US", "IVUS")
_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_COMPUTED = frozenset(
    [
        "1.2.840.10008.5.1.4.1.1.66.4",
        "1.2.840.10008.5.1.4.1.1.66.7",
        "1.2.840.10008.5.1.4.1.1.481.2",
    ]
)
"""Segmentation, Label Map Segmentation and RT Dose: values that were computed for each place."""


def can_hold_text(image: Image) -> bool:
    """Say whether text can be in the pixels: not in labels, doses, or the tissue of a slide."""
    if image.sop_class in _COMPUTED:
        return False
    return not (image.sop_class == _SLIDE and "VOLUME" in image.image_type)


def areas(image: Image) -> list[Box]:
    """Return the areas in which a device of this kind writes identifiers; they may overlap."""
    found = [area for banner in BANNERS if (area := _placed(banner, image)) is not None]
    if image.modality in _ULTRASOUND and image.regions:
        found += _outside(image)
    return found


def _placed(banner: Banner, image: Image) -> Box | None:
    kinds = {value.upper() for value in image.image_type}
    fits = (
        banner.manufacturer in image.manufacturer.lower()
        and banner.model in image.model.lower().replace(" ", "" if " " not in banner.model else " ")
        and (not banner.kind or banner.kind in kinds)
        and banner.rows in (0, image.rows)
        and banner.columns in (0, image.columns)
        and (not banner.burned_in or image.burned_in.upper() == "YES")
    )
    placed = banner.area.meet(Box(0, 0, image.columns, image.rows))
    return placed if fits and placed.width > 0 and placed.height > 0 else None


def _outside(image: Image) -> list[Box]:
    """Return bands around the regions that hold none of them."""
    whole = Box(0, 0, image.columns, image.rows)
    regions = [
        Box(region.x0, region.y0, region.x1 + 1, region.y1 + 1).meet(whole)
        for region in image.regions
    ]
    regions = [box for box in regions if box.width > 0 and box.height > 0]
    if not regions:
        return []
    inner = regions[0]
    for box in regions[1:]:
        inner = inner.join(box)
    bands = (
        Box(0, 0, whole.x1, inner.y0),
        Box(0, inner.y0, inner.x0, inner.y1),
        Box(inner.x1, inner.y0, whole.x1, inner.y1),
        Box(0, inner.y1, whole.x1, whole.y1),
    )
    return [band for band in bands if band.width > 0 and band.height > 0]
