"""A TIFF slide (Aperio, NDPI, other) written anew from what may stay."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from node.deid.reading import Unsafe
from node.deid.slides import texts
from node.deid.slides.facts import Format, SlideFacts
from node.deid.slides.layout import Layout, Page, lay_out, words
from node.deid.slides.pictures import SOURCE_LENS, Picture, Sorted, sort_pictures
from node.deid.slides.streams import Blob, Spans, find_text
from node.deid.slides.tags import IMAGE_ID, PROFILE, Rebuilder, Tags, micrometres
from node.deid.slides.tiff import Numbers, Tiff, Variant
from node.deid.slides.writing import copy_blob, new_file

_SMALL_BLOB = 8 << 20
_DATA_TAGS = (273, 279, 324, 325, 330)


def clean_tiff(
    source: Path, target: Path, form: Format, subject: str, allow: Callable[[str], bool]
) -> SlideFacts:
    """Write ``source`` anew as ``target``; ``Unsafe`` if it can't be made safe.

    ``allow`` says of a text from a closed list whether it may stay. The first picture's ImageID
    is ``subject``, so that two patients' same slides are two files.
    """
    descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return _clean(Tiff(descriptor), target, form, subject, allow)
    finally:
        os.close(descriptor)


def _clean(
    tiff: Tiff, target: Path, form: Format, subject: str, allow: Callable[[str], bool]
) -> SlideFacts:
    found = sort_pictures(tiff, form)
    if tiff.variant is Variant.NDPI and any(len(one.counts) != 1 for one in found.all_kept):
        raise Unsafe("unreadable-slide")
    blobs = _Blobs(found)
    rebuilder = Rebuilder(tiff, form, len(found.kept), allow)
    pages: list[Page] = []
    tags: list[Tags] = []
    for index, picture in enumerate(found.kept):
        below = [rebuilder.rebuild(other, -1) for other in picture.below]
        own = rebuilder.rebuild(picture, index)
        tags += [own, *below]
        page = blobs.page(picture, own)
        page.below = [blobs.page(a, b) for a, b in zip(picture.below, below, strict=True)]
        pages.append(page)
    if subject:
        pages[0].fields.append(words(IMAGE_ID, subject))
    layout = lay_out(tiff.variant, tiff.order, pages, blobs.sizes)
    with new_file(target) as file:
        file.write(layout.head)
        blanked = 0
        for number in range(len(blobs.sizes)):
            file.write(bytes(int(layout.places[number]) - file.tell()))
            blanked += _copy(tiff, blobs, number, file)
        file.write(bytes(layout.size - file.tell()))
    return _facts(tiff, form, found, tags, blanked, layout)


def _copy(tiff: Tiff, blobs: _Blobs, number: int, file: object) -> int:
    offset, size = int(blobs.offsets[number]), int(blobs.sizes[number])
    read: Callable[[int, int], bytes]
    if size <= _SMALL_BLOB:
        data = tiff.read(offset, size)

        def read(start: int, length: int) -> bytes:
            return data[start : start + length]
    else:

        def read(start: int, length: int) -> bytes:
            return tiff.read(offset + start, length)

    blanks: Spans = find_text(
        Blob(read, size), int(blobs.compressions[number]), int(blobs.pixel_bytes[number])
    )
    copy_blob(file, read, 0, size, blanks)  # type: ignore[arg-type]
    return len(blanks)


class _Blobs:
    """The tiles and strips of all kept pictures, each place once, by its place in the file.

    Two pictures may share a tile. Nothing else may overlap: a tile that reaches into another, into
    a removed picture or into the file's own structures would carry that along.
    """

    def __init__(self, found: Sorted) -> None:
        pictures = found.all_kept
        table = np.concatenate([
            np.stack([
                one.offsets, one.counts,
                np.full(len(one.counts), one.compression, np.uint64), one.pixel_bytes,
            ], axis=1)
            for one in pictures
        ])  # fmt: skip
        used = table[:, 1] > 0
        places, inverse = np.unique(table[used][:, :3], axis=0, return_inverse=True)
        self.offsets: Numbers = places[:, 0]
        self.sizes: Numbers = places[:, 1]
        self.compressions: Numbers = places[:, 2]
        self.pixel_bytes: Numbers = np.zeros(len(places), np.uint64)
        np.maximum.at(self.pixel_bytes, inverse.ravel(), table[used][:, 3])
        _check_apart(self.offsets, self.sizes, found.removed_ranges)
        blobs = np.full(len(table), -1, np.int64)
        blobs[used] = inverse.ravel()
        ends = np.cumsum([len(one.counts) for one in pictures])
        self._own = {
            id(one): blobs[end - len(one.counts) : end]
            for one, end in zip(pictures, ends, strict=True)
        }

    def page(self, picture: Picture, tags: Tags) -> Page:
        return Page(tags.fields, picture.tiled, self._own[id(picture)], picture.counts)


def _check_apart(offsets: Numbers, sizes: Numbers, others: Numbers) -> None:
    ends = offsets + sizes
    if bool((ends[:-1] > offsets[1:]).any()):
        raise Unsafe("unreadable-slide")
    others = others[others[:, 1] > 0]
    # The blob that begins last before the other's end must end before the other begins.
    last = np.searchsorted(offsets, others[:, 0] + others[:, 1], side="left")
    reached = np.concatenate([np.zeros(1, np.uint64), ends])[last]
    if bool((reached > others[:, 0]).any()):
        raise Unsafe("unreadable-slide")


def _facts(
    tiff: Tiff, form: Format, found: Sorted, tags: list[Tags], blanked: int, layout: Layout
) -> SlideFacts:
    first, written = found.kept[0], {tag.tag for tag in tags[0].fields}
    mpp_x, mpp_y = micrometres(tiff, first.directory)
    objective: float | None = None
    if form is Format.APERIO:
        values = texts.aperio_numbers(tags[0].description)
        objective, mpp_x = values.get("AppMag"), values.get("MPP")
        mpp_y = mpp_x
    elif form is Format.NDPI:
        objective = float(tiff.numbers(first.directory.entries[SOURCE_LENS], 1)[0])
    total = sum(len(one.entries) + len(one.again) for one in tiff.directories)
    total += sum(len(one.directory.entries) for top in found.kept for one in top.below)
    stays = {*_DATA_TAGS, *(tag.tag for one in tags for tag in one.fields)}
    total -= sum(len(stays & one.directory.entries.keys()) for one in found.all_kept)
    below = first.below if len(found.kept) == 1 else []
    levels = [one for one in (*found.kept, *below) if one.tiled == first.tiled]
    said = tags[0].said
    return SlideFacts(
        format=form,
        width=first.width,
        height=first.height,
        levels=len({(one.width, one.height) for one in levels}),
        tile_width=first.tile_width,
        tile_height=first.tile_height,
        objective=objective,
        mpp_x=mpp_x,
        mpp_y=mpp_y,
        vendor=said.maker,
        model=said.model,
        stain=said.stain,
        removed_images=found.removed,
        removed_tags=total,
        rewritten_texts=sum(one.rewritten for one in tags),
        blanked_comments=blanked,
        icc_profile=PROFILE in written,
        bytes_read=tiff.size,
        bytes_written=layout.size,
    )
