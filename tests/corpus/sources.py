"""The real files of a corpus, from packages on PyPI: what they are and where."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

CORE = (
    "CT_small.dcm",
    "MR_small.dcm",
    "JPEG2000.dcm",
    "chrFren.dcm",
    "chrKoreanMulti.dcm",
    "image_dfl.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "rtplan.dcm",
    "rtstruct.dcm",
    "rtdose.dcm",
    "reportsi.dcm",
    "test-SR.dcm",
    "examples_ybr_color.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "MR_small_RLE.dcm",
    "JPGExtended.dcm",
    "emri_small_jpeg_ls_lossless.dcm",
    "liver_1frame.dcm",
    "examples_overlay.dcm",
    "17106",
    "6293",
    "4919",
    "6154",
)
"""A small corpus."""
MORE = (
    "waveform_ecg.dcm",
    "693_J2KI.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_padded.dcm",
    "MR_small_expb.dcm",
    "SC_rgb_dcmtk_+eb+cr.dcm",
    "SC_rgb_gdcm_KY.dcm",
    "SC_rgb_jpeg.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "examples_jpeg2k.dcm",
    "examples_palette.dcm",
    "examples_rgb_color.dcm",
    "ExplVR_BigEnd.dcm",
    "JPEG-lossy.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "rtdose_expb_1frame.dcm",
    "rtdose_rle.dcm",
    "liver_expb_1frame.dcm",
    "693_UNCR.dcm",
    "693_J2KR.dcm",
    "JPEG-LL.dcm",
    "JPGLosslessP14SV1_1s_1f_8b.dcm",
    "MR-SIEMENS-DICOM-WithOverlays.dcm",
    "MR2_J2KI.dcm",
    "OBXXXX1A_rle_2frame.dcm",
    "OT-PAL-8-face.dcm",
    "RG3_J2KI.dcm",
    "US1_J2KI.dcm",
    "SC_rgb_expb.dcm",
    "color-px.dcm",
    "emri_small.dcm",
    "emri_small_big_endian.dcm",
    "eCT_Supplemental.dcm",
    "gdcm-US-ALOKA-16.dcm",
    "vlut_04.dcm",
    "ctbrain1.dcm",
    "ctbrain2.dcm",
    "GREYSCALE_IMAGE.dcm",
    "image1.dcm",
    "explicit_VR-UN.dcm",
    "SC_rgb_jpeg_dcmd.dcm",
    "chrJapMulti.dcm",
    "chrRuss.dcm",
)
"""The rest of a full one."""

BURNED = frozenset(
    [
        "examples_rgb_color.dcm",
        "GREYSCALE_IMAGE.dcm",
        "examples_palette.dcm",
        "OBXXXX1A_rle_2frame.dcm",
        "examples_ybr_color.dcm",
        "US1_J2KI.dcm",
        "JPGLosslessP14SV1_1s_1f_8b.dcm",
        "693_UNCR.dcm",
        "693_J2KR.dcm",
        "RG3_J2KI.dcm",
        "MR-SIEMENS-DICOM-WithOverlays.dcm",
        "ctbrain1.dcm",
        "vlut_04.dcm",
        "image_dfl.dcm",
        "gdcm-US-ALOKA-16.dcm",
        "eCT_Supplemental.dcm",
        "MR2_J2KI.dcm",
        "examples_jpeg2k.dcm",
        "693_J2KI.dcm",
        "SC_rgb_jpeg_dcmd.dcm",
        "examples_overlay.dcm",
    ]
)
"""Files that get text drawn into their pixels."""
REAL_TEXT = frozenset(
    [
        "GREYSCALE_IMAGE.dcm",
        "US1_J2KI.dcm",
        "examples_jpeg2k.dcm",
        "ctbrain1.dcm",
        "ctbrain2.dcm",
        "image1.dcm",
        "examples_palette.dcm",
        "examples_rgb_color.dcm",
        "gdcm-US-ALOKA-16.dcm",
        "OBXXXX1A_rle_2frame.dcm",
        "vlut_04.dcm",
    ]
)
"""Files that name a patient, a hospital or a day in their own pixels: those may go too."""
OWN_TEXT = frozenset(["examples_ybr_color.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm"])
"""Files with settings in their pixels, at the rim, where text is drawn as well."""
MODALITIES = {
    "SC_rgb_rle_2frame.dcm": "XC",
    "SC_rgb_jpeg.dcm": "ES",
    "OT-PAL-8-face.dcm": "GM",
    "SC_rgb_gdcm_KY.dcm": "OP",
    "vlut_04.dcm": "DX",
    "image_dfl.dcm": "MG",
    "color-px.dcm": "IVUS",
    "SC_rgb_jpeg_gdcm.dcm": "XA",
    "SC_rgb_expb.dcm": "PT",
    "SC_rgb_jpeg_dcmd.dcm": "RF",
}
"""Other modality codes, for files of a class that has any."""


@cache
def _all() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for package in ("pydicom", "data_store", "deid_data"):
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            for path in sorted(Path(root).rglob("*")):
                if path.is_file() and path.suffix not in (".py", ".pyc"):
                    found.setdefault(path.name, path)
    return found


def source(name: str) -> Path:
    """Return the path of a package's file by its name."""
    return _all()[name]
