"""Reads a PDF's text in a process of its own: `python -I pdf_reader.py` < PDF > JSON.

PDFium parses what strangers wrote, in C++. So it gets a process with bounded memory, processor time
and output, no privileges to gain, and nothing but standard input; if it is killed, one document is
refused. This file imports nothing of ours, to start quickly.

Text is what a reader sees: no invisible text (rendering modes 3 and 7, ISO 32000-1 9.3.6), none
without a Unicode value (it would be a cipher of the original), no annotations or form fields.
"""

from __future__ import annotations

import ctypes
import json
import resource
import sys
from typing import Any

MEMORY_BYTES = 3 << 30
CPU_SECONDS = 60
OUTPUT_BYTES = 64 << 20
MAX_PAGES = 5_000
MAX_CHARACTERS = 4_000_000
_INVISIBLE = (3, 7)
_IMAGE, _FORM = 3, 5
_MAX_DEPTH = 4
_MAX_OBJECTS = 200_000
_PASSWORD = 4


def main() -> None:
    """Write the document's pages: their size, lines with origin and height in points, images."""
    data = sys.stdin.buffer.read()
    _confine()
    import pypdfium2.raw as pdfium

    pdfium.FPDF_InitLibrary()
    document = pdfium.FPDF_LoadMemDocument64(data, len(data), None)
    if not document:
        locked = pdfium.FPDF_GetLastError() == _PASSWORD
        json.dump({"error": "locked" if locked else "broken"}, sys.stdout)
        return
    count = pdfium.FPDF_GetPageCount(document)
    if count > MAX_PAGES:
        json.dump({"error": "too-large"}, sys.stdout)
        return
    budget = MAX_CHARACTERS
    pages = []
    for number in range(count):
        page = _page(pdfium, document, number, budget)
        budget -= sum(len(line[3]) for line in page["lines"])
        if budget < 0:
            json.dump({"error": "too-large"}, sys.stdout)
            return
        pages.append(page)
    json.dump(
        {"pages": pages, "attachments": pdfium.FPDFDoc_GetAttachmentCount(document)}, sys.stdout
    )


def _confine() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT_BYTES, OUTPUT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS


def _page(pdfium: Any, document: Any, number: int, budget: int) -> dict[str, Any]:
    page = pdfium.FPDF_LoadPage(document, number)
    if not page:
        return {"width": 595.0, "height": 842.0, "rotated": False, "lines": [], "images": 0}
    box = [ctypes.c_float() for _ in range(4)]
    if not pdfium.FPDFPage_GetMediaBox(page, *box):
        box = [ctypes.c_float(value) for value in (0.0, 0.0, 595.0, 842.0)]
    left, bottom, right, top = (edge.value for edge in box)
    text = pdfium.FPDFText_LoadPage(page)
    result = {
        "width": right - left,
        "height": top - bottom,
        "rotated": bool(pdfium.FPDFPage_GetRotation(page)),
        "lines": _lines(pdfium, text, left, bottom, budget) if text else [],
        "images": _images(pdfium, page),
    }
    if text:
        pdfium.FPDFText_ClosePage(text)
    pdfium.FPDF_ClosePage(page)
    return result


def _lines(pdfium: Any, text: Any, left: float, bottom: float, budget: int) -> list[list[Any]]:
    """Return lines in the order of reading: x, y, height and text."""
    lines: list[list[Any]] = []
    signs: list[str] = []
    place: tuple[float, float, float] | None = None
    x, y = ctypes.c_double(), ctypes.c_double()
    box = pdfium.FS_RECTF()
    count = pdfium.FPDFText_CountChars(text)
    for index in range(min(count, budget + 1)):
        code = pdfium.FPDFText_GetUnicode(text, index)
        if code in (10, 13):
            if signs and place:
                lines.append([*place, "".join(signs)])
            signs, place = [], None
            continue
        sign = _sign(pdfium, text, index, code)
        if not sign:
            continue
        if place is None and sign != " ":
            pdfium.FPDFText_GetCharOrigin(text, index, x, y)
            pdfium.FPDFText_GetLooseCharBox(text, index, box)
            place = (x.value - left, y.value - bottom, abs(box.top - box.bottom))
        signs.append(sign)
    if signs and place:
        lines.append([*place, "".join(signs)])
    return lines


def _sign(pdfium: Any, text: Any, index: int, code: int) -> str:
    if code in (2, 0xFFFE):
        return "-"  # a hyphen at a line's end
    if code < 32 or pdfium.FPDFText_HasUnicodeMapError(text, index) == 1:
        return ""
    if pdfium.FPDFText_IsGenerated(text, index) != 1:
        shown = pdfium.FPDFText_GetTextObject(text, index)
        if shown and pdfium.FPDFTextObj_GetTextRenderMode(shown) in _INVISIBLE:
            return ""
    return chr(code) if code <= 0x10FFFF else ""


def _images(pdfium: Any, page: Any) -> int:
    """Return how many images the page shows, in forms too."""
    found = seen = 0
    pending = [
        (pdfium.FPDFPage_GetObject(page, index), 0)
        for index in range(min(pdfium.FPDFPage_CountObjects(page), _MAX_OBJECTS))
    ]
    while pending and seen < _MAX_OBJECTS:
        shown, depth = pending.pop()
        seen += 1
        kind = pdfium.FPDFPageObj_GetType(shown)
        found += kind == _IMAGE
        if kind == _FORM and depth < _MAX_DEPTH:
            inner = pdfium.FPDFFormObj_CountObjects(shown)
            pending.extend(
                (pdfium.FPDFFormObj_GetObject(shown, index), depth + 1)
                for index in range(min(max(inner, 0), _MAX_OBJECTS))
            )
    return found


if __name__ == "__main__":
    main()
