"""Three-dimensional models keep their geometry, and nothing that is said beside it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.deid.documents import clean_document
from node.deid.identifiers import Known, Matcher
from node.deid.reading import Unsafe

_MATCHER = Matcher(Known(persons=frozenset({"Kowalczewski^Janusz"})))
_NAME = b"Kowalczewski"


def _binary(header: bytes = b"", tail: bytes = b"", attribute: bytes = b"\0\0") -> bytes:
    triangle = struct.pack("<12f", *range(12)) + attribute
    return header.ljust(80, b" ") + struct.pack("<L", 2) + triangle * 2 + tail


def test_a_binary_stl_loses_header_attributes_and_tail() -> None:
    made = _binary(b"STL of Kowalczewski", _NAME, b"Ko")
    cleaned = clean_document(made, "model/stl", _MATCHER)
    assert cleaned.data == _binary(bytes(80))
    assert cleaned.account["trailing-bytes-removed"] == len(_NAME)


def test_a_binary_stl_whose_header_says_solid_is_binary() -> None:
    made = _binary(b"solid Kowalczewski")
    assert clean_document(made, "model/stl", _MATCHER).data == _binary(bytes(80))


_ASCII = b"""solid Kowalczewski
facet normal 0 0 1 Kowalczewski
 outer loop
  vertex 0 0 0
  vertex 1 0 -1.5e-3
  vertex 0 1 0
 endloop
endfacet
; Kowalczewski
endsolid Kowalczewski
"""


def test_an_ascii_stl_keeps_its_facets_only() -> None:
    cleaned = clean_document(_ASCII, "model/stl", _MATCHER).data
    assert _NAME.lower() not in cleaned.lower()
    assert cleaned.count(b"vertex") == 3 and b"-1.5e-3" in cleaned
    assert cleaned.startswith(b"solid") and cleaned.rstrip().endswith(b"endsolid")


_OBJ = b"""# of Kowalczewski
mtllib Kowalczewski.mtl
o left_kidney_Kowalczewski
v 0 0 1.5 # Kowalczewski
vn 0 1 0
vt 0.5 1
usemtl kidney
f 1/1/1 2//1 3
call Kowalczewski.obj
Kowalczewski
v 1 2 Kowalczewski
"""


def test_an_obj_keeps_its_numbers_and_clinical_names() -> None:
    cleaned = clean_document(_OBJ, "model/obj", _MATCHER).data
    assert _NAME not in cleaned
    for kept in (b"left_kidney", b"v 0 0 1.5", b"vn 0 1 0", b"f 1/1/1 2//1 3", b"usemtl kidney"):
        assert kept in cleaned


def test_an_mtl_keeps_its_colours() -> None:
    made = (
        b"# Kowalczewski\nnewmtl kidney\nKd 0.8 0.1 0.1\nmap_Kd Kowalczewski.png\nx Kowalczewski\n"
    )
    cleaned = clean_document(made, "model/mtl", _MATCHER).data
    assert _NAME not in cleaned
    assert b"newmtl kidney" in cleaned and b"Kd 0.8 0.1 0.1" in cleaned


@pytest.mark.parametrize("mime", ["model/stl", "model/obj", "model/mtl"])
@pytest.mark.parametrize("data", [b"Kowalczewski had a nodule", b"\xff" * 300])
def test_what_is_no_model_is_refused(mime: str, data: bytes) -> None:
    with pytest.raises(Unsafe, match="unreadable-document"):
        clean_document(data, mime, _MATCHER)


@given(st.binary(max_size=400), st.sampled_from(["model/stl", "model/obj", "model/mtl"]))
def test_any_bytes_are_cleaned_or_refused(data: bytes, mime: str) -> None:
    for made in (data, b"solid facet" + data, data.ljust(80, b"\0") + b"\1\0\0\0" + data):
        try:
            clean_document(made, mime, _MATCHER)
        except Unsafe:
            continue
