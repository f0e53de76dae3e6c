"""Small DICOM files made for tests."""

from __future__ import annotations

import io
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def dataset(**values: Any) -> pydicom.FileDataset:
    """Return a data set without pixels of one Jane Roe, with ``values`` besides."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE
    meta.MediaStorageSOPInstanceUID = "1.2.3.4.1"
    made = pydicom.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = SECONDARY_CAPTURE, "1.2.3.4.1"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3.4.2", "1.2.3.4.3"
    made.Modality, made.PatientName, made.PatientID = "OT", "Thistlewood^Jane", "MRN4711993"
    made.StudyDate, made.PatientBirthDate = "20200301", "19510716"
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def item(**values: Any) -> Dataset:
    """Return an item of a sequence."""
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def written(made: pydicom.Dataset) -> bytes:
    """Return the bytes of a file."""
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=False)
    return file.getvalue()


def read(data: bytes) -> pydicom.FileDataset:
    """Return the data set of a file."""
    return pydicom.dcmread(io.BytesIO(data))
