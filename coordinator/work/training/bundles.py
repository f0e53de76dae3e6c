"""Bundles that projects name: kept by digest, so that stewards can fetch what they approve."""

from __future__ import annotations

import hashlib
from pathlib import Path

from coordinator.home import CoordinatorHome
from foundation.bundle import MAX_BUNDLE_BYTES, Bundle
from foundation.files import read_bounded, write_durably


def add_bundle(home: CoordinatorHome, source: Path, dry_run: bool) -> str:
    """Build (from a folder) or read (a ``.fab`` file) a bundle, check it, keep it; its SHA-256."""
    if source.is_dir():
        from foundation.flower import build

        data = build(source)
    else:
        data = read_bounded(source, MAX_BUNDLE_BYTES)
    Bundle.parse(data)
    digest = hashlib.sha256(data).hexdigest()
    if not dry_run:
        write_durably(home.recipe(digest), data)
    return digest
