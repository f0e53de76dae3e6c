"""Two headers that agree say the same of their patient, and slices of a series agree."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.deid import gathering
from node.deid.elements import known_vr, parse
from node.deid.export.identity import _UNTELLING, Identities, identity
from node.deid.profile import Options
from node.deid.reading import Unsafe
from tests.node.deid.export.conftest import Image, image

HEAD = 65536


def test_slices_of_a_series_agree_and_another_patient_does_not(make_image: Image) -> None:
    first = identity(make_image(1))
    assert first is not None
    assert first == identity(make_image(2, SliceLocation="5", AcquisitionTime="101112"))
    for changed in (
        make_image(1, "MRN5"),
        make_image(1, AccessionNumber="A77"),
        make_image(1, PatientBirthDate="19600101"),
        make_image(1, StudyInstanceUID="1.2.9"),
        make_image(1, ReferringPhysicianName="Quill^R"),
    ):
        assert identity(changed) not in (None, first)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(
        ["PatientName", "AccessionNumber", "InstitutionName", "StationName", "OperatorsName"]
    ),
    st.text("ABCxyz 0123456789", min_size=1, max_size=12),
    st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]),
)
def test_files_that_agree_are_gathered_alike(keyword: str, value: str, syntax: str) -> None:
    heads = []
    for number, text in enumerate(("CONTROL", value)):
        dataset = pydicom.dcmread(io.BytesIO(image(number)))
        setattr(dataset, keyword, text)
        dataset.file_meta.TransferSyntaxUID = syntax
        file = io.BytesIO()
        dataset.save_as(file, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
        heads.append(file.getvalue())
    first, second = map(identity, heads)
    assert first is not None
    told = [gathering.gather(parse(head), Options()) for head in heads]
    assert first != second or told[0] == told[1]


SLICES = [image(n, SliceLocation=f"{n}.50", AcquisitionTime=f"10{n:02}12") for n in range(10, 14)]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(SLICES),
            st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), max_size=2),
        ),
        max_size=8,
    )
)
def test_what_is_remembered_of_other_heads_changes_no_identity(
    heads: list[tuple[bytes, list[tuple[int, int]]]],
) -> None:
    identities = Identities()
    for data, changes in [*((one, []) for one in SLICES), *heads]:
        changed = bytearray(data)
        for place, byte in changes:
            changed[place] = byte
        head = bytes(changed)[:HEAD]
        assert identities.of(head, len(head)) == identity(head)


def test_among_public_files_agreement_means_the_same_patient(public_files: list[Path]) -> None:
    told: dict[bytes, object] = {}
    read = 0
    for path in public_files:
        data = path.read_bytes()
        found = identity(data[:HEAD])
        if found is None:
            continue
        try:
            gathered = gathering.gather(parse(data), Options())
        except Unsafe:
            continue
        read += 1
        assert told.setdefault(found, gathered) == gathered, path.name
    assert read > 50


def test_no_attribute_that_is_gathered_is_left_out() -> None:
    watched = gathering._watched(False, False)
    assert {known_vr(tag) for tag in watched}.isdisjoint(_UNTELLING)


@pytest.mark.parametrize("data", [b"", b"DICM", bytes(128) + b"DICM", bytes(300), b"II*\0" * 99])
def test_what_is_not_plain_is_left_to_the_reader(data: bytes) -> None:
    assert identity(data) is None or not data[132:]


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_raise(tail: bytes) -> None:
    identity(bytes(128) + b"DICM" + tail)
    identity(image(1)[:1200] + tail)
