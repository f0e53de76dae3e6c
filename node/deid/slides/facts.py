"""What a slide is, and what was done to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Format(Enum):
    """A format that slides or microscope images come in; the value is its stable name."""

    APERIO = "aperio-svs"
    NDPI = "hamamatsu-ndpi"
    MIRAX = "mirax"
    TILED_TIFF = "tiled-tiff"
    PLAIN_TIFF = "plain-tiff"
    """A TIFF in strips: a photograph or a small scan, not a pyramid."""

    ARGOS = "argos-avs"
    CZI = "zeiss-czi"
    ETS = "olympus-ets"
    HURON = "huron-tiff"
    ISYNTAX = "philips-isyntax"
    KFB = "kfbio-kfb"
    LIF = "leica-lif"
    LSM = "zeiss-lsm"
    ND2 = "nikon-nd2"
    OIR = "olympus-oir"
    OLE = "zvi-or-mds"
    PHILIPS = "philips-tiff"
    QPTIFF = "perkinelmer-qptiff"
    SAKURA = "sakura-svslide"
    SCN = "leica-scn"
    SDPC = "sqray-sdpc"
    TRESTLE = "trestle-tiff"
    VENTANA = "ventana-bif"
    VMS = "hamamatsu-vms"
    VSI = "olympus-vsi"

    @property
    def refused(self) -> bool:
        """Say whether Wardgate knows the format but not all places where it keeps text."""
        return self not in _CLEANED


_CLEANED = frozenset(
    {Format.APERIO, Format.NDPI, Format.MIRAX, Format.TILED_TIFF, Format.PLAIN_TIFF}
)


@dataclass(frozen=True)
class SlideFacts:
    """A cleaned slide, for the catalogue and the report. Nothing in it identifies a patient."""

    format: Format
    width: int
    """Pixels of the largest level, as ``height``."""
    height: int
    levels: int
    tile_width: int
    """Pixels; a level that is not tiled counts as one tile, as for ``tile_height``."""
    tile_height: int
    objective: float | None
    """Magnification that the file declares."""
    mpp_x: float | None
    """Micrometres a pixel of the largest level, as ``mpp_y``."""
    mpp_y: float | None
    vendor: str | None
    model: str | None
    """Of the scanner; never its serial number."""
    stain: str | None
    """Stain or fluorescence filter, of a closed list."""
    removed_images: tuple[str, ...]
    """Images that are not in the new file: "label", "macro", "map", "thumbnail", "other"."""
    removed_tags: int
    """TIFF tags, or keys of Slidedat.ini, that are not in the new file."""
    rewritten_texts: int
    """Texts that were built anew from what is allowed."""
    blanked_comments: int
    """Comments and application segments within compressed tiles whose text is now zeros."""
    icc_profile: bool
    """Whether a colour profile was kept (its numbers alone)."""
    bytes_read: int
    bytes_written: int
