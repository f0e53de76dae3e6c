"""What passes between an intake and its workers: small, and with nothing to be read in a log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from node.catalog.rows import AssetRow
from node.deid.identifiers import Known
from node.intake.journal import Identity
from node.intake.landing import LandingEntry
from node.intake.manifest import Listed

Faces = Literal["mask", "quarantine"]
Outcome = Literal["accepted", "draft", "dropped", "quarantined"]


@dataclass(frozen=True, repr=False)
class Setup:
    """What a worker needs to know. It holds no key, only where the key is; its ``repr`` nothing.

    A worker on another machine must see the node's folder and the files at the same places.
    """

    token: str
    """One for each intake, so that a worker prepares itself once."""
    home: Path
    staging: Path | None
    """None for a dry run, in which nothing is written."""
    sync: bool
    """Whether each file is synced where it is written: by workers on other machines."""
    profile: str
    """The profile's settings as JSON."""
    lists: Known
    faces: Faces
    key: str
    """Where the pseudonym key is, if it isn't the node's own key file."""
    key_check: str
    """What the pseudonym key makes of a constant; a worker with another key must not work."""


@dataclass(frozen=True, repr=False)
class Item:
    """A file to be taken in. Its ``repr`` shows nothing of its name."""

    place: str = ""
    entry: LandingEntry | None = None
    """Instead of a place: what arrived by network."""
    listed: Listed | None = None
    known: Known | None = None
    """What other files say of the same patient."""
    size_bytes: int = 0
    key: bytes = b""
    """The journal's key of the file as it was found; empty if it has none."""
    found: Identity | None = None


@dataclass(frozen=True, repr=False)
class Taken:
    """What became of a file so far. Nothing in it identifies a patient."""

    source: str
    """Keyed digest of what was read."""
    outcome: Outcome
    reason: str = ""
    subject: str = ""
    """Pseudonym by the manifest, of a file that doesn't say itself whose it is."""
    asset: AssetRow | None = None
    staged: Path | None = None
    group: str = ""
    """Pseudonym of the lesion or case that the manifest names."""
    role: str = ""
    draft: str = ""
    """Identifier of a report's draft."""
    bytes_read: int = 0
    steady: bool = True
    """Whether the file stayed as it was found while it was read."""
