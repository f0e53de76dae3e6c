"""Files made to harm: each is refused or comes out clean, in bounded time and memory."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.deid.pseudonyms import Pseudonyms
from node.deid.reading import Unsafe
from node.deid.slides import SlideFacts, clean_slide, members
from node.deid.slides.texts import aperio, ndpi_properties, ome
from tests.examples import examples
from tests.node.deid.slides import making
from tests.node.deid.slides.making import Page, Plants, make_tiff, strip_page, tiled_page
from tests.node.deid.slides.making_mirax import mirax

Clean = Callable[[Path], tuple[Path, SlideFacts]]
PLANTS = Plants()
WHOLE = {
    "aperio": making.aperio(PLANTS),
    "pyramid": making.pyramid(PLANTS, big=True),
    "ndpi": making.ndpi(PLANTS),
}


def refused(clean: Clean, path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(Unsafe) as caught:
        clean(path)
    assert not list(path.parent.glob(".*"))
    return caught.value.reason


def first_directory(data: bytes) -> int:
    return int(struct.unpack_from("<I", data, 4)[0])


def entry(data: bytes, tag: int) -> int:
    """Return where the first directory's entry of ``tag`` stands."""
    start = first_directory(data)
    count = struct.unpack_from("<H", data, start)[0]
    return next(
        place
        for place in range(start + 2, start + 2 + 12 * count, 12)
        if struct.unpack_from("<H", data, place)[0] == tag
    )


def with_value(data: bytes, tag: int, count: int | None, value: int) -> bytes:
    new = bytearray(data)
    place = entry(data, tag)
    if count is not None:
        struct.pack_into("<I", new, place + 4, count)
    struct.pack_into("<I", new, place + 8, value)
    return bytes(new)


def test_cyclic_chains_are_refused(tmp_path: Path, clean: Clean) -> None:
    data = bytearray(make_tiff([tiled_page(64, 64, {})]))
    start = first_directory(data)
    count = struct.unpack_from("<H", data, start)[0]
    struct.pack_into("<I", data, start + 2 + 12 * count, start)
    assert refused(clean, tmp_path / "a", bytes(data)) == "unreadable-slide"


def test_a_directory_below_itself_is_bounded(tmp_path: Path, clean: Clean) -> None:
    data = make_tiff([tiled_page(64, 64, {330: (4, [0])})])
    (tmp_path / "a").write_bytes(with_value(data, 330, None, first_directory(data)))
    clean(tmp_path / "a")
    many = with_value(data, 330, 1 << 31, 8)
    assert refused(clean, tmp_path / "b", many) == "unreadable-slide"


@pytest.mark.parametrize("tag", [256, 257, 258, 277, 282, 322, 324, 325, 347, 34675])
def test_huge_counts_and_far_offsets_are_refused_or_left_out(
    tag: int, tmp_path: Path, clean: Clean
) -> None:
    page = tiled_page(256, 256, {282: (5, [1, 1]), 347: (7, b"\xff\xd8\xff\xd9" * 3),
                                 34675: (7, bytes(200))})  # fmt: skip
    data = make_tiff([page])
    for count, value in ((0xFFFFFFFF, 8), (0x7FFFFFFF, 0xFFFFFFF0), (16, 0xFFFFFFF0), (0, 0)):
        (tmp_path / "a").write_bytes(with_value(data, tag, count, value))
        with contextlib.suppress(Unsafe):
            clean(tmp_path / "a")[0].unlink()
    if tag in (256, 257, 322, 324, 325):
        assert refused(clean, tmp_path / "a", with_value(data, tag, 0xFFFFFFFF, 8))


def test_sizes_that_no_slide_has_are_refused(tmp_path: Path, clean: Clean) -> None:
    data = make_tiff([tiled_page(64, 64, {})])
    for tag, value in ((256, 0), (256, 0xFFFFFFFF), (257, 1 << 25), (322, 0)):
        assert refused(clean, tmp_path / "a", with_value(data, tag, None, value))
    assert refused(clean, tmp_path / "a", with_value(data, 259, None, 34925)) == "slide-compression"


def overlapping(pages: list[Page], change: Callable[[bytearray], None]) -> bytes:
    data = bytearray(make_tiff(pages))
    change(data)
    return bytes(data)


def test_tiles_that_reach_into_each_other_are_refused(tmp_path: Path, clean: Clean) -> None:
    page = tiled_page(128, 64, {})

    def widen(data: bytearray) -> None:
        sizes = struct.unpack_from("<I", data, entry(bytes(data), 325) + 8)[0]
        struct.pack_into("<I", data, sizes, struct.unpack_from("<I", data, sizes)[0] + 100)

    assert refused(clean, tmp_path / "a", overlapping([page], widen)) == "unreadable-slide"


def test_a_tile_that_covers_a_text_or_the_label_is_refused(tmp_path: Path, clean: Clean) -> None:
    raw = strip_page(60, 60, {270: (2, b"Kowalska" * 2000)})
    data = make_tiff([raw])
    text = struct.unpack_from("<I", data, entry(data, 270) + 8)[0]
    assert refused(clean, tmp_path / "a", with_value(data, 273, None, text)) == "unreadable-slide"
    label = strip_page(60, 90, {254: (4, [1])}, making.jpeg(making.picture(60, 90)))
    data = make_tiff([tiled_page(64, 64, {270: (2, b"Aperio x\0")}), label])
    strip = data.rindex(label.blobs[0])
    # The one tile's place is now the label's.
    moved = with_value(data, 324, None, strip)
    moved = with_value(moved, 325, None, len(label.blobs[0]))
    assert refused(clean, tmp_path / "a", moved) == "unreadable-slide"


def test_tiles_that_share_a_place_are_written_once(tmp_path: Path, clean: Clean) -> None:
    page = tiled_page(1024, 1024, {})
    data = bytearray(make_tiff([page]))
    offsets, sizes = (
        struct.unpack_from("<I", data, entry(bytes(data), tag) + 8)[0] for tag in (324, 325)
    )
    for number in range(256):
        data[offsets + 4 * number : offsets + 4 * number + 4] = data[offsets : offsets + 4]
        data[sizes + 4 * number : sizes + 4 * number + 4] = data[sizes : sizes + 4]
    (tmp_path / "a").write_bytes(data)
    target, _ = clean(tmp_path / "a")
    assert target.stat().st_size < 6000


def test_empty_tiles_stay_empty(tmp_path: Path, clean: Clean) -> None:
    page = tiled_page(128, 64, {})
    page.blobs[1] = b""
    (tmp_path / "a.tif").write_bytes(make_tiff([page]))
    target, _ = clean(tmp_path / "a.tif")
    data = target.read_bytes()
    sizes = struct.unpack_from("<I", data, entry(data, 325) + 8)[0]
    assert struct.unpack_from("<2I", data, sizes) == (len(page.blobs[0]), 0)


@pytest.mark.parametrize("name", WHOLE)
def test_a_slide_that_is_cut_anywhere_is_refused_or_clean(
    name: str, tmp_path: Path, clean: Clean
) -> None:
    data = WHOLE[name]
    outcomes = set()
    for length in range(0, len(data), max(len(data) // 150, 1)):
        (tmp_path / "a").write_bytes(data[:length])
        try:
            target, _ = clean(tmp_path / "a")
        except Unsafe as refusal:
            outcomes.add(refusal.reason)
        else:
            assert PLANTS.found_in(target.read_bytes()) == []
            target.unlink()
    assert outcomes <= {"truncated", "unreadable-slide"}


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=examples(8, 120), deadline=None, suppress_health_check=list(HealthCheck))
@given(draw=st.data())
def test_a_slide_with_damaged_structures_is_refused_or_clean(
    name: str, tmp_path: Path, pseudonyms: Pseudonyms, draw: st.DataObject
) -> None:
    data = bytearray(WHOLE[name])
    for _ in range(draw.draw(st.integers(1, 4))):
        place = draw.draw(st.integers(0, len(data) - 5))
        value = draw.draw(st.sampled_from([0, 1, 8, 0x7FFF, 0xFFFFFFFF, 0xFFFFFFF0, len(data)]))
        struct.pack_into("<I", data, place, value)
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(data)
    target.unlink(missing_ok=True)
    with contextlib.suppress(Unsafe):
        clean_slide(source, target, matcher=None, pseudonyms=pseudonyms, subject="s")
        assert target.stat().st_size < 2 * len(data)
        assert PLANTS.found_in(target.read_bytes()) == []


@settings(max_examples=examples(15, 60), deadline=None, suppress_health_check=list(HealthCheck))
@given(draw=st.data())
def test_a_damaged_mirax_slide_is_refused_or_clean(
    tmp_path_factory: pytest.TempPathFactory, pseudonyms: Pseudonyms, draw: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("mirax")
    plants = Plants()
    source = mirax(folder / "in", plants, positions="VIMSLIDE_POSITION_BUFFER")
    name = draw.draw(st.sampled_from(["Index.dat", "Index.dat", "Slidedat.ini", "Data0000.dat"]))
    path = source.with_suffix("") / name
    data = bytearray(path.read_bytes())
    for _ in range(draw.draw(st.integers(1, 3))):
        place = draw.draw(st.integers(0, len(data) - 5))
        struct.pack_into("<I", data, place, draw.draw(st.sampled_from([0, 7, 0x7FFFFFFF, 1 << 31])))
    path.write_bytes(data)
    target = folder / "out.mrxs"
    with contextlib.suppress(Unsafe):
        clean_slide(source, target, matcher=None, pseudonyms=pseudonyms, subject="s")
        whole = b"".join(file.read_bytes() for file in (target, *members(target)))
        assert plants.found_in(whole) == []
    if not target.exists():
        assert [one.name for one in folder.iterdir()] == ["in"]


@given(st.text(max_size=200))
def test_rebuilt_texts_never_hold_other_words(text: str) -> None:
    name = "Zq000Kowalska"
    mixed = f"Aperio{text}|{name}={text}|AppMag = 20|MPP = {name}|User = {text}{name}"
    assert name not in aperio(mixed, 1, 1)
    assert "AppMag = 20" in aperio(mixed, 1, 1)
    assert name not in ndpi_properties(f"{text}\nProduct={name}\nPSHV={name}\n{name}=1")
    assert ome(text, 1) is None


def test_an_ome_bomb_is_refused() -> None:
    assert ome('<!DOCTYPE a [<!ENTITY b "Kowalska">]><OME>&b;</OME>', 1) is None
    assert ome("<OME" + "<a>" * 5000, 1) is None
