"""Whatever a stranger's bytes are: a file without the patient's name comes out, or ``Unsafe``."""

from __future__ import annotations

import io
import resource
import warnings
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from node.deid.engine import Deidentifier
from node.deid.reading import Unsafe
from tests.corpus.sources import source

_NAME = "Kowalczewski"
_FILES = (
    "CT_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "image_dfl.dcm",
    "test-SR.dcm", "reportsi.dcm", "rtplan.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm",
    "MR_small_RLE.dcm", "emri_small_jpeg_ls_lossless.dcm", "explicit_VR-UN.dcm",
)  # fmt: skip
_SLACK = settings(
    max_examples=60,
    deadline=timedelta(minutes=2),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@cache
def _planted(name: str) -> bytes:
    """Return a real file of a patient called Kowalczewski, named in texts and sequences too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(source(name), force=True)
        dataset.PatientName, dataset.PatientID = f"{_NAME}^Janusz", "PX123456"
        dataset.StudyDescription = f"CHEST of {_NAME}"
        dataset.ReferringPhysicianName = f"{_NAME}^Anna"
        out = io.BytesIO()
        dataset.save_as(out, enforce_file_format=True)
    return out.getvalue() + b"Kowalczewski^Janusz "


def _mutated(seed: bytes, draw: Any) -> bytes:
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 6))):
        if len(data) < 200:
            break
        # Structures are at the beginning.
        reach = draw(st.sampled_from([400, 2000, 6000, len(data)]))
        at = draw(st.integers(132, min(reach, len(data)) - 1))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            data[at] = draw(st.integers(0, 255))
        elif kind == 1:
            data[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, bytes(4), b"\xfe\xff\x00\xe0"]))
        elif kind == 2:
            del data[at : at + draw(st.integers(1, 12))]
        elif kind == 3:
            data[at:at] = draw(st.binary(max_size=8))
        else:
            del data[at + draw(st.integers(0, 400)) :]
    return bytes(data)


def _comes_out_free_or_not_at_all(
    deidentifier: Deidentifier, data: bytes, *, is_whole_name: bool
) -> None:
    try:
        result = deidentifier.deidentify(data)
        cleaned = bytes(result.data)
    except Unsafe:
        return
    # A fault within the name itself makes it another one.
    if is_whole_name:
        assert _NAME.encode() not in cleaned
        assert _NAME.encode("utf-16-le") not in cleaned


def _names(data: bytes) -> bool:
    """Say whether the header still tells what the patient is called."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _NAME in str(dcmread(io.BytesIO(data), force=True).get("PatientName"))
        except Exception:
            return False


@pytest.mark.parametrize("name", _FILES)
def test_the_seeds_themselves_come_out_free(name: str, basic: Deidentifier) -> None:
    data = _planted(name)
    assert _names(data)
    _comes_out_free_or_not_at_all(basic, data, is_whole_name=True)


def test_a_name_that_slid_into_the_pixels_is_found(basic: Deidentifier) -> None:
    made = bytearray(_planted("MR_small_implicit.dcm"))
    del made[1560:1572]  # within a value before the pixels, whose length takes in the trailer
    assert _names(bytes(made))
    _comes_out_free_or_not_at_all(basic, bytes(made), is_whole_name=True)


@_SLACK
@given(st.data())
def test_a_damaged_file_comes_out_free_or_not_at_all(
    basic: Deidentifier, data: st.DataObject
) -> None:
    made = _mutated(_planted(data.draw(st.sampled_from(_FILES))), data.draw)
    _comes_out_free_or_not_at_all(basic, made, is_whole_name=_names(made))


@_SLACK
@given(st.binary(max_size=600), st.booleans())
def test_any_bytes_come_out_free_or_not_at_all(
    basic: Deidentifier, data: bytes, declared: bool
) -> None:
    made = bytes(128) + b"DICM" + data if declared else data
    _comes_out_free_or_not_at_all(basic, made, is_whole_name=False)


@pytest.mark.slow
@settings(_SLACK, max_examples=6000)
@given(st.data())
def test_many_damaged_files_come_out_free_or_not_at_all(
    longitudinal: Deidentifier, data: st.DataObject
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = _mutated(_planted(data.draw(st.sampled_from(_FILES))), data.draw)
    _comes_out_free_or_not_at_all(longitudinal, made, is_whole_name=_names(made))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20, "KiB"
