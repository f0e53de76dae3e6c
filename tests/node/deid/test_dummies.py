"""Dummy values are encoded as pydicom encodes them, and read back as what they are."""

from __future__ import annotations

import io

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from node.deid import dummies
from node.deid.elements import VRS
from node.deid.part10 import declaration

PRIVATE = 0x00091010
ENCODINGS = [(True, True), (False, True), (False, False)]
"""Implicit VR, little endian."""


def read(data: bytes, implicit: bool, little: bool) -> Dataset:
    return read_dataset(io.BytesIO(data), implicit, little)


def written(dataset: Dataset, implicit: bool, little: bool) -> bytes:
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = implicit, little
    write_dataset(file, dataset)
    data: bytes = file.getvalue()
    return data


@pytest.mark.parametrize(("implicit", "little"), ENCODINGS)
@pytest.mark.parametrize("vr", sorted(VRS - {"SQ", "UN"}))
def test_a_value_has_the_bytes_that_pydicom_writes(vr: str, implicit: bool, little: bool) -> None:
    dataset = Dataset()
    dataset.add_new(PRIVATE, vr, dummies.value(PRIVATE, vr))
    assert dummies.encoded(PRIVATE, vr, implicit, little) == written(dataset, implicit, little)


@pytest.mark.parametrize(("implicit", "little"), ENCODINGS)
@pytest.mark.parametrize("tag", sorted(dummies.SEQUENCES))
def test_a_sequence_is_read_back_and_written_as_the_same(
    tag: int, implicit: bool, little: bool
) -> None:
    data = dummies.encoded(tag, "SQ", implicit, little)
    dataset = read(data, implicit, little)
    assert list(dataset.keys()) == [tag]
    assert len(dataset[tag].value) == 1
    assert all(element.VR != "UN" for element in dataset.iterall())
    assert written(dataset, implicit, little) == data


def test_an_enumerated_value_is_one_of_the_standard() -> None:
    assert dummies.value(0x04000565, "CS") == "COERCE"
    assert dummies.value(0x04000565, "AT") == dummies.value(PRIVATE, "AT")


@pytest.mark.parametrize(("implicit", "little"), ENCODINGS)
def test_what_was_done_is_said_in_elements_that_pydicom_reads(implicit: bool, little: bool) -> None:
    methods = (("113100", "Basic Application Confidentiality Profile"),)
    said = declaration("research", methods, implicit, little)
    dataset = read(b"".join(data for _, data in said), implicit, little)
    assert [int(element.tag) for element in dataset] == [tag for tag, _ in said]
    assert dataset.PatientIdentityRemoved == "YES"
    assert dataset.DeidentificationMethod == "Wardgate: PS3.15 2026d, research"
    [code] = dataset.DeidentificationMethodCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("113100", "DCM")
    assert code.CodeMeaning == methods[0][1]
