"""Three-dimensional models: STL, OBJ and MTL. Geometry is kept, everything said beside it is not.

Names of objects, groups and materials are clinical words as a rule and are cleaned; comments go.
"""

from __future__ import annotations

import re
from collections import Counter

from node.deid.documents.document import Cleaner, Document
from node.deid.reading import Unsafe

_HEADER, _TRIANGLE = 84, 50
_STL_LINE = re.compile(
    rb"(?:facet\s+normal|vertex)(?:\s+[-+\d.eE]+|\s+[-+]?(?:nan|inf)){3}"
    rb"|outer\s+loop|endloop|endfacet|endsolid"
)
_NUMBERS = frozenset({
    "v", "vt", "vn", "vp", "f", "l", "p", "s", "deg", "bmat", "step", "curv", "curv2", "surf",
    "parm", "trim", "hole", "scrv", "sp", "end", "con", "cstype", "lod", "bevel", "c_interp",
    "d_interp", "mg",
})  # fmt: skip
_NAMES = frozenset({"o", "g", "usemtl", "mtllib", "usemap", "maplib", "shadow_obj", "trace_obj"})
_MTL_NUMBERS = frozenset({
    "Ka", "Kd", "Ks", "Ke", "Tf", "Ns", "Ni", "Tr", "d", "illum", "sharpness", "Pr", "Pm", "Ps",
    "Pc", "Pcr", "aniso",
})  # fmt: skip
_MTL_NAMES = frozenset({
    "newmtl", "map_Ka", "map_Kd", "map_Ks", "map_Ke", "map_Ns", "map_d", "map_bump", "map_Bump",
    "bump", "disp", "decal", "refl", "norm", "map_Pr", "map_Pm", "map_Ps",
})  # fmt: skip
_VALUE = re.compile(r"[-+]?[\d./]+(?:[eE][-+]?\d+)?|on|off|bspline|bezier|rat|u|v|taylor|cardinal")


def clean_stl(data: bytes) -> Document:
    """Return the model with an empty header; binary (little endian) or ASCII."""
    if len(data) >= _HEADER:
        count = int.from_bytes(data[80:84], "little")
        end = _HEADER + _TRIANGLE * count
        if end <= len(data) and not _is_ascii_stl(data):
            return _binary_stl(data, end)
    if not _is_ascii_stl(data):
        raise Unsafe("unreadable-document")
    kept: list[bytes] = []
    dropped = 0
    for line in re.split(rb"[\r\n]+", data.rstrip(b"\0")):
        match = _STL_LINE.match(line.strip().lower())
        if match:
            kept.append(match.group())
        elif line.strip():
            dropped += 1
    body = b"\n".join(line for line in kept if line != b"endsolid")
    return Document(b"solid\n" + body + b"\nendsolid\n", {"lines-removed": dropped})


def _is_ascii_stl(data: bytes) -> bool:
    return data[:5].lower() == b"solid" and b"facet" in data[:4096].lower()


def _binary_stl(data: bytes, end: int) -> Document:
    out = bytearray(data[:end])
    out[:80] = bytes(80)
    for attribute in (48, 49):
        places = range(_HEADER + attribute, end, _TRIANGLE)
        out[_HEADER + attribute : end : _TRIANGLE] = bytes(len(places))
    account = {"headers-cleared": 1, "trailing-bytes-removed": len(data) - end}
    return Document(bytes(out) + b"\0" * (end % 2), account)


def clean_obj(data: bytes, matcher: Cleaner) -> Document:
    """Return a Wavefront model with its geometry and cleaned names."""
    return _clean_lines(data, matcher, _NUMBERS, _NAMES)


def clean_mtl(data: bytes, matcher: Cleaner) -> Document:
    """Return a Wavefront material library with its colours and cleaned names."""
    return _clean_lines(data, matcher, _MTL_NUMBERS, _MTL_NAMES)


def _clean_lines(
    data: bytes, matcher: Cleaner, numbers: frozenset[str], names: frozenset[str]
) -> Document:
    kept: list[str] = []
    account: Counter[str] = Counter()
    text = data.rstrip(b"\0").decode("utf-8", "replace").replace("\\\n", " ")
    for line in text.splitlines():
        said, sign, _ = line.partition("#")
        account["comments-removed"] += bool(sign)
        word, _, rest = said.strip().partition(" ")
        if word in numbers:
            kept.append(" ".join([word, *filter(_VALUE.fullmatch, rest.split())]))
        elif word in names:
            kept.append(f"{word} {matcher.clean(rest.strip())}".replace("\n", " "))
            account["names"] += 1
        elif word:
            account["lines-removed"] += 1
    if text.strip() and not kept:
        raise Unsafe("unreadable-document")
    return Document("\n".join([*kept, ""]).encode(), dict(account))
