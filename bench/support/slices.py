"""Inputs of the de-identification benchmark: CT slices, and a multi-frame file of 4 GB."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

SIDE = 512
PIXELS = 0x7FE00010
_ROOT = "1.2.826.0.1.3680043.10.777.9."


def slices(folder: Path, count: int) -> None:
    """Write ``count`` CT slices of 512 x 512 x 16 bit with a real header, 100 to a series."""
    template = _template()
    random = np.random.default_rng(1)
    field = random.integers(-1000, 1500, (SIDE, SIDE), dtype=np.int16)
    for index in range(count):
        patient, place = index // 400, index % 100
        ds = copy.copy(template)
        ds.PatientName, ds.PatientID = f"Thornbury{patient}^Barnaby", f"KX{48000 + patient}"
        ds.StudyInstanceUID = f"{_ROOT}1.{patient}"
        ds.SeriesInstanceUID = f"{_ROOT}2.{index // 100}"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{_ROOT}3.{index}"
        ds.InstanceNumber, ds.SliceLocation = place + 1, f"{place * 1.25:.2f}"
        ds.ImagePositionPatient = [-158.1, -179.0, place * 1.25]
        ds.add_new(PIXELS, "OW", np.roll(field, index, axis=1).tobytes())
        target = folder / f"series{index // 100:03}" / f"IM{place:04}"
        target.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(target, enforce_file_format=True)


def multi_frame(path: Path) -> int:
    """Write a sparse multi-frame file as long as explicit lengths allow; return its size."""
    ds = _template()
    frame = SIDE * SIDE * 2
    count = (2**32 - 2) // frame
    ds.NumberOfFrames, ds.InstanceNumber = count, 1
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{_ROOT}4"
    ds.add_new(PIXELS, "OW", b"")
    ds.save_as(path, enforce_file_format=True)
    length = count * frame
    with path.open("r+b") as file:
        file.seek(-4, 2)
        assert file.read(4) == b"\0\0\0\0"  # the length of the empty pixel data, the last element
        file.seek(-4, 2)
        file.write(length.to_bytes(4, "little"))
        file.truncate(file.tell() + length)
    return path.stat().st_size


def _template() -> Dataset:
    ds = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    ds.Rows = ds.Columns = SIDE
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in ("DataSetTrailingPadding", "PixelData"):
        ds.pop(keyword, None)
    return ds
