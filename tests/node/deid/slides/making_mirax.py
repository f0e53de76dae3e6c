"""MIRAX slides with words planted wherever words can be."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from tests.node.deid.slides.making import Plants, jpeg, picture


def mirax(folder: Path, plants: Plants, *, positions: str = "", tiles: int = 4) -> Path:
    """Write a MIRAX slide of ``tiles`` x ``tiles`` images in two levels; return its .mrxs."""
    slide_id = plants.word("slide id")
    home = folder / "slide"
    home.mkdir(parents=True)
    data = [bytearray(b"01.02" + slide_id.encode() + plants.ascii("data file")) for _ in range(2)]
    size = 32

    def put(blob: bytes, file: int) -> tuple[int, int, int]:
        place = (len(data[file]), len(blob), file)
        data[file].extend(blob + plants.ascii("between tiles"))
        return place

    levels = []
    for level in range(2):
        step = 2**level
        levels.append([
            (y * tiles + x, *put(jpeg(picture(size, size, x * 31 + y)), (x + y) // step % 2))
            for y in range(0, tiles, step)
            for x in range(0, tiles, step)
        ])  # fmt: skip
    outside = [
        (
            "Scan data layer",
            "ScanDataLayer_SlideThumbnail",
            jpeg(picture(60, 20), (0xFE, plants.ascii("macro"))),
        ),
        (
            "Scan data layer",
            "ScanDataLayer_SlideBarcode",
            jpeg(picture(20, 20), (0xFE, plants.ascii("label"))),
        ),
        (
            "Scan data layer",
            "ScanDataLayer_SlidePreview",
            jpeg(picture(30, 30), (0xFE, plants.ascii("preview"))),
        ),
        (
            "ProfileXML",
            "ProfileXML_Default",
            b"<Profile>" + plants.ascii("profile") + b"</Profile>",
        ),
    ]
    if positions:
        flat = b"".join(
            struct.pack("<Bii", 1, x * size, y * size) for y in range(tiles) for x in range(tiles)
        )
        deflated = positions == "StitchingIntensityLayer"
        outside.append((positions, "default", zlib.compress(flat) if deflated else flat))
    records = [put(blob, 0) for _, _, blob in outside]
    index = bytearray(b"01.02" + slide_id.encode() + bytes(8))
    root = len(index) - 8
    pointers = []
    for table in levels:
        half = len(table) // 2
        pointers.append(len(index))
        index += struct.pack("<ii", 0, len(index) + 8)
        second = len(index) + 8 + 16 * half
        index += struct.pack("<ii", half, second) + b"".join(
            struct.pack("<4i", *row) for row in table[:half]
        )
        index += struct.pack("<ii", len(table) - half, 0)
        index += b"".join(struct.pack("<4i", *row) for row in table[half:])
        index += plants.ascii("index")
    others = []
    for record in records:
        others.append(len(index))
        index += struct.pack("<ii", 0, len(index) + 8) + struct.pack("<7i", 1, 0, 0, 0, *record)
    struct.pack_into("<ii", index, root, len(index), len(index) + 4 * len(pointers))
    index += struct.pack(f"<{len(pointers) + len(others)}i", *pointers, *others)
    index += plants.ascii("index's end")
    names = list(dict.fromkeys(name for name, _, _ in outside))
    lines = [
        "[GENERAL]", "SLIDE_VERSION = 01.02", f"SLIDE_ID = {slide_id}",
        f"SLIDE_NAME = {plants.word('slide name')}", f"PROJECT_NAME = {plants.word('project')}",
        f"SLIDE_CREATIONDATETIME = {plants.word('created')}",
        f"SCANNER_SERIAL = {plants.word('serial')}",
        f"SLIDE_TYPE = {plants.word('type')}", f"IMAGENUMBER_X = {tiles}",
        f"IMAGENUMBER_Y = {tiles}",
        "OBJECTIVE_MAGNIFICATION = 20", "CameraImageDivisionsPerSide = 1",
        "[HIERARCHICAL]", "HIER_COUNT = 1", "HIER_0_NAME = Slide zoom level", "HIER_0_COUNT = 2",
        "INDEXFILE = Index.dat", f"NONHIER_COUNT = {len(names)}",
    ]  # fmt: skip
    for level in range(2):
        lines += [
            f"HIER_0_VAL_{level} = ZoomLevel_{level}",
            f"HIER_0_VAL_{level}_SECTION = L{level}",
        ]
    for number, name in enumerate(names):
        own = [value for layer, value, _ in outside if layer == name]
        lines += [f"NONHIER_{number}_NAME = {name}", f"NONHIER_{number}_COUNT = {len(own)}"]
        for count, value in enumerate(own):
            lines += [f"NONHIER_{number}_VAL_{count} = {value}"]
            lines += [f"NONHIER_{number}_VAL_{count}_SECTION = N{number}_{count}"]
    for number, name in enumerate(names):
        for count in range(sum(layer == name for layer, _, _ in outside)):
            lines += [f"[N{number}_{count}]", f"BARCODE_VALUE = {plants.word('barcode')}"]
            kinds = ("THUMBNAIL", "BARCODE", "PREVIEW")
            lines += [f"{kind}_IMAGE_TYPE = JPEG" for kind in kinds]
    for level in range(2):
        lines += [
            f"[L{level}]", "OVERLAP_X = 0", "OVERLAP_Y = 0", f"IMAGE_CONCAT_FACTOR = {level}",
            "MICROMETER_PER_PIXEL_X = 0.23387573964497", "MICROMETER_PER_PIXEL_Y = 0.2338757",
            "IMAGE_FORMAT = JPEG", "IMAGE_FILL_COLOR_BGR = 16777215", f"DIGITIZER_WIDTH = {size}",
            f"DIGITIZER_HEIGHT = {size}", f"NOTE = {plants.word('level')}",
        ]  # fmt: skip
    lines += ["[DATAFILE]", "FILE_COUNT = 2", "FILE_0 = Data0000.dat", "FILE_1 = Data0001.dat"]
    lines += [f"[{plants.word('section')}]", f"KEY = {plants.word('section value')}"]
    (home / "Slidedat.ini").write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n").encode())
    (home / "Index.dat").write_bytes(index)
    for number, content in enumerate(data):
        (home / f"Data{number:04d}.dat").write_bytes(content + plants.ascii("data file's end"))
    (home / "notes.txt").write_bytes(plants.ascii("further file"))
    main = folder / "slide.mrxs"
    main.write_bytes(jpeg(picture(40, 40), (0xFE, plants.ascii(".mrxs"))))
    return main
