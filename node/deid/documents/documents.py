"""Encapsulated documents cleaned by their MIME type (PS3.3 sections A.45, A.85 and A.104)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from node.deid.documents.cda import clean_xml
from node.deid.documents.document import Cleaner, Document
from node.deid.documents.models import clean_mtl, clean_obj, clean_stl
from node.deid.documents.pdf import clean_pdf
from node.deid.documents.plain import clean_html, clean_plain, clean_rtf
from node.deid.reading import Unsafe

MAX_BYTES = 256 << 20
_MAX_DEPTH = 2
_KINDS: dict[str, str] = {
    "application/pdf": "pdf",
    "application/x-pdf": "pdf",
    "text/xml": "xml",
    "application/xml": "xml",
    "application/hl7-cda+xml": "xml",
    "application/hl7-sda+xml": "xml",
    "model/stl": "stl",
    "application/sla": "stl",
    "application/vnd.ms-pki.stl": "stl",
    "model/x.stl-binary": "stl",
    "model/x.stl-ascii": "stl",
    "model/obj": "obj",
    "model/mtl": "mtl",
    "text/plain": "plain",
    "text/html": "html",
    "text/rtf": "rtf",
    "application/rtf": "rtf",
}


def clean_document(
    data: bytes,
    mime: str,
    matcher: Cleaner,
    *,
    encodings: Sequence[str] = (),
    characteristics: bool = False,
    depth: int = 0,
) -> Document:
    """Return the document of type ``mime`` without what ``matcher`` knows, and its account.

    ``encodings`` are Python's names of the character sets that plain text may be in, the likeliest
    first; ``characteristics`` keeps the patient's sex in a CDA document (PS3.15 Retain Patient
    Characteristics). ``Unsafe("unknown-document")`` for a type that isn't known,
    ``Unsafe("unreadable-document")`` for one that isn't what it says, ``Unsafe("too-large")``.
    """
    kind = _KINDS.get(mime.partition(";")[0].strip(" \0").lower()) or _sniffed(data, mime)
    if kind is None:
        raise Unsafe("unknown-document")
    if len(data) > MAX_BYTES or depth > _MAX_DEPTH:
        raise Unsafe("too-large")

    def inner(part: bytes, part_mime: str) -> bytes:
        return clean_document(
            part, part_mime, matcher, characteristics=characteristics, depth=depth + 1
        ).data

    cleaners: dict[str, Callable[[], Document]] = {
        "pdf": lambda: clean_pdf(data, matcher),
        "xml": lambda: clean_xml(data, matcher, inner, characteristics=characteristics),
        "stl": lambda: clean_stl(data),
        "obj": lambda: clean_obj(data, matcher),
        "mtl": lambda: clean_mtl(data, matcher),
        "plain": lambda: clean_plain(data, matcher, encodings),
        "html": lambda: clean_html(data, matcher, encodings),
        "rtf": lambda: clean_rtf(data, matcher),
    }
    return cleaners[kind]()


def _sniffed(data: bytes, mime: str) -> str | None:
    """Return what a document is that doesn't say it."""
    if mime.strip(" \0"):
        return None
    if data.startswith(b"%PDF-"):
        return "pdf"
    return "xml" if data.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<?xml") else None
