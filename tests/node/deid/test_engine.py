"""De-identified files: what is gone, what stays, and that they are still DICOM."""

from __future__ import annotations

import io
import re
import shutil
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.deid.elements import parse
from node.deid.engine import Deidentifier
from node.deid.reading import Unsafe
from tests.node.deid.made import dataset, written

EXPECTED_REFUSALS = {
    "MR_truncated.dcm": "truncated",
    "rtplan_truncated.dcm": "truncated",
    "DICOMDIR": "dicomdir",
    "README.txt": "not-dicom",
    "empty_charset_LEI.dcm": "missing-uid",
}
NAMES_A_CLASS = re.compile("Class|CodingScheme|TransferSyntax|ContextUID|MappingResource")
DCIODVFY = shutil.which("dciodvfy")


def read(data: bytes) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(data), force=True)


def elements(dataset: Dataset) -> Iterator[pydicom.DataElement]:
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)


def refusal(deidentifier: Deidentifier, data: bytes) -> str:
    with pytest.raises(Unsafe) as caught:
        deidentifier.deidentify(data)
    return caught.value.reason


@pytest.mark.filterwarnings("ignore")
def test_every_public_file_is_taken_or_refused_for_a_reason(
    public_files: list[Path], basic: Deidentifier
) -> None:
    outcomes: Counter[str] = Counter()
    for path in public_files:
        data = path.read_bytes()
        try:
            result = basic.deidentify(data)
        except Unsafe as unsafe:
            outcomes[unsafe.reason] += 1
            assert EXPECTED_REFUSALS.get(path.name, unsafe.reason) == unsafe.reason
            continue
        assert path.name not in EXPECTED_REFUSALS
        outcomes["taken"] += 1
        before, after = read(data), read(result.data)
        assert result.data[:128] == b"\0" * 128
        assert after.PatientID == result.subject
        assert after.PatientIdentityRemoved == "YES"
        assert after.LongitudinalTemporalInformationModified == "REMOVED"
        assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
        given = str(before.get("SOPInstanceUID", ""))
        well_known = given.startswith("1.2.840.10008.")
        assert well_known or after.SOPInstanceUID != given
        assert after.get("SOPClassUID") == before.get("SOPClassUID")
        assert not [e for e in elements(after) if e.tag.is_private]
        if "PixelData" in before and not after.file_meta.TransferSyntaxUID.is_compressed:
            assert before.PixelData.startswith(after.PixelData.rstrip(b"\0"))
        assert basic.deidentify(data).data == result.data
    assert outcomes["taken"] > 230


@pytest.mark.filterwarnings("ignore")
def test_compressed_pixels_decode_as_before(public_files: list[Path], basic: Deidentifier) -> None:
    compared = 0
    for path in public_files:
        data = path.read_bytes()
        try:
            before, after = read(data), read(basic.deidentify(data).data)
            if not after.file_meta.TransferSyntaxUID.is_compressed or len(data) > 400_000:
                continue
            pixels = before.pixel_array
        except Exception:
            continue
        assert (after.pixel_array == pixels).all(), path.name
        compared += 1
    assert compared > 30


@pytest.mark.filterwarnings("ignore")
def test_no_person_date_or_foreign_uid_is_left_in_any_public_file(
    public_files: list[Path], basic: Deidentifier
) -> None:
    for path in public_files:
        data = path.read_bytes()
        if len(data) > 1_000_000:
            continue
        try:
            result = basic.deidentify(data)
        except Unsafe:
            continue
        for element in elements(read(result.data)):
            value = element.value
            if element.VR == "PN":
                assert str(value) in ("", "REMOVED", result.subject)
            elif element.VR == "DA":
                assert value in (None, "", "19000101")
            elif element.VR == "DT":
                assert value in (None, "", "19000101000000")
            elif element.VR == "UI" and value and not NAMES_A_CLASS.search(element.keyword):
                many = [value] if isinstance(value, str) else value
                for uid in many:
                    assert uid.startswith(("2.25.", "1.2.840.10008.")), element.keyword


def test_references_between_files_are_kept(
    public_file: Callable[[str], Path], basic: Deidentifier
) -> None:
    plan = read(public_file("rtplan.dcm").read_bytes())
    dose = read(public_file("rtdose.dcm").read_bytes())
    dose.FrameOfReferenceUID = plan.SOPInstanceUID
    changed = io.BytesIO()
    dose.save_as(changed)
    one = read(basic.deidentify(public_file("rtplan.dcm").read_bytes()).data)
    other = read(basic.deidentify(changed.getvalue()).data)
    assert one.SOPInstanceUID == other.FrameOfReferenceUID


def _image(public_file: Callable[[str], Path], **values: object) -> bytes:
    dataset = read(public_file("CT_small.dcm").read_bytes())
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


def test_images_with_burned_in_text_are_refused(
    public_file: Callable[[str], Path], basic: Deidentifier
) -> None:
    burned = _image(public_file, BurnedInAnnotation="YES")
    assert refusal(basic, burned) == "burned-in-annotation"
    for odd in (["NO", "YES"], ["YES", "NO"], "yes", "Y"):
        assert refusal(basic, _image(public_file, BurnedInAnnotation=odd)) == "burned-in-annotation"
    for plain in ("NO", "", None):
        assert basic.deidentify(_image(public_file, BurnedInAnnotation=plain)).modality == "CT"


def _with_embedded_overlay(public_file: Callable[[str], Path], position: int) -> pydicom.Dataset:
    dataset = read(public_file("CT_small.dcm").read_bytes())
    pixels = (dataset.pixel_array.astype("<u2") & 0x0FFF) | 0x8000
    dataset.PixelData = pixels.tobytes()
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    dataset.add_new(0x60000010, "US", 128)
    dataset.add_new(0x60000011, "US", 128)
    dataset.add_new(0x60000100, "US", 16)
    dataset.add_new(0x60000102, "US", position)
    return dataset


def test_bits_of_an_overlay_hidden_in_pixels_are_cleared(
    public_file: Callable[[str], Path], basic: Deidentifier
) -> None:
    dataset = _with_embedded_overlay(public_file, 15)
    file = io.BytesIO()
    dataset.save_as(file)
    after = read(basic.deidentify(file.getvalue()).data)
    assert (after.pixel_array == dataset.pixel_array & 0x0FFF).all()
    assert not [e for e in after if e.tag.group == 0x6000]


def test_an_overlay_in_the_images_own_bits_is_refused(
    public_file: Callable[[str], Path], basic: Deidentifier
) -> None:
    file = io.BytesIO()
    _with_embedded_overlay(public_file, 11).save_as(file)
    assert refusal(basic, file.getvalue()) == "embedded-overlay"


def test_dates_move_together_and_intervals_stay(
    public_file: Callable[[str], Path], longitudinal: Deidentifier
) -> None:
    from datetime import datetime

    def day(text: str) -> datetime:
        return datetime.strptime(text, "%Y%m%d")

    first = _image(public_file, StudyDate="20200101", AcquisitionDateTime="20200110093000")
    later = _image(public_file, StudyDate="20200301", StudyTime="121314")
    one, two = (read(longitudinal.deidentify(data).data) for data in (first, later))
    offset = longitudinal.pseudonyms.days(one.PatientID)
    assert (day("20200101") - day(one.StudyDate)).days == offset
    assert (day(two.StudyDate) - day(one.StudyDate)).days == 60
    assert (day(one.AcquisitionDateTime[:8]) - day(one.StudyDate)).days == 9
    assert one.AcquisitionDateTime[8:] == "093000"
    assert two.StudyTime == "121314"
    assert two.PatientBirthDate == ""
    assert two.LongitudinalTemporalInformationModified == "MODIFIED"
    codes = [c.CodeValue for c in two.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107"]


def test_a_date_that_is_no_date_does_not_stay(
    public_file: Callable[[str], Path], longitudinal: Deidentifier
) -> None:
    data = _image(public_file, StudyDate="20200101").replace(b"20200101", b"SMITH JO")
    assert b"SMITH" in data
    assert b"SMITH" not in longitudinal.deidentify(data).data


@pytest.mark.filterwarnings("ignore")
def test_a_file_without_preamble_or_meta_gets_both(
    public_file: Callable[[str], Path], basic: Deidentifier
) -> None:
    data = public_file("ExplVR_LitEndNoMeta.dcm").read_bytes()
    assert data[128:132] != b"DICM"
    after = basic.deidentify(data).data
    assert after[128:132] == b"DICM"
    assert read(after).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_a_subject_without_identifier_is_one_per_study(
    public_file: Callable[[str], Path], basic: Deidentifier
) -> None:
    one = basic.deidentify(_image(public_file, PatientID="", StudyInstanceUID="1.2.3"))
    same = basic.deidentify(_image(public_file, PatientID="", StudyInstanceUID="1.2.3"))
    other = basic.deidentify(_image(public_file, PatientID="", StudyInstanceUID="1.2.4"))
    assert one.subject == same.subject != other.subject


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_cut_anywhere_is_never_taken(
    public_file: Callable[[str], Path], basic: Deidentifier, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["CT_small.dcm", "JPEG2000.dcm", "rtplan.dcm"]))
    whole = public_file(name).read_bytes()
    end = data.draw(st.integers(0, len(whole) - 1))
    try:
        basic.deidentify(whole[:end])
    except Unsafe:
        return
    # Between two elements, a cut can't be seen.
    assert end in {element.after for element in parse(whole).dataset.elements}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_taken_or_refused_and_nothing_else(
    public_file: Callable[[str], Path], basic: Deidentifier, data: st.DataObject
) -> None:
    whole = bytearray(public_file("rtplan.dcm").read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        basic.deidentify(bytes(whole))
    except Unsafe as unsafe:
        assert unsafe.reason


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2000))
def test_noise_is_not_dicom(basic: Deidentifier, noise: bytes) -> None:
    assert refusal(basic, noise) in ("empty", "not-dicom")


@pytest.mark.skipif(DCIODVFY is None, reason="dciodvfy (Debian package dicom3tools) isn't here")
@pytest.mark.parametrize(
    "name",
    ["CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "rtplan.dcm", "US1_J2KR.dcm", "reportsi.dcm"],
)
def test_dciodvfy_finds_no_error_that_was_not_there_before(
    name: str,
    public_file: Callable[[str], Path],
    basic: Deidentifier,
    longitudinal: Deidentifier,
    tmp_path: Path,
) -> None:
    def errors(data: bytes) -> set[str]:
        path = tmp_path / "file.dcm"
        path.write_bytes(data)
        assert DCIODVFY is not None
        done = subprocess.run([DCIODVFY, path], capture_output=True, errors="replace", check=False)
        lines = (line for line in done.stderr.splitlines() if line.startswith("Error"))
        return {re.sub(r"<[0-9.]{10,}>", "<uid>", line) for line in lines}

    data = public_file(name).read_bytes()
    for deidentifier in (basic, longitudinal):
        assert errors(deidentifier.deidentify(data).data) <= errors(data)


def test_an_image_and_a_table_of_one_subject_have_one_pseudonym(
    public_file: Callable[[str], Path], basic: Deidentifier
) -> None:
    image = basic.deidentify(_image(public_file, PatientID="4711 "))
    assert image.subject == basic.pseudonyms.subject("4711")
    assert read(image.data).PatientID == image.subject


@pytest.mark.filterwarnings("ignore")
def test_what_is_told_of_a_file_is_cleaned_as_the_file_is(longitudinal: Deidentifier) -> None:
    """The catalogue and reports are made of it."""
    words = {"Modality": "THISTLEWOOD", "Laterality": "THISTLEWOOD", "InstanceNumber": "4711993"}
    told = longitudinal.deidentify(written(dataset(**words)))
    said = f"{told.modality} {told.laterality} {told.instance_number} {told.body_part}"
    assert "THISTLEWOOD" not in said
    assert "4711993" not in said
    kept = longitudinal.deidentify(
        written(dataset(Modality="CT", ImageLaterality="L", InstanceNumber="12"))
    )
    assert (kept.modality, kept.laterality, kept.instance_number) == ("CT", "L", "12")


def _with_elements(*elements: tuple[int, bytes]) -> bytes:
    """Return a file in implicit VR with elements behind its own, whatever their values are."""
    made = dataset()
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    file = io.BytesIO()
    made.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)
    more = (struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(v)) + v for tag, v in elements)
    return file.getvalue() + b"".join(more)


@pytest.mark.parametrize("value", [b"Thistlewood^Jane", b"Jane", b"MRN4711993"])
@pytest.mark.parametrize("tag", [0x00280106, 0x00280103, 0x00281101, 0x00283006, 0x00181310])
def test_text_where_numbers_belong_goes(longitudinal: Deidentifier, tag: int, value: bytes) -> None:
    assert value not in longitudinal.deidentify(_with_elements((tag, value))).data


@pytest.mark.parametrize("tag", [0x0018A001, 0x00400555, 0x0040A730, 0x00081140])
@pytest.mark.parametrize(
    "value",
    [
        b"Jane",
        b"\xfe\xff\x00\xe0\0\0\0\0Jane",
        b"\xfe\xff\x00\xe0\x04\0\0\0Jane",
        b"\xfe\xff\xdd\xe0\0\0\0\0Thistlewood^Jane",
    ],
)
def test_what_is_no_item_of_a_sequence_goes(
    longitudinal: Deidentifier, tag: int, value: bytes
) -> None:
    try:
        after = longitudinal.deidentify(_with_elements((tag, value))).data
    except Unsafe:
        return
    assert b"Jane" not in after
