"""The standard's tables, read without pydicom, are pydicom's."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import (
    DicomDictionary,
    RepeatersDictionary,
    dictionary_keyword,
    dictionary_VR,
    tag_for_keyword,
)

from node.deid.dictionary import keyword_of, tag_of, vr_of

TAGS = st.integers(0, 0xFFFFFFFF) | st.sampled_from(sorted(DicomDictionary))
REPEATED = st.builds(
    lambda tag, digits: int(
        "".join(d if c == "x" else c for c, d in zip(tag, digits, strict=True)), 16
    ),
    st.sampled_from(sorted(RepeatersDictionary)),
    st.text("0123456789abcdef", min_size=8, max_size=8),
)


@given(TAGS | REPEATED)
def test_an_attribute_has_the_representation_and_keyword_that_pydicom_gives(tag: int) -> None:
    try:
        expected = dictionary_VR(tag), dictionary_keyword(tag)
    except KeyError:
        expected = "", ""
    assert (vr_of(tag), keyword_of(tag)) == expected


def test_every_keyword_names_its_attribute() -> None:
    for entry in DicomDictionary.values():
        assert tag_of(entry[4]) == tag_for_keyword(entry[4])
    assert tag_of("NoSuchKeyword") is None


def test_the_tables_are_read_without_loading_pydicom() -> None:
    code = """
import sys
import node.deid.export.export
from node.deid.dictionary import tag_of, vr_of
from node.deid.vocabulary import words
assert vr_of(tag_of("PatientName")) == "PN" and "abdomen" in words()
assert "pydicom" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
