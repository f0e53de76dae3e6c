"""Slides, photographs and archives: seen by their content, written or left out by name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import openslide
import pytest
from PIL import Image as Pillow

from node.deid.export.kinds import kind_of
from tests.node.deid.export.conftest import Image, Run, report, tree
from tests.node.deid.slides import making
from tests.node.deid.slides.making import Plants
from tests.node.deid.slides.making_mirax import mirax


def test_slides_are_written_under_new_names_and_open(
    source: Path, tmp_path: Path, run: Run
) -> None:
    folder = source / "THORNBURY_KX48853"
    folder.mkdir()
    (folder / "scan.svs").write_bytes(making.aperio(Plants()))
    (folder / "no ending").write_bytes(making.pyramid(Plants()))
    (folder / "scan.tif").write_bytes(making.pyramid(Plants(), order=">"))
    mirax(folder, Plants())
    run()
    found = report(tmp_path / "out")
    assert found["outcomes"]["written"] == 4
    assert found["outcomes"]["part-of-slide"] > 2
    files = [row["file"] for row in found["files"] if row["outcome"] == "written"]
    assert sorted(Path(name).suffix for name in files) == [".mrxs", ".svs", ".tif", ".tif"]
    assert len({name.split("/")[0] for name in files}) == 1
    for name in files:
        assert name.split("/")[1] == "SLIDES"
        with openslide.OpenSlide(tmp_path / "out" / name) as slide:
            assert slide.level_count >= 1
    assert "THORNBURY" not in " ".join(tree(tmp_path / "out"))


def test_a_subject_is_known_by_the_name_of_its_folder_as_by_a_patient_id(
    source: Path, tmp_path: Path, run: Run, make_image: Image
) -> None:
    for name in ("KX48853", "KX1", "dicom"):
        (source / name).mkdir()
    picture = Pillow.new("RGB", (64, 48), (90, 60, 50))
    picture.save(source / "KX48853" / "a.png")
    picture.save(source / "KX1" / "b.jpg", quality=90)
    (source / "dicom" / "c").write_bytes(make_image(1, "KX48853"))
    run()
    files = [row["file"] for row in report(tmp_path / "out")["files"]]
    subjects = {Path(name).suffix: name.split("/")[0] for name in files}
    assert subjects[".png"] == subjects[""] != subjects[".jpg"]


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, bz2.compress, lzma.compress, lambda data: b"7z\xbc\xaf\x27\x1c" + data],
)
def test_archives_are_left_out_by_name(
    source: Path, tmp_path: Path, run: Run, make_image: Image, pack: Callable[[bytes], bytes]
) -> None:
    (source / "IM1.dcm").write_bytes(pack(make_image(1)))
    with tarfile.open(source / "IM2.dcm", "w") as archive:
        archive.addfile(tarfile.TarInfo("x"), io.BytesIO())
    run()
    assert report(tmp_path / "out")["outcomes"] == {"archive": 2}


def test_dicom_pictures_of_a_slides_label_are_left_out(
    source: Path, tmp_path: Path, run: Run, make_image: Image
) -> None:
    wsi = "1.2.840.10008.5.1.4.1.1.77.1.6"
    for number, kind in enumerate(("VOLUME", "LABEL", "OVERVIEW")):
        data = make_image(number, SOPClassUID=wsi, ImageType=["ORIGINAL", "PRIMARY", kind, "NONE"])
        (source / kind).write_bytes(data)
    run()
    outcomes = [row["outcome"] for row in report(tmp_path / "out")["files"]]
    assert outcomes == ["slide-label", "slide-label", "written"]


def test_a_dicom_file_with_the_preamble_of_a_tiff_is_a_dicom_file(
    source: Path, tmp_path: Path, run: Run, make_image: Image
) -> None:
    data = b"II*\0" + make_image(1)[4:]
    assert kind_of(data[:4096], "x") == "dicom"
    (source / "dual.tif").write_bytes(data)
    run()
    (written,) = tree(tmp_path / "out").values()
    assert written[:132] == bytes(128) + b"DICM"
