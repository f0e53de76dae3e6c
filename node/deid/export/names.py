"""Names of what is written: stable, free of identifiers, and fit for a DICOMDIR.

A File ID has at most eight components of at most eight of A-Z, 0-9 and _ (PS3.10 section 8.2), so a
name is eight letters and digits of a digest (40 bits) of what it stands for, which has been made a
pseudonym before: subject, study, series, instance.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS = [first + second for first in _LETTERS for second in _LETTERS]


def component(*parts: str) -> str:
    """Return the eight characters (A-Z, 2-7) that stand for ``parts``."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).digest()
    number = int.from_bytes(digest[:5], "big")
    return (
        _PAIRS[number >> 30]
        + _PAIRS[number >> 20 & 1023]
        + _PAIRS[number >> 10 & 1023]
        + _PAIRS[number & 1023]
    )


@lru_cache(maxsize=1024)
def instance_folder(subject: str, study_uid: str, series_uid: str) -> str:
    """Return the folder of a series: three components."""
    return "/".join(
        (component("subject", subject), component(subject, study_uid), component(series_uid))
    )


def instance_name(sop_instance_uid: str, attempt: int) -> str:
    """Return an instance's name; another ``attempt`` gives another one, if that is taken."""
    return component(sop_instance_uid, str(attempt) if attempt else "")


def picture_name(subject: str, kind: str, source: str, suffix: str) -> str:
    """Return where a slide or a photograph goes; ``source`` is the keyed digest of its bytes."""
    return f"{component('subject', subject)}/{kind}/{component(source)}{suffix}"
