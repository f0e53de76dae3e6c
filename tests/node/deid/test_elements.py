"""Elements are read as pydicom reads them, and no file makes the reader stumble."""

from __future__ import annotations

import io
import struct
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_fragments
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from node.deid.elements import (
    MAX_DEPTH,
    PIXEL_DATA,
    UNDEFINED,
    Elements,
    File,
    encode_header,
    parse,
    value,
)
from node.deid.reading import Unsafe
from tests.corpus.sources import source

_SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)


def real_files() -> list[Path]:
    """Return every file of the packages; those without a suffix too."""
    roots = [Path(pydicom.__file__).parent / "data"]
    for name in ("data_store", "deid_data"):
        module = pytest.importorskip(name)
        roots += [Path(path) for path in module.__path__]
    found = [path for root in roots for path in sorted(root.rglob("*")) if path.is_file()]
    return [path for path in found if path.suffix.lower() in ("", ".dcm") and path.stat().st_size]


_FILES = real_files()


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
def test_a_real_file_is_read_as_pydicom_reads_it(path: Path) -> None:
    data = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = dcmread(io.BytesIO(data), force=True)
            wanted = len(dataset) > 0
        except Exception:
            wanted = False
        try:
            file = parse(data)
        except Unsafe as refused:
            # What has no prefix and does not begin like a data set.
            assert refused.reason == "not-dicom"
            assert data[128:132] != b"DICM"
            return
        if not wanted:
            assert file.truncated
            return
        _compare(file, file.dataset, dataset, truncated=file.truncated)
    for tag, raw in file.meta.items():
        if tag != 0x00020000:
            assert raw.strip(b"\0 ") == _bytes(dataset.file_meta, tag).strip(b"\0 ")


def _bytes(dataset: Dataset, tag: int) -> bytes:
    element: Any = dataset.get_item(tag)
    raw = element.value
    return raw if isinstance(raw, bytes) else str(raw).encode()


def _compare(file: File, scope: Elements, dataset: Dataset, *, truncated: bool = False) -> None:
    tags = [int(tag) for tag in dataset.keys()]  # noqa: SIM118
    mine = [element.tag for element in scope.elements]
    # Of what is cut off, pydicom keeps the part that came.
    assert sorted(set(mine)) == sorted(tags)[: len(set(mine)) if truncated else None]
    for element in scope.elements:
        theirs: Any = dataset.get_item(element.tag)
        if element.items is not None:
            items = dataset[element.tag].value
            assert len(element.items) == len(items), hex(element.tag)
            for item, other in zip(element.items, items, strict=True):
                _compare(file, item, other, truncated=truncated)
            continue
        if element.fragments is not None:
            body = bytes(file.data[element.start : element.end])
            whole = [bytes(file.data[a:b]) for a, b in element.fragments]
            assert whole == list(generate_fragments(body))
            continue
        if mine.count(element.tag) > 1:
            continue
        if isinstance(theirs, RawDataElement):
            assert (theirs.value or b"") == value(file.data, element), hex(element.tag)
            if not scope.implicit and theirs.VR:
                assert element.vr == theirs.VR


# ---- made ones -----------------------------------------------------------------------------------

_TEXT = st.text(alphabet="ABCxyz 019^-", max_size=18)
_VALUES = {
    0x00080008: ("CS", st.lists(st.sampled_from(["ORIGINAL", "PRIMARY"]), max_size=3)),
    0x00081030: ("LO", _TEXT),
    0x00100010: ("PN", _TEXT),
    0x00100020: ("LO", _TEXT),
    0x0020000D: ("UI", st.sampled_from(["1.2.3", "1.2.826.0.1"])),
    0x00200013: ("IS", st.integers(0, 10**6)),
    0x00280010: ("US", st.integers(0, 65535)),
    0x00189073: ("FD", st.floats(allow_nan=False, width=32)),
    0x00280030: ("DS", st.lists(st.sampled_from(["0.5", "1"]), min_size=2, max_size=2)),
    0x00420011: ("OB", st.binary(max_size=30)),
    0x00091010: ("UN", st.binary(max_size=20)),
    0x0040A160: ("UT", _TEXT),
    0x00281201: ("OW", st.binary(max_size=10).map(lambda b: b + b"\0" * (len(b) % 2))),
}


@st.composite
def datasets(draw: st.DrawFn, depth: int = 2) -> Dataset:
    made = Dataset()
    for tag in draw(st.lists(st.sampled_from(sorted(_VALUES)), unique=True, max_size=6)):
        vr, values = _VALUES[tag]
        made.add(DataElement(tag, vr, draw(values)))
    if depth:
        for tag in draw(
            st.lists(st.sampled_from([0x00081140, 0x0040A730, 0x00091020]), unique=True)
        ):
            items = draw(st.lists(datasets(depth - 1), max_size=2))
            element = DataElement(tag, "SQ", Sequence(items))
            element.is_undefined_length = draw(st.booleans())
            for item in element.value:
                item.is_undefined_length_sequence_item = draw(st.booleans())
            made.add(element)
    return made


def _file(dataset: Dataset, syntax: UID) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID("1.2"), UID("1.2.3.4")
    meta.TransferSyntaxUID = syntax
    dataset.file_meta, dataset.preamble = meta, bytes(128)
    out = io.BytesIO()
    dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


@settings(max_examples=80, deadline=timedelta(minutes=2))
@given(datasets(), st.sampled_from(_SYNTAXES))
def test_a_written_data_set_is_read_as_pydicom_reads_it(dataset: Dataset, syntax: UID) -> None:
    dataset.add(DataElement(0x00080018, "UI", "1.2.3.4"))
    data = _file(dataset, syntax)
    file = parse(data)
    assert not file.truncated and not file.rest and file.declared
    assert file.transfer_syntax == syntax
    _compare(file, file.dataset, dcmread(io.BytesIO(data)))


@settings(max_examples=40, deadline=timedelta(minutes=2))
@given(datasets(), st.sampled_from(_SYNTAXES[:3]))
def test_elements_follow_each_other_without_a_gap(dataset: Dataset, syntax: UID) -> None:
    dataset.add(DataElement(0x00080018, "UI", "1.2.3.4"))
    file = parse(_file(dataset, syntax))
    position = file.dataset.elements[0].header
    for element in file.dataset.elements:
        assert element.header == position <= element.start <= element.end <= element.after
        position = element.after
    assert position == len(file.data)


@given(st.data())
def test_a_header_is_read_as_it_was_encoded(data: st.DataObject) -> None:
    implicit, little = data.draw(st.sampled_from([(True, True), (False, True), (False, False)]))
    vr = data.draw(st.sampled_from(["LO", "OB", "UT", "US", "UN"]))
    content = b"x" * data.draw(st.integers(0, 300))
    tag = 0x00091010
    header = encode_header(tag, vr, len(content), implicit=implicit, little=little)
    first = encode_header(0x00080016, "UI", 4, implicit=implicit, little=little) + b"1.2\0"
    syntax = _SYNTAXES[0] if implicit else _SYNTAXES[1] if little else _SYNTAXES[2]
    made = _file(Dataset(), syntax) + first + header + content
    element = parse(made).dataset.get(tag)
    assert element is not None
    assert made[element.start : element.end] == content


def test_sequences_hidden_in_unknown_elements_are_read() -> None:
    inner = struct.pack("<HHL", 0x0010, 0x0010, 4) + b"A^B "
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
    defined = struct.pack("<HH2s2xL", 0x0008, 0x1140, b"UN", len(item)) + item
    undefined = struct.pack("<HH2s2xL", 0x0009, 0x1020, b"UN", UNDEFINED)
    undefined += item + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    file = parse(_file(Dataset(), ExplicitVRLittleEndian) + defined + undefined)
    for element in file.dataset.elements:
        assert element.items is not None
        (name,) = element.items[0].elements
        assert (name.tag, name.vr, value(file.data, name)) == (0x00100010, "PN", b"A^B ")


def test_encapsulated_pixels_keep_their_fragments() -> None:
    made = Dataset()
    made.PixelData = encapsulate([b"\1" * 10, b"\2" * 20], has_bot=True)
    made["PixelData"].is_undefined_length = True
    made["PixelData"].VR = "OB"
    file = parse(_file(made, RLELossless))
    pixels = file.dataset.get(PIXEL_DATA)
    assert pixels is not None and pixels.fragments is not None and pixels.undefined
    assert [b - a for a, b in pixels.fragments] == [8, 10, 20]


def test_a_data_set_without_preamble_and_meta_group_is_read() -> None:
    body = _file(_small(), ImplicitVRLittleEndian)
    start = parse(body).dataset.elements[0].header
    file = parse(body[start:])
    assert not file.declared and not file.meta
    assert [e.tag for e in file.dataset.elements] == [0x00080018, 0x00100010]


@pytest.mark.parametrize("declared", _SYNTAXES[:3])
@pytest.mark.parametrize("real", _SYNTAXES[:3])
def test_a_wrong_transfer_syntax_is_seen_through(declared: UID, real: UID) -> None:
    body = _file(_small(), real)
    start = parse(body).dataset.elements[0].header
    meta = _file(Dataset(), declared)
    file = parse(meta + body[start:])
    assert file.transfer_syntax == real
    assert value(file.data, file.dataset.elements[1]) == b"A^B "


def test_bytes_after_the_last_element_are_none() -> None:
    made = _small()
    made.PixelData, made["PixelData"].VR = b"\0\0", "OW"
    file = parse(_file(made, ExplicitVRLittleEndian) + b"John Smith wrote this here 01234567")
    assert file.rest == 35 and not file.truncated


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_cut_file_is_said_to_be_cut(cut: int) -> None:
    data = _file(_small(), ExplicitVRLittleEndian)
    assert parse(data[:-cut]).truncated


def test_a_hundred_nested_sequences_are_refused() -> None:
    made = Dataset()
    for _ in range(MAX_DEPTH + 2):
        outer = Dataset()
        outer.ContentSequence = [made]
        made = outer
    with pytest.raises(Unsafe):
        parse(_file(made, ExplicitVRLittleEndian))


def test_a_deflated_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.deid.elements.MAX_INFLATED", 1 << 20)
    made = Dataset()
    made.add_new(0x00420011, "OB", bytes(2 << 20))
    data = _file(made, DeflatedExplicitVRLittleEndian)
    assert len(data) < 10_000
    with pytest.raises(Unsafe, match="too-large"):
        parse(data)


@pytest.mark.parametrize("data", [b"", b"\0" * 200, b"PK\3\4" + b"\0" * 300, b"%PDF-1.4 " * 30])
def test_what_is_no_dicom_file_is_refused(data: bytes) -> None:
    with pytest.raises(Unsafe):
        parse(data)


def _small() -> Dataset:
    made = Dataset()
    made.SOPInstanceUID, made.PatientName = "1.2.3.4", "A^B"
    return made


# ---- strangers' bytes ----------------------------------------------------------------------------

_SEEDS = ("CT_small.dcm", "MR_small_bigendian.dcm", "test-SR.dcm", "image_dfl.dcm", "rtplan.dcm",
          "MR_small_RLE.dcm", "explicit_VR-UN.dcm")  # fmt: skip


def _mutated(seed: bytes, draw: Any) -> bytes:
    data = bytearray(seed[: draw(st.integers(140, min(len(seed), 6000)))])
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(data) - 1))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            data[at] = draw(st.integers(0, 255))
        elif kind == 1:
            data[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\xfe\xff\x00\xe0"]))
        elif kind == 2:
            del data[at : at + draw(st.integers(1, 9))]
        else:
            data[at:at] = draw(st.binary(max_size=9))
    return bytes(data)


def _parses_or_refuses(data: bytes) -> None:
    try:
        file = parse(data)
    except Unsafe:
        return
    size = len(file.data)
    for _, element in file.dataset.walk():
        assert 0 <= element.header <= element.start <= element.end <= element.after <= size
        for start, end in element.fragments or ():
            assert 0 <= start <= end <= size


@settings(max_examples=120, deadline=timedelta(minutes=2))
@given(st.data(), st.sampled_from(_SEEDS))
def test_a_damaged_file_is_read_within_its_bounds_or_refused(
    data: st.DataObject, name: str
) -> None:
    _parses_or_refuses(_mutated(source(name).read_bytes(), data.draw))


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_read_within_their_bounds_or_refused(data: bytes, declared: bool) -> None:
    _parses_or_refuses(bytes(128) + b"DICM" + data if declared else data)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=timedelta(minutes=2))
@given(st.data(), st.sampled_from(_SEEDS))
def test_many_damaged_files_are_read_within_their_bounds_or_refused(
    data: st.DataObject, name: str
) -> None:
    _parses_or_refuses(_mutated(source(name).read_bytes(), data.draw))
