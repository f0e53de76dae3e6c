"""Multipart bodies, however they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.multipart import Malformed, PartBegins, PartData, PartEnds, parts, related

BOUNDARY = b"d3adbeef"
contents = st.lists(
    st.one_of(
        st.binary(max_size=200),
        st.sampled_from([b"", b"\r\n", b"--", b"--d3adbee", b"\r\n--d3adbee\r\n", b"-" * 50]),
    ),
    max_size=5,
)


def body(files: list[bytes], preamble: bytes = b"", epilogue: bytes = b"") -> bytes:
    """Return a multipart body, as RFC 2046 writes it."""
    made = preamble
    for file in files:
        made += b"\r\n--" + BOUNDARY + b"\r\nContent-Type: application/dicom\r\n\r\n" + file
    return made + b"\r\n--" + BOUNDARY + b"--" + epilogue


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut ``data`` into chunks of these sizes, over and over."""
    chunks, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        chunks.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return chunks


def read(chunks: list[bytes]) -> list[bytes]:
    """Return the parts' contents; every part has a beginning and an end."""
    found: list[bytes] = []
    open_part: bytearray | None = None
    for piece in parts(chunks, BOUNDARY.decode()):
        match piece:
            case PartBegins(fields):
                assert open_part is None
                assert fields["content-type"] == "application/dicom"
                open_part = bytearray()
            case PartData(data):
                assert open_part is not None
                open_part += data
            case PartEnds():
                assert open_part is not None
                found.append(bytes(open_part))
                open_part = None
    assert open_part is None
    return found


@given(
    contents,
    st.lists(st.integers(1, 64), min_size=1, max_size=4),
    st.sampled_from([b"", b"a preamble\r\nof two lines"]),
    st.sampled_from([b"", b"\r\n", b"\r\nan epilogue"]),
)
def test_parts_come_out_as_they_went_in(
    files: list[bytes], sizes: list[int], preamble: bytes, epilogue: bytes
) -> None:
    assert read(cut(body(files, preamble, epilogue), sizes)) == files


def test_the_body_may_begin_with_its_boundary() -> None:
    assert read([body([b"one", b"two"])[2:]]) == [b"one", b"two"]


@given(contents, st.integers(1, 500))
def test_a_body_that_is_cut_off_is_refused(files: list[bytes], kept: int) -> None:
    whole = body(files)
    with pytest.raises(Malformed):
        read([whole[: min(kept, len(whole) - 2)]])


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_any_bytes_are_a_body_or_refused(chunks: list[bytes]) -> None:
    try:
        pieces = list(parts(chunks, BOUNDARY.decode()))
    except Malformed:
        return
    assert sum(isinstance(p, PartBegins) for p in pieces) == sum(
        isinstance(p, PartEnds) for p in pieces
    )


def test_memory_is_bounded_for_a_header_without_end() -> None:
    taken = 0

    def endless() -> object:
        nonlocal taken
        yield b"\r\n--" + BOUNDARY + b"\r\n"
        while True:
            taken += 1024
            yield b"x" * 1024

    with pytest.raises(Malformed):
        list(parts(endless(), BOUNDARY.decode()))  # type: ignore[arg-type]
    assert taken <= 64 * 1024


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/related; boundary=abc", "abc"),
        ('multipart/related; type="application/dicom"; boundary="a b(c)"', "a b(c)"),
        ("Multipart/Related; BOUNDARY=abc; start=1", "abc"),
        (f"multipart/related; boundary={'o' * 73}", "o" * 73),
    ],
)
def test_the_boundary_is_read_from_the_content_type(content_type: str, boundary: str) -> None:
    assert related(content_type) == ("application/dicom", boundary)


@pytest.mark.parametrize("content_type", ["application/dicom", "multipart/related", "text/html"])
def test_other_content_types_are_refused(content_type: str) -> None:
    with pytest.raises(Malformed):
        related(content_type)
