"""Slides are known by what is in them; formats that Wardgate can't clean are known by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from node.deid.reading import Unsafe
from node.deid.slides import (
    Format,
    SlideFacts,
    belongs_to_slide,
    drops_instance,
    members,
    recognise,
)
from tests.node.deid.slides import making
from tests.node.deid.slides.making import Plants, jpeg, make_tiff, picture, strip_page, tiled_page
from tests.node.deid.slides.making_mirax import mirax


def tiff(**texts: bytes) -> bytes:
    tags = {int(tag[1:]): (1 if tag == "t700" else 2, text + b"\0") for tag, text in texts.items()}
    return make_tiff([tiled_page(64, 64, tags)])


FILES = {
    Format.TILED_TIFF: tiff(),
    Format.APERIO: tiff(t270=b"Aperio Image Library"),
    Format.NDPI: make_tiff(
        [strip_page(64, 64, {65420: (4, [1]), 65421: (11, [20.0])}, jpeg(picture(64, 64)))],
        ndpi=True,
    ),
    Format.PLAIN_TIFF: make_tiff([strip_page(64, 64, {})]),
    Format.VENTANA: tiff(t700=b"<?xml?><Metadata><iScan Magnification='40'/></Metadata>"),
    Format.SCN: tiff(t270=b"<?xml?><scn xmlns='http://www.leica-microsystems.com/scn/2010/10/01'></scn>"),
    Format.PHILIPS: tiff(t305=b"Philips DP v1.0"),
    Format.QPTIFF: tiff(t305=b"PerkinElmer-QPI"),
    Format.TRESTLE: tiff(t305=b"MedScan"),
    Format.HURON: tiff(t271=b"Huron Digital Pathology"),
    Format.ARGOS: tiff(t65000=b"<Argos.Scan>"),
    Format.VSI: tiff(t33560=b"SIS"),
    Format.LSM: tiff(t34412=b"LSM"),
    Format.CZI: b"ZISRAWFILE" + bytes(100),
    Format.OLE: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100),
    Format.VMS: b"[Virtual Microscope Specimen]\r\nNoLayers=1\r\n",
    Format.ISYNTAX: b'<DataObject ObjectType="DPUfsImport">',
    Format.ETS: b"SIS\0" + bytes(60),
}  # fmt: skip


@pytest.mark.parametrize("form", FILES, ids=lambda form: form.value)
def test_a_format_is_known_whatever_the_file_is_called(form: Format, tmp_path: Path) -> None:
    for name in ("no-ending", "wrong.jpg", "wrong.svs"):
        path = tmp_path / name
        path.write_bytes(FILES[form])
        assert recognise(path) is form


@pytest.mark.parametrize("form", [form for form in Format if form.refused and form in FILES])
def test_a_format_that_cannot_be_cleaned_is_refused(
    form: Format, tmp_path: Path, clean: Callable[[Path], tuple[Path, SlideFacts]]
) -> None:
    path = tmp_path / "a"
    path.write_bytes(FILES[form])
    with pytest.raises(Unsafe, match="slide-format-refused"):
        clean(path)


def test_what_is_no_slide_is_none(tmp_path: Path, public_file: Callable[[str], Path]) -> None:
    path = tmp_path / "a.svs"
    for data in (b"", b"II", b"plain words", making.jpeg(making.picture(32, 32)), b"\0" * 300):
        path.write_bytes(data)
        assert recognise(path) is None
    assert recognise(public_file("CT_small.dcm")) is None
    assert recognise(tmp_path) is None
    assert recognise(tmp_path / "missing") is None


def test_a_mirax_slide_is_its_file_and_its_folder(tmp_path: Path) -> None:
    source = mirax(tmp_path, Plants())
    assert recognise(source) is Format.MIRAX
    names = [path.name for path in members(source)]
    assert names == ["Data0000.dat", "Data0001.dat", "Index.dat", "Slidedat.ini", "notes.txt"]
    assert all(belongs_to_slide(path) for path in members(source))
    assert not belongs_to_slide(source)
    assert members(tmp_path / "other") == ()


def test_labels_and_overviews_of_dicom_slides_are_dropped() -> None:
    slide = "1.2.840.10008.5.1.4.1.1.77.1.6"
    ct = "1.2.840.10008.5.1.4.1.1.2"
    assert drops_instance(("ORIGINAL", "PRIMARY", "LABEL", "NONE"), slide)
    assert drops_instance(("DERIVED", "PRIMARY", "OVERVIEW "), slide)
    assert not drops_instance(("ORIGINAL", "PRIMARY", "VOLUME", "NONE"), slide)
    assert not drops_instance(("DERIVED", "PRIMARY", "THUMBNAIL", "RESAMPLED"), slide)
    assert not drops_instance((), slide)
    assert not drops_instance(("ORIGINAL", "PRIMARY", "LABEL"), ct)
