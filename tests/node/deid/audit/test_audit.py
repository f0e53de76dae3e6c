"""The audit finds what was left, says where and what kind, and never the value."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import polars as pl
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.uid import DeflatedExplicitVRLittleEndian

from contract.errors import DataError, UsageError
from node.commands.deid import app
from node.deid.audit.identifiers import Identifiers, load_known
from node.deid.audit.search import Search
from node.deid.engine import Deidentifier
from node.deid.identifiers import Known
from node.deid.profile import Options, load_profile
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.landing import Landing
from node.intake.quarantine import Quarantine
from tests.node.deid.export.conftest import image
from tests.node.deid.invoking import Done, invoke

PSEUDONYMS = Pseudonyms(bytes(range(32)))
ORIGINAL = image(
    1,
    "KX48853",
    PatientName="Castellane^Barnaby=诸葛^晓鹏",
    SpecificCharacterSet="ISO_IR 192",
    PatientBirthDate="19620628",
    AccessionNumber="ACC7781234",
    InstitutionName="Harrowgate Memorial Infirmary",
    StudyInstanceUID="1.2.826.0.1.3680043.10.777.5",
)


@pytest.fixture(scope="module")
def clean() -> bytes:
    profile = load_profile("basic")
    return Deidentifier(profile, PSEUDONYMS).deidentify(ORIGINAL).data


@pytest.fixture(scope="module")
def search() -> Search:
    found = Identifiers()
    found.add_original(ORIGINAL, Options(), PSEUDONYMS)
    return Search(found)


def with_values(data: bytes, **values: object) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(data))
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


def test_a_clean_file_has_no_leak_and_the_original_many(search: Search, clean: bytes) -> None:
    assert search.file(clean, "A/B/C/D") == []
    categories = {leak.category for leak in search.file(ORIGINAL, "A")}
    assert categories == {"person", "number", "place", "birth-date", "uid"}


@pytest.mark.parametrize(
    ("keyword", "value", "category"),
    [
        ("StudyDescription", "knee of CASTELLANE", "person"),
        ("StudyDescription", "Barnaby castellane seen", "person"),
        ("ImageComments", "KX 488-53", "number"),
        ("ImageComments", "acc 7781234, left", "number"),
        ("ImageComments", "at Harrowgate Memorial Infirmary", "place"),
        ("ImageComments", "born 28.06.1962", "birth-date"),
        ("ImageComments", "born June 28, 1962", "birth-date"),
        ("ContentDate", "19620628", "birth-date"),
        ("ImageComments", "see 1.2.826.0.1.3680043.10.777.5", "uid"),
        ("FrameOfReferenceUID", "1.2.826.0.1.3680043.10.777.5", "uid"),
    ],
)
def test_a_value_that_was_left_is_found_with_its_place(
    search: Search, clean: bytes, keyword: str, value: str, category: str
) -> None:
    leaks = search.file(with_values(clean, **{keyword: value}), "A")
    tag = pydicom.tag.Tag(keyword)
    assert (f"({tag.group:04x},{tag.element:04x})", category) in {
        (leak.place, leak.category) for leak in leaks
    }
    assert not any(value in repr(leak) for leak in leaks)


@pytest.mark.parametrize(
    ("codec", "charset"),
    [("utf-8", ""), ("gb18030", "GB18030"), ("gb18030", ""), ("utf-8", "ISO_IR 192")],
)
def test_a_name_is_found_in_any_character_set(
    search: Search, clean: bytes, codec: str, charset: str
) -> None:
    dataset = pydicom.dcmread(io.BytesIO(clean))
    dataset.pop("SpecificCharacterSet", None)
    if charset:
        dataset.SpecificCharacterSet = charset
    dataset.add_new(0x00204000, "LT", "病人 诸葛晓鹏 复查".encode(codec))
    file = io.BytesIO()
    dataset.save_as(file)
    assert "person" in {leak.category for leak in search.file(file.getvalue(), "A")}


def test_text_in_bytes_is_found_plain_wide_and_deflated(search: Search, clean: bytes) -> None:
    for hidden in (b"Castellane", "Castellane".encode("utf-16-le"), "KX48853".encode("utf-16-be")):
        planted = hidden + b"\0" * (128 - len(hidden))
        leaks = search.file(planted + clean[128:], "A")
        assert {leak.place for leak in leaks} == {"bytes"}
        assert search.file(clean + b"\xff\xfe" + hidden, "A") != []
    meta_end = 144 + struct.unpack("<L", clean[140:144])[0]
    body = with_values(clean, ImageComments="Castellane")[meta_end:]
    dataset = pydicom.dcmread(io.BytesIO(clean))
    dataset.ImageComments = "Castellane"
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    file = io.BytesIO()
    dataset.save_as(file)
    assert b"Castellane" not in file.getvalue()
    assert len(zlib.compress(body)) < len(body)
    assert "(0020,4000)" in {leak.place for leak in search.file(file.getvalue(), "A")}


def test_names_of_files_and_cells_of_tables_are_searched(search: Search, tmp_path: Path) -> None:
    assert search.file(b"nothing", "castellane/IM1") != []
    table = pl.DataFrame({"subject": ["a", "b"], "note": ["fine", "Mr Castellane"]})
    table.write_parquet(tmp_path / "t.parquet", compression="zstd")
    leaks = search.file((tmp_path / "t.parquet").read_bytes(), "t.parquet")
    assert ("column note", "person") in {(leak.place, leak.category) for leak in leaks}


def test_text_in_pixels_is_read_if_it_is_asked_for(search: Search, clean: bytes) -> None:
    picture = Image.new("L", (320, 128), 20)
    draw = ImageDraw.Draw(picture)
    draw.text((20, 40), "CASTELLANE BARNABY", fill=255, font=ImageFont.load_default(20))
    dataset = pydicom.dcmread(io.BytesIO(clean))
    dataset.Rows, dataset.Columns = 128, 320
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    for keyword in ("SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue"):
        dataset.pop(keyword, None)
    dataset.add_new(0x7FE00010, "OB", picture.tobytes())
    file = io.BytesIO()
    dataset.save_as(file)
    assert search.file(file.getvalue(), "A") == []
    reading = Search(search.identifiers, pixels=True)
    assert {leak.category for leak in reading.file(file.getvalue(), "A")} == {"text-in-pixels"}


def test_another_patients_number_is_a_leak_and_a_common_word_is_none(clean: bytes) -> None:
    found = Identifiers()
    found.add_original(ORIGINAL, Options(), PSEUDONYMS)
    found.add_original(image(2, "QQ99117", PatientName="Knee^Report"), Options(), PSEUDONYMS)
    search = Search(found)
    assert search.file(with_values(clean, ImageComments="Knee report, stable"), "A") == []
    # A scanner's station that nobody named, and a hospital called as others are, identify nobody.
    plain = image(3, "QQ99118", StationName="000000000", InstitutionName="General Hospital")
    found.add_original(plain, Options(), PSEUDONYMS)
    assert (
        Search(found).file(with_values(clean, ImageComments="General hospital 000000000"), "A")
        == []
    )
    leaks = search.file(with_values(clean, ImageComments="see QQ99117"), "A")
    assert {leak.category for leak in leaks} == {"number"}


def test_a_list_may_be_a_table_whose_columns_are_known(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("name,number,birth_date\nCastellane Barnaby,KX48853,1962-06-28\n")
    known = load_known(path)
    assert known.persons == {"Castellane Barnaby"}
    assert known.numbers == {"KX48853"}
    assert len(known.birth_dates) == 1
    path.write_text("name,mumber\nx,1\n")
    with pytest.raises(DataError, match="column"):
        load_known(path)
    assert Identifiers(common=known).empty is False
    assert Identifiers(common=Known()).empty is True


def run(*arguments: str | Path) -> Done:
    return invoke(app, "audit", *arguments)


def test_the_command_ends_well_only_if_nothing_is_found(tmp_path: Path, clean: bytes) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(ORIGINAL)
    out = tmp_path / "out" / "S" / "T"
    out.mkdir(parents=True)
    (out / "A").write_bytes(clean)
    good = run("--vault", tmp_path / "out", "--source", tmp_path / "in")
    assert (good.returncode, good.stdout) == (0, "1 files searched, 0 leaks.\n")
    (out / "B").write_bytes(with_values(clean, ImageComments="Castellane KX48853"))
    bad = run(
        "--vault", tmp_path / "out", "--source", tmp_path / "in", "--report", tmp_path / "r.json"
    )
    assert bad.returncode == DataError.exit_code
    assert "S/T/B (0020,4000)" in bad.stdout
    report = (tmp_path / "r.json").read_text()
    assert (tmp_path / "r.json").stat().st_mode & 0o777 == 0o600
    for text in (bad.stdout, bad.stderr, report):
        assert "astellane" not in text
        assert "48853" not in text
    assert json.loads(report)["leaks_by_category"]["person"] >= 1


def test_an_audit_with_nothing_to_look_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    refused = run("--vault", tmp_path / "out")
    assert refused.returncode == UsageError.exit_code


def test_a_node_is_audited_by_what_its_landing_and_quarantine_hold(
    tmp_path: Path, clean: bytes
) -> None:
    home = NodeHome(tmp_path / "node").create()
    home.pseudonym_key.touch(mode=0o600)
    home.pseudonym_key.write_bytes(bytes(range(32)))
    refused = run("--home", home.root)
    assert refused.returncode == UsageError.exit_code
    Quarantine(home).put("0" * 64, [ORIGINAL])
    with Landing(home).writer("test") as writer:
        writer.write(image(2, "QQ99117", PatientName="Zwicky^Ignatius"))
        writer.commit()
    asset = home.vault / "assets" / "aa" / "aa.dcm"
    asset.parent.mkdir(parents=True)
    asset.write_bytes(clean)
    assert run("--home", home.root).returncode == 0
    asset.write_bytes(with_values(clean, ImageComments="QQ99117"))
    assert run("--home", home.root).returncode == DataError.exit_code
    asset.write_bytes(with_values(clean, ImageComments="Castellane"))
    assert run("--home", home.root).returncode == DataError.exit_code
