"""PDF documents: the text that a reader sees, cleaned, in a new file that has nothing of the old.

A PDF hides text in more places than can be listed (metadata, attachments, annotations, forms,
scripts, optional content, earlier revisions, images), so that none of its objects is kept. Images
are left out and counted. A page without text, above all a scanned one, becomes a blank page. What
is locked or too broken to be read is refused.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from node.deid.documents.document import Cleaner, Document
from node.deid.documents.pdf_reader import OUTPUT_BYTES
from node.deid.documents.pdf_writer import Line, Page, write_pdf
from node.deid.reading import Unsafe

_MARGIN = 40.0
_SIZES = (3.0, 36.0)
_PAGE_POINTS = (72.0, 14_400.0)
_HEADER_WITHIN = 1024
_SECONDS = 120
_READER = Path(__file__).with_name("pdf_reader.py")


def clean_pdf(data: bytes, matcher: Cleaner) -> Document:
    """Return a new PDF with the cleaned text, page by page, each line where it was.

    ``Unsafe("unreadable-document")`` for what isn't a PDF, wants a password or has no page,
    ``Unsafe("too-large")`` for one that can't be read within the bounds of ``pdf_reader``.
    """
    if b"%PDF-" not in data[:_HEADER_WITHIN]:
        raise Unsafe("unreadable-document")
    read = _read(data)
    error = read.get("error")
    if error == "too-large":
        raise Unsafe("too-large")
    if error is not None or not read["pages"]:
        raise Unsafe("unreadable-document")
    account: Counter[str] = Counter(pages=len(read["pages"]))
    account["attachments-removed"] = max(0, int(read["attachments"]))
    try:
        pages = [_clean_page(page, matcher, account) for page in read["pages"]]
    except (KeyError, TypeError, ValueError):  # not what our reader says
        raise Unsafe("unreadable-document") from None
    return Document(write_pdf(pages), {key: count for key, count in account.items() if count})


def _read(data: bytes) -> dict[str, Any]:
    """Return what the reader says; it gets and gives its bytes in memory, never on a disk."""
    source, answer = os.memfd_create("pdf"), os.memfd_create("text")
    try:
        with open(source, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(source, 0, os.SEEK_SET)
        done = subprocess.run(
            [sys.executable, "-I", str(_READER)],
            stdin=source,
            stdout=answer,
            stderr=subprocess.DEVNULL,
            env={"LC_ALL": "C.UTF-8"},
            cwd="/",
            timeout=_SECONDS,
            check=False,
        )
        size = os.fstat(answer).st_size
        if done.returncode != 0 or size >= OUTPUT_BYTES:
            raise Unsafe("too-large")
        read = json.loads(os.pread(answer, size, 0))
    except subprocess.TimeoutExpired:
        raise Unsafe("too-large") from None
    except (ValueError, RecursionError):
        raise Unsafe("unreadable-document") from None
    finally:
        os.close(source)
        os.close(answer)
    assert isinstance(read, dict)
    return read


def _clean_page(read: dict[str, Any], matcher: Cleaner, account: Counter[str]) -> Page:
    width, height = (
        min(max(float(read[side]), _PAGE_POINTS[0]), _PAGE_POINTS[1])
        for side in ("width", "height")
    )
    account["images-removed"] += read["images"]
    lines = [(x, y, size, _whole(text)) for x, y, size, text in read["lines"]]
    lines = [line for line in lines if line[3].strip()]
    if not lines:
        account["scanned-pages-removed" if read["images"] else "blank-pages"] += 1
        return Page(width, height, ())
    # Cleaned together: a name may go on in the next line.
    texts = [line[3] for line in lines]
    cleaned = matcher.clean("\n".join(texts)).split("\n")
    account["lines"] += len(texts)
    if len(cleaned) != len(texts) or read["rotated"]:
        step = (height - 2 * _MARGIN) / (len(cleaned) + 1)
        places = [(_MARGIN, height - _MARGIN - step * (at + 1)) for at in range(len(cleaned))]
        sizes = [min(10.0, step)] * len(cleaned)
    else:
        account["lines-changed"] += sum(a != b for a, b in zip(cleaned, texts, strict=True))
        places = [(x, y) for x, y, _, _ in lines]
        sizes = [size / 1.2 for _, _, size, _ in lines]
    return Page(
        width,
        height,
        tuple(
            _line(place, size, text, width, height)
            for place, size, text in zip(places, sizes, cleaned, strict=True)
            if text.strip()
        ),
    )


def _line(place: tuple[float, float], size: float, text: str, width: float, height: float) -> Line:
    """Return a line that is on the page, smaller if it would be too long."""
    x = min(max(place[0], 0.0), width - _SIZES[1])
    y = min(max(place[1], 0.0), height - _SIZES[0])
    ems = sum(1.0 if sign >= "\u2e80" else 0.55 for sign in text)
    return Line(x, y, min(max(min(size, (width - x) / ems), _SIZES[0]), _SIZES[1]), text)


def _whole(text: str) -> str:
    """Return the text with its surrogate pairs as characters."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
