"""Bytes that are no text: names in them are found, and chance isn't taken for one."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.deid.binary import identifies
from node.deid.engine import Deidentifier
from node.deid.identifiers import Known, Matcher
from tests.node.deid.made import dataset, read, written

JANE = Matcher(
    Known(
        persons=frozenset({"Roe^Jane", "Müller^Åse", "王^小东"}), numbers=frozenset({"MRN4711993"})
    )
)
LONG = 300_000
PACKED = ("AT", "FD", "FL", "OD", "OF", "OL", "OV", "SL", "SS", "SV", "UL", "US", "UV")


def noise(kind: str) -> bytes:
    """Bytes as devices make them."""
    chance = np.random.default_rng(7)
    if kind == "bytes":
        return chance.bytes(1 << 20)
    if kind == "floats":
        return chance.normal(0, 100, 1 << 18).astype("<f4").tobytes()
    if kind == "short":
        return chance.bytes(2000)
    return chance.integers(-500, 500, 1 << 19).astype("<i2").tobytes()


@pytest.mark.parametrize("kind", ["bytes", "floats", "samples", "short"])
def test_what_occurs_by_chance_identifies_nobody(kind: str) -> None:
    assert not identifies(noise(kind), (), JANE)


@given(
    words=st.sampled_from(["Jane Roe", "ROE^JANE", "Müller", "MÜLLER", "王小东", "id 4711993 "]),
    codec=st.sampled_from(["utf-8", "utf-16-le", "utf-16-be", "gb18030"]),
    at=st.integers(0, LONG),
    size=st.sampled_from([0, 100, LONG]),
)
def test_a_name_is_found_wherever_it_stands(words: str, codec: str, at: int, size: int) -> None:
    if "ü" in words.lower() and codec == "gb18030":
        codec = "latin-1"
    filling = random.Random(size).randbytes(size) if size < LONG else bytes(size)
    at = min(at, size)
    planted = filling[:at] + b"\0\0" + words.encode(codec) + b"\0\0" + filling[at:]
    assert identifies(planted, (), JANE)


def test_nothing_is_too_long_to_be_searched() -> None:
    assert identifies(bytes(34 << 20) + b"Roe^Jane", (), JANE)


@pytest.mark.parametrize("vr", PACKED)
def test_letters_in_place_of_numbers_are_removed(basic: Deidentifier, vr: str) -> None:
    made = written(dataset(SmallestImagePixelValue=0))
    head = struct.pack("<HH2sH", 0x28, 0x106, b"US", 2)
    assert head in made
    value = b"Thistlewood^Jane"
    wide = vr.startswith("O") or vr in ("SV", "UV")
    new = struct.pack("<HH2s", 0x28, 0x106, vr.encode())
    new += struct.pack("<HL" if wide else "<H", *((0, len(value)) if wide else (len(value),)))
    at = made.index(head)
    planted = made[:at] + new + value + made[at + 10 :]
    assert b"Thistlewood" not in basic.deidentify(planted).data


def test_samples_of_a_waveform_stay(longitudinal: Deidentifier) -> None:
    samples = noise("samples")
    made = dataset(PatientName="Roe^Jane", RedPaletteColorLookupTableData=samples)
    data = longitudinal.deidentify(written(made)).data
    assert read(data).RedPaletteColorLookupTableData == samples


def test_a_number_of_the_patient_is_no_component_of_a_uid(longitudinal: Deidentifier) -> None:
    made = dataset(CodingSchemeUID="1.2.840.4711993", ContextUID="1.2.840.10008.6.1.1")
    after = read(longitudinal.deidentify(written(made)).data)
    assert not after.get("CodingSchemeUID")
    assert after.ContextUID == "1.2.840.10008.6.1.1"


def test_integers_with_a_point_are_read(longitudinal: Deidentifier) -> None:
    made = written(dataset(SeriesNumber=1234567890))
    data = made.replace(b"1234567890", b"1.23456789")
    assert b"1.23456789" in longitudinal.deidentify(data).data
