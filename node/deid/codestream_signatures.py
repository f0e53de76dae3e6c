"""What encoders write of themselves into the streams that they make: the same in every patient's.

A comment that is one of these and nothing else may stay, so that pixels without text keep the bytes
that they had. The list is closed: a version has few, short numbers, and no other freedom is left.
"""

from __future__ import annotations

import re

_VERSION = rb"v?\d{1,2}(?:\.\d{1,3}){1,3}[a-z]?"
_SIGNATURE = re.compile(
    rb"(?:Kakadu-" + _VERSION + rb"|Created by (?:GDCM/)?OpenJPEG version " + _VERSION + rb"|"
    rb"Created by: (?:GDCM/)?OpenJPEG version " + _VERSION + rb"|"
    rb"Creator: JasPer Version " + _VERSION + rb"|"
    rb"Created by: J2K-Codec|LEADTOOLS|CREATOR: gd-jpeg v1\.0 \(using IJG JPEG v\d{2}\)"
    rb"(?:, (?:default quality|quality = \d{1,3}))?\n?|MITRA_DICOM_STANDARD|"
    rb"LEAD Technologies Inc\. V\d\.\d{2}|"
    rb"Intel\(R\) JPEG Library, version \[?\d(?:\.\d{1,2}){1,3}\]?|"
    rb"JPEG Encoder Copyright 1998, James R\. Weeks and BioElectroMech\.)\0?"
)


def is_signature(comment: bytes) -> bool:
    """Say whether a comment is an encoder's signature, whole."""
    return _SIGNATURE.fullmatch(comment) is not None
