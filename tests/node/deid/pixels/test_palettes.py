"""Lookup tables of colours, plain and segmented."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.pixels import apply_color_lut

from node.deid.pixels.image import Palette
from node.deid.pixels.palettes import colours
from node.deid.reading import Unsafe
from tests.corpus.sources import source


def test_a_segmented_table_gives_the_colours_that_pydicom_gives() -> None:
    dataset = pydicom.dcmread(source("gdcm-US-ALOKA-16.dcm"))
    tables = (
        dataset[f"Segmented{c}PaletteColorLookupTableData"].value for c in ("Red", "Green", "Blue")
    )
    entries, first, bits = dataset.RedPaletteColorLookupTableDescriptor
    found = colours(Palette(entries, first, bits, *tables, segmented=True))
    expected = apply_color_lut(np.arange(entries or 65536, dtype=np.uint16)[None], dataset)[0] >> 8
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_discrete_linear_and_indirect_segments() -> None:
    table = bytes([0, 2, 10, 20, 1, 4, 60, 2, 1, 0, 0, 0, 0])
    found = colours(Palette(8, 0, 8, table, table, table, segmented=True))
    assert found[:, 0].tolist() == [10, 20, 30, 40, 50, 60, 10, 20]


@given(st.binary(max_size=60), st.integers(0, 65535), st.booleans(), st.sampled_from([8, 16]))
def test_any_table_is_unsafe_or_has_its_entries(
    table: bytes, entries: int, segmented: bool, bits: int
) -> None:
    palette = Palette(entries, 0, bits, table, table, table, segmented=segmented)
    try:
        found = colours(palette)
    except Unsafe:
        return
    assert found.shape == (entries or 65536, 3)


def test_a_table_that_is_too_short_is_unsafe() -> None:
    with pytest.raises(Unsafe, match="undecodable-pixels"):
        colours(Palette(256, 0, 16, b"\0" * 100, b"\0" * 100, b"\0" * 100))
