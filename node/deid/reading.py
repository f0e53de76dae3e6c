"""Why a file can't be made safe: the one error of de-identification."""

from __future__ import annotations

import logging
from typing import Literal

from contract.errors import DataError

# pydicom's messages quote values.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)

Reason = Literal[
    "archive",
    "burned-in-annotation",
    "dicomdir",
    "duplicate-instance",
    "embedded-overlay",
    "empty",
    "face",
    "identifier-left",
    "internal-error",
    "missing-uid",
    "nifti",
    "no-subject",
    "not-dicom",
    "not-text",
    "other-subject",
    "pdf",
    "possible-face",
    "recognizable-visual-features",
    "several-images",
    "slide-compression",
    "slide-format-refused",
    "too-large",
    "too-large-pixels",
    "truncated",
    "undecodable-pixels",
    "unknown-document",
    "unknown-private-creator",
    "unreadable",
    "unreadable-codestream",
    "unreadable-document",
    "unreadable-slide",
    "unsupported-image",
    "worker-died",
]


class Unsafe(DataError):
    """A file that can't be made safe, or can't be read whole; ``reason`` is a stable code."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"A file is put in quarantine: {reason}.")
        self.reason: Reason = reason
