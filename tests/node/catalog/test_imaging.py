"""How images were taken and how bright they are, from a release's images to a release's columns."""

from __future__ import annotations

import hashlib
import math
from datetime import date, datetime
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from typer.testing import CliRunner

from contract.statistics.intensities import normalisation
from contract.statistics.summaries import Moments
from node.catalog.dictionary import parse_dictionary, to_toml
from node.catalog.freezing import Plan, plan_release
from node.catalog.intensities import brightness, of_values, spread
from node.catalog.selection import AssetFilter, Selection
from node.catalog.store import Catalog
from node.commands.release import app
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.schema import parse_schema
from node.intake.tables import ingest_table
from node.intake.vault import Vault
from tests.node.catalog.making import asset

TODAY = date(2026, 3, 1)
NUMBERS = count()
CT = "1.2.840.10008.5.1.4.1.1.2"


def dicom(pixels: np.ndarray, **elements: Any) -> bytes:
    """A CT slice of 16 bits, slope 2 and intercept -1000."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = CT
    made.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(elements)])
    made.SOPClassUID, made.SOPInstanceUID = CT, made.file_meta.MediaStorageSOPInstanceUID
    made.Modality = "CT"
    made.Rows, made.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        made.NumberOfFrames = pixels.shape[0]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 0
    made.RescaleSlope, made.RescaleIntercept = 2, -1000
    made.PixelData = pixels.astype("<u2").tobytes()
    for name, value in elements.items():
        setattr(made, name, value)
    buffer = BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def keep(
    catalog: Catalog, home: NodeHome, subject: str, data: bytes, suffix: str = ".dcm", **row: Any
) -> None:
    """Put an image into vault and catalogue."""
    digest = hashlib.sha256(data).hexdigest()
    Vault(home).put(digest, data, suffix)
    number = next(NUMBERS)
    catalog.record([asset(number, subject, digest=digest, suffix=suffix, **row)], [])


def slice_of(seed: int, **elements: Any) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 1500, (8, 8))
    return dicom(pixels, **elements)


def imaging(name: str, parameter: str, modality: str = "CT", **more: Any) -> dict[str, Any]:
    derive = {"imaging": parameter, "modality": modality}
    return {"name": name, "kind": "number", **more, "derive": derive}


MAKERS = ["ACME", "Bolt", "mixed"]
VARIABLES = [
    imaging("ct.images", "images", whole=True),
    imaging("ct.kvp", "kvp", unit="kV"),
    imaging("ct.slice_thickness", "slice_thickness", unit="mm"),
    imaging("ct.pixel_spacing", "pixel_spacing", unit="mm"),
    imaging("mr.field_strength", "field_strength", "MR", unit="T"),
    imaging("ct.manufacturer", "manufacturer", kind="category", levels=MAKERS),
    imaging("slide.stain", "stain", "SM", kind="category", levels=["HE", "mixed"]),
    imaging("slide.magnification", "magnification", "SM"),
    imaging("photo.megapixels", "megapixels", "XC"),
    {
        "name": "ct.intensity",
        "kind": "number",
        "derive": {
            "intensity": "all",
            "modality": "CT",
            "minimum": -1000,
            "maximum": 2000,
            "bins": 6,
        },
    },
]


@pytest.fixture
def hospital(catalog: Catalog, home: NodeHome) -> NodeHome:
    """Four subjects with images of several kinds."""
    spacing = {"PixelSpacing": [0.5, 0.7]}
    keep(catalog, home, "a", slice_of(1, KVP=120, SliceThickness=1, **spacing))
    keep(catalog, home, "a", slice_of(2, KVP=120, SliceThickness=3, **spacing))
    keep(catalog, home, "a", slice_of(3, KVP=100, SliceThickness=5, **spacing))
    keep(catalog, home, "b", slice_of(4, KVP=80), manufacturer="Bolt")
    keep(catalog, home, "b", slice_of(5), manufacturer="ACME")
    keep(catalog, home, "c", slice_of(6, MagneticFieldStrength=1.5), modality="MR")
    slide = {"kind": "slide", "modality": "SM", "stain": "HE", "magnification": 40.0}
    keep(catalog, home, "c", b"no slide", ".svs", **slide)
    photograph = {"kind": "photograph", "modality": "XC", "rows": 1000, "columns": 2000}
    keep(catalog, home, "d", b"no picture", ".jpg", **photograph)
    return home


def plan(catalog: Catalog, home: NodeHome, variables: list[dict[str, Any]]) -> Plan:
    read = parse_dictionary({"name": "d", "variables": variables}, "test").variables
    selection = Selection(assets=AssetFilter())
    return plan_release(
        catalog, home, "r", selection, today=TODAY, variables=read, image_table="pictures"
    )


def table_of(found: Plan) -> dict[str, list[Any]]:
    return (
        pl.read_parquet(found.parts["tables/pictures.parquet"])
        .sort("subject")
        .to_dict(as_series=False)
    )


def test_a_release_of_images_alone_has_a_table_of_how_they_were_taken(
    hospital: NodeHome, catalog: Catalog
) -> None:
    found = plan(catalog, hospital, VARIABLES)
    table = table_of(found)
    assert found.manifest.table == "pictures"
    assert (found.manifest.rows, found.manifest.subjects) == (4, 4)
    assert table["subject"] == ["a", "b", "c", "d"]
    assert table["ct.images"] == [3, 2, 0, 0]
    assert table["ct.kvp"] == [120, 80, None, None]
    assert table["ct.slice_thickness"] == [3, None, None, None]
    assert table["ct.pixel_spacing"] == [0.6, None, None, None]
    assert table["mr.field_strength"] == [None, None, 1.5, None]
    assert table["ct.manufacturer"] == ["ACME", "mixed", None, None]
    assert table["slide.stain"] == [None, None, "HE", None]
    assert table["slide.magnification"] == [None, None, 40, None]
    assert table["photo.megapixels"] == [None, None, None, 2]
    assert found.manifest.derived.keys() == {c.name for c in found.manifest.columns}


def test_each_subject_is_one_unit_of_mass_in_the_histogram(
    hospital: NodeHome, catalog: Catalog
) -> None:
    table = table_of(plan(catalog, hospital, VARIABLES))
    bins = [f"ct.intensity.b{i:02}" for i in range(6)]
    for row, seeds in ((0, (1, 2, 3)), (1, (4, 5))):
        shares = [table[name][row] for name in bins]
        assert sum(shares) == pytest.approx(1, abs=1e-12)
        units = [np.random.default_rng(s).integers(0, 1500, (8, 8)) * 2 - 1000 for s in seeds]
        wanted = sum(np.histogram(u, bins=6, range=(-1000, 2000))[0] / u.size for u in units)
        assert shares == pytest.approx((wanted / len(seeds)).tolist(), abs=1e-12)
        together = np.concatenate([u.ravel() for u in units])  # all images are as large
        assert table["ct.intensity.mean"][row] == pytest.approx(together.mean(), rel=1e-12)
        assert table["ct.intensity.sd"][row] == pytest.approx(together.std(), rel=1e-9)
    assert table["ct.intensity.b00"][2:] == [None, None]


def test_a_table_has_its_subjects_images_described_beside_its_columns(
    hospital: NodeHome, catalog: Catalog, now: datetime
) -> None:
    key = Pseudonyms(b"k" * 32)
    schema = parse_schema(
        {"table": "t", "subject": "pid", "columns": [{"name": "age", "type": "integer"}]}, "test"
    )
    ingest_table(b"pid,age\np1,50\np2,60\n", schema, key, catalog, hospital, now=now)
    keep(catalog, hospital, key.subject("p1"), slice_of(9, KVP=140))
    variables = parse_dictionary({"name": "d", "variables": VARIABLES[:2]}, "test").variables
    selection = Selection(table="t", assets=AssetFilter(modality=("CT",)))
    found = plan_release(catalog, hospital, "r", selection, today=TODAY, variables=variables)
    frame = pl.read_parquet(found.parts["tables/t.parquet"]).sort("age")
    assert frame.select("age", "ct.images", "ct.kvp").rows() == [(50, 1, 140), (60, 0, None)]
    alone = Selection(table="t")
    found = plan_release(catalog, hospital, "r", alone, today=TODAY, variables=variables)
    assert all("no images" in one.problem for one in found.made)


def test_release_create_makes_them(hospital: NodeHome, tmp_path: Path) -> None:
    path = tmp_path / "d.toml"
    dictionary = {"name": "d", "table": "pictures", "variables": VARIABLES}
    path.write_text(to_toml(parse_dictionary(dictionary, "test")))
    options = ["--all-assets", "--dictionary", str(path), "--home", str(hospital.root)]
    done = CliRunner().invoke(app, ["create", "r", *options, "--dry-run"])
    assert done.exception is None, done.exception
    assert "  ct.kvp: 2 missing" in done.output


# ---- pixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "JPEG2000.dcm",
        "JPEG-LL.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "examples_palette.dcm",
        "emri_small.dcm",
        "693_J2KI.dcm",
        "color3d_jpeg_baseline.dcm",
        "mlut_18.dcm",
        "gdcm-US-ALOKA-16.dcm",
        "SC_rgb_rle_16bit.dcm",
        "SC_rgb_rle_32bit.dcm",
        "examples_overlay.dcm",
        "liver_1frame.dcm",
    ],
)
def test_pixels_of_pydicoms_own_files_are_read(name: str) -> None:
    path = get_testdata_file(name)
    if path is None:
        pytest.skip("pydicom hasn't got the file here")
    found = spread(Path(str(path)), "dicom", -2000, 70000, 8)
    assert found is not None
    assert found.shares.sum() == pytest.approx(1)


def test_a_ct_is_measured_in_hounsfield_units() -> None:
    path = Path(str(get_testdata_file("CT_small.dcm")))
    held = pydicom.dcmread(path)
    units = held.pixel_array.astype(float) * float(held.RescaleSlope) + float(held.RescaleIntercept)
    if "PixelPaddingValue" in held:
        units = units[held.pixel_array != held.PixelPaddingValue]
    found = spread(path, "dicom", -5000, 5000, 1)
    assert found is not None
    assert found.mean == pytest.approx(units.mean(), rel=1e-12)
    assert found.part("sd") == pytest.approx(units.std(), rel=1e-9)


UNITLESS = {"Modality": "DX", "RescaleSlope": 1, "RescaleIntercept": 0}
SIGNED = {"PixelRepresentation": 1, "BitsStored": 12, "HighBit": 11}


def measured(folder: Path, pixels: np.ndarray, **elements: Any) -> tuple[float, float, list[float]]:
    path = folder / "one.dcm"
    path.write_bytes(dicom(pixels, **elements))
    found = spread(path, "dicom", -70000, 70000, 50)
    assert found is not None
    return found.mean, found.part("sd"), found.shares.tolist()


@pytest.mark.parametrize(
    ("elements", "turned"),
    [
        ({}, lambda stored: 65535 - stored),
        ({"BitsStored": 12, "HighBit": 11}, lambda stored: 4095 - stored),
        (SIGNED, lambda stored: -1 - stored),
        ({"RescaleSlope": 3, "RescaleIntercept": -50, "RescaleType": "US"}, lambda s: 65535 - s),
    ],
)
def test_images_whose_least_value_is_white_are_as_bright_as_those_whose_least_is_black(
    tmp_path: Path, elements: dict[str, Any], turned: Any
) -> None:
    stored = np.random.default_rng(1).integers(-1500 if elements == SIGNED else 0, 1500, (8, 8))
    elements = UNITLESS | elements
    inverse = measured(tmp_path, stored, PhotometricInterpretation="MONOCHROME1", **elements)
    assert inverse == measured(tmp_path, turned(stored), **elements)
    # Padding is a stored value, however the image is shown.
    padded = {**elements, "PixelPaddingValue": int(stored[0, 0])}
    inverse = measured(tmp_path, stored, PhotometricInterpretation="MONOCHROME1", **padded)
    padded["PixelPaddingValue"] = int(turned(stored[0, 0]))
    assert inverse == measured(tmp_path, turned(stored), **padded)


def test_a_radiograph_of_pydicoms_files_is_turned_round_within_what_it_can_store() -> None:
    path = get_testdata_file("RG1_J2KI.dcm")
    if path is None:
        pytest.skip("pydicom hasn't got the file here")
    held = pydicom.dcmread(str(path))
    assert (held.PhotometricInterpretation, held.BitsStored) == ("MONOCHROME1", 15)
    found = spread(Path(str(path)), "dicom", 0, 2**15 - 1, 1)
    assert found is not None
    assert found.mean == pytest.approx(2**15 - 1 - held.pixel_array.mean(), rel=1e-12)


@pytest.mark.parametrize("elements", [{}, UNITLESS | {"RescaleType": "OD"}])
def test_a_quantity_with_a_unit_is_the_same_however_it_is_shown(
    tmp_path: Path, elements: dict[str, Any]
) -> None:
    stored = np.random.default_rng(1).integers(0, 1500, (8, 8))
    inverse = measured(tmp_path, stored, PhotometricInterpretation="MONOCHROME1", **elements)
    assert inverse == measured(tmp_path, stored, **elements)


def test_a_table_of_the_modality_is_turned_round_within_what_it_gives(tmp_path: Path) -> None:
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4, 0, 16])
    table.ModalityLUTType = "US"
    table.add_new("LUTData", "US", [1000, 600, 200, 100])
    pixels = np.arange(64).reshape(8, 8) % 4
    path = tmp_path / "table.dcm"
    made = pydicom.dcmread(BytesIO(dicom(pixels, Modality="DX")))
    del made.RescaleSlope, made.RescaleIntercept
    made.ModalityLUTSequence = [table]
    for shown, mean in (("MONOCHROME2", 475), ("MONOCHROME1", 65535 - 475)):
        made.PhotometricInterpretation = shown
        made.save_as(path, enforce_file_format=True)
        found = spread(path, "dicom", 0, 70000, 1)
        assert found is not None
        assert found.mean == pytest.approx(mean)


def test_an_enhanced_image_is_measured_by_each_frames_own_transformation(tmp_path: Path) -> None:
    def group(slope: float, intercept: float) -> Dataset:
        macro, found = Dataset(), Dataset()
        macro.RescaleSlope, macro.RescaleIntercept, macro.RescaleType = slope, intercept, "HU"
        found.PixelValueTransformationSequence = [macro]
        return found

    made = pydicom.dcmread(BytesIO(dicom(np.full((2, 8, 8), 100))))
    del made.RescaleSlope, made.RescaleIntercept
    path = tmp_path / "enhanced.dcm"
    for groups, held, mean in (
        ("SharedFunctionalGroupsSequence", [group(2, -1000)], -800),
        ("PerFrameFunctionalGroupsSequence", [group(1, 0), group(3, 100)], 250),
    ):
        setattr(made, groups, held)
        made.save_as(path, enforce_file_format=True)
        found = spread(path, "dicom", -2000, 2000, 1)
        assert found is not None
        assert found.mean == pytest.approx(mean)
    real = get_testdata_file("eCT_Supplemental.dcm")
    if real is not None:
        stored = pydicom.dcmread(str(real)).pixel_array
        found = spread(Path(str(real)), "dicom", -5000, 70000, 1)
        assert found is not None
        assert found.mean == pytest.approx(stored.mean() - 1024, rel=1e-9)


def test_bits_beside_those_of_the_value_do_not_count(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 1500, (8, 8))
    bits = {"BitsStored": 12, "HighBit": 11}
    overlay = np.where(np.arange(64).reshape(8, 8) % 3 == 0, 1 << 12, 0)
    assert measured(tmp_path, pixels + overlay, **bits) == measured(tmp_path, pixels, **bits)


def test_padding_that_was_written_without_its_sign_does_not_count(tmp_path: Path) -> None:
    made = pydicom.dcmread(BytesIO(dicom(np.array([[-2000, 10], [10, 10]]), PixelRepresentation=1)))
    made.add_new("PixelPaddingValue", "US", 63536)
    path = tmp_path / "padded.dcm"
    made.save_as(path, enforce_file_format=True)
    found = spread(path, "dicom", -5000, 1000, 4)
    assert found is not None
    assert found.mean == 10 * 2 - 1000


def test_padding_does_not_count(tmp_path: Path) -> None:
    pixels = np.full((8, 8), 600)
    pixels[:4] = 0
    path = tmp_path / "padded.dcm"
    path.write_bytes(dicom(pixels, PixelPaddingValue=0))
    found = spread(path, "dicom", -1000, 1000, 4)
    assert found is not None
    assert (found.mean, found.part("sd")) == (200, 0)


def test_frames_of_one_file_weigh_alike(tmp_path: Path) -> None:
    path = tmp_path / "frames.dcm"
    path.write_bytes(dicom(np.stack([np.full((8, 8), v) for v in (500, 600, 700)])))
    found = spread(path, "dicom", -1000, 1000, 4)
    assert found is not None
    assert found.mean == pytest.approx(200)


def test_brightness_of_a_photograph(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 30), (255, 0, 0)).save(path)
    found = spread(path, "photograph", 0, 255, 3)
    assert found is not None
    assert found.mean == pytest.approx(0.299 * 255)
    assert found.shares.tolist() == [1, 0, 0]
    assert brightness(np.array([[[0, 255, 0]]], dtype=np.uint8)).item() == pytest.approx(149.685)


@pytest.mark.parametrize("kind", ["dicom", "slide", "photograph"])
def test_what_can_not_be_read_has_no_intensities(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "nothing"
    path.write_bytes(b"nothing of the kind" * 100)
    assert spread(path, kind, 0, 1, 1) is None


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=50), st.integers(1, 9))
def test_a_spread_is_bounded_whatever_the_pixels(values: list[float], bins: int) -> None:
    """So that nobody counts for more than a share of 1, nor noise for less than it should."""
    found = of_values(np.array(values), -100, 300, bins)
    assert found is not None
    assert -100 <= found.mean <= 300
    assert 0 <= found.part("sd") <= 400
    assert found.shares.sum() == pytest.approx(1)
    assert (found.shares >= 0).all()


@given(
    st.lists(st.lists(st.floats(-1000, 3000), min_size=5, max_size=5), min_size=2, max_size=12),
    st.integers(0, 12),
)
def test_normalisation_constants_over_sites_are_those_of_all_pixels(
    subjects: list[list[float]], cut: int
) -> None:
    def moments(values: list[float]) -> Moments:
        first, second = values[:cut], values[cut:]
        return Moments.of(np.array(first)).merge(Moments.of(np.array(second)))

    found = normalisation(
        moments([float(np.mean(s)) for s in subjects]),
        moments([float(np.std(s)) for s in subjects]),
    )
    pooled = np.concatenate([np.array(s) for s in subjects])
    assert found.mean == pytest.approx(pooled.mean(), rel=1e-9, abs=1e-6)
    assert found.standard_deviation == pytest.approx(pooled.std(), rel=1e-6, abs=1e-6)


def test_constants_of_nobody_are_undefined() -> None:
    assert math.isnan(normalisation(Moments(), Moments()).mean)
