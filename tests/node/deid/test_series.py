"""A file that is de-identified by the one before it comes out as if it were the first."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from node.deid.engine import Deidentifier
from node.deid.profile import load_profile
from node.deid.pseudonyms import Pseudonyms
from node.deid.reading import Unsafe
from tests.examples import examples

PROFILES = [load_profile(name).with_pixels("off") for name in ("basic", "research")]
Change = Callable[[Dataset], None]


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


CHANGES: list[Change] = [
    lambda ds: setattr(ds, "InstanceNumber", 1234),
    lambda ds: setattr(ds, "SliceLocation", "-1234.5"),
    lambda ds: setattr(ds, "SOPInstanceUID", "1.2.3.4.5.6.7"),
    lambda ds: setattr(ds, "SOPInstanceUID", ""),
    lambda ds: setattr(ds, "PatientName", "Other^Somebody"),
    lambda ds: setattr(ds, "PatientID", "another"),
    lambda ds: setattr(ds, "StudyDate", "20010203"),
    lambda ds: setattr(ds, "ContentTime", "101112.5"),
    lambda ds: setattr(ds, "AcquisitionDateTime", "20010203101112.5"),
    lambda ds: setattr(ds, "AccessionNumber", "ACC9988776655"),
    lambda ds: setattr(ds, "SeriesDescription", "seen by CompressedSamples"),
    lambda ds: setattr(ds, "ImageComments", "ACC9988776655 and Somebody"),
    lambda ds: setattr(ds, "InstitutionName", "Foxglove Infirmary"),
    lambda ds: setattr(ds, "SpecificCharacterSet", "ISO_IR 192"),
    lambda ds: setattr(ds, "Rows", 64),
    lambda ds: setattr(ds, "BurnedInAnnotation", "YES"),
    lambda ds: setattr(ds, "SeriesInstanceUID", "1.2.3.99"),
    lambda ds: setattr(ds, "Modality", "MR"),
    lambda ds: setattr(ds, "PixelData", ds.PixelData[::-1]),
    lambda ds: setattr(ds, "PixelData", ds.PixelData[:-2]),
    lambda ds: setattr(ds, "PixelData", ds.PixelData + b"Somebody Else's"),
    lambda ds: ds.add_new(0x00091001, "LO", "Somebody^Private"),
    lambda ds: ds.add_new(0x60000010, "US", 12),
    lambda ds: ds.add_new(0xFFFCFFFC, "OB", b"Somebody"),
    lambda ds: setattr(
        ds,
        "RequestAttributesSequence",
        Sequence([_item(RequestedProcedureDescription="for Foxglove", AccessionNumber="A1234567")]),
    ),
    lambda ds: ds.pop("SliceLocation", None),
    lambda ds: ds.pop("StudyInstanceUID", None),
]


def _bytes(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=examples(50, 150), deadline=None)
@given(st.data())
def test_what_came_before_makes_no_difference(
    public_file: Callable[[str], Path], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm"]))
    whole = public_file(name).read_bytes()
    profile = data.draw(st.sampled_from(PROFILES))
    pseudonyms = Pseudonyms(bytes(32))
    one = Deidentifier(profile, pseudonyms)
    for _ in range(3):
        dataset = pydicom.dcmread(io.BytesIO(whole))
        for change in data.draw(st.lists(st.sampled_from(CHANGES), max_size=3)):
            change(dataset)
        given_bytes = _bytes(dataset)
        outcomes = []
        for deidentifier in (one, Deidentifier(profile, pseudonyms)):
            try:
                outcome = deidentifier.deidentify(given_bytes)
                outcomes.append((outcome.data, outcome.subject, outcome.instance_number))
            except Unsafe as unsafe:
                outcomes.append((unsafe.reason.encode(), "", ""))
        assert outcomes[0] == outcomes[1]


@pytest.mark.filterwarnings("ignore")
def test_slices_of_a_series_are_done_by_the_one_before(
    public_file: Callable[[str], Path], basic: Deidentifier
) -> None:
    dataset = pydicom.dcmread(public_file("CT_small.dcm"))
    basic.deidentify(_bytes(dataset))
    before = basic.template
    assert before is not None
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.InstanceNumber, dataset.SliceLocation = 12345, "-100.25"
    after = pydicom.dcmread(io.BytesIO(basic.deidentify(_bytes(dataset)).data))
    assert basic.template is before
    assert after.InstanceNumber == 12345
    assert after.SOPInstanceUID == basic.pseudonyms.uid("1.2.3.4")
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
    dataset.PatientName = "Somebody^Else"
    basic.deidentify(_bytes(dataset))
    assert basic.template is not before


def _media(dataset: Dataset) -> bytes:
    del dataset.SOPInstanceUID
    return _bytes(dataset)


def _unnamed(dataset: Dataset) -> bytes:
    dataset.PatientID = dataset.StudyInstanceUID = ""
    return _bytes(dataset)


def _with_meta(whole: bytes, meta: bytes, length: int) -> bytes:
    end = 144 + struct.unpack("<L", whole[140:144])[0]
    return whole[:140] + struct.pack("<L", length) + meta + whole[end:]


def _short(number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


_EXPLICIT = _short(0x10, b"UI", b"1.2.840.10008.1.2.1\0")
_CHARSET = b"\x08\0\5\0CS\x0a\0ISO_IR 192"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [_media, _unnamed])
def test_files_that_only_their_own_numbers_tell_apart_are_none_of_a_series(
    public_file: Callable[[str], Path], basic: Deidentifier, make: Callable[[Dataset], bytes]
) -> None:
    dataset = pydicom.dcmread(public_file("CT_small.dcm"))
    one = basic.deidentify(make(dataset))
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    if "SOPInstanceUID" in dataset:
        dataset.SOPInstanceUID = "1.2.3.4.5"
    other = basic.deidentify(_bytes(dataset))
    assert other.sop_instance_uid == basic.pseudonyms.uid("1.2.3.4.5") != one.sop_instance_uid
    assert (other.subject == one.subject) == (make is _media)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "meta",
    [
        # The group says to end behind the data set's first element.
        (_EXPLICIT + _CHARSET, len(_EXPLICIT) + len(_CHARSET)),
        # Another syntax, with the expected one in a private element.
        (
            _short(0x10, b"UI", b"1.2.840.10008.1.2.4.70")
            + b"\2\0\2\1OB\0\0"
            + struct.pack("<L", len(_EXPLICIT))
            + _EXPLICIT,
            -1,
        ),
        # A directory by its class.
        (_short(2, b"UI", b"1.2.840.10008.1.3.10") + _EXPLICIT, -1),
    ],
    ids=["length", "syntax", "directory"],
)
def test_file_meta_that_lies_doesn_t_make_a_file_one_of_the_series(
    public_file: Callable[[str], Path], basic: Deidentifier, meta: tuple[bytes, int]
) -> None:
    whole = public_file("CT_small.dcm").read_bytes()
    given_bytes = _with_meta(whole, meta[0], len(meta[0]) if meta[1] < 0 else meta[1])
    outcomes: list[bytes] = []
    basic.deidentify(whole)
    assert basic.template is not None
    for deidentifier in (basic, Deidentifier(basic.profile, basic.pseudonyms)):
        try:
            outcomes.append(deidentifier.deidentify(given_bytes).data)
        except Unsafe as unsafe:
            outcomes.append(unsafe.reason.encode())
    assert outcomes[0] == outcomes[1]
