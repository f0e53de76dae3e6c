"""Where a node keeps what, under one folder that belongs to its operating-system user alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foundation.files import private_folder


@dataclass(frozen=True)
class NodeHome:
    """The folders and files of a node, as paths; making them is ``create``."""

    root: Path

    def create(self) -> NodeHome:
        """Make every folder (mode 0700) and return the home."""
        for folder in (
            self.root,
            self.vault,
            self.releases,
            self.landing,
            self.quarantine,
            self.ledger,
            self.consortia,
            self.recipes,
            self.jobs,
            self.weights,
            self.drafts,
        ):
            private_folder(folder)
        return self

    @property
    def settings(self) -> Path:
        """The node's configuration file."""
        return self.root / "node.toml"

    @property
    def policy(self) -> Path:
        """The hospital's policy file."""
        return self.root / "policy.toml"

    @property
    def database(self) -> Path:
        """The embedded SQLite catalogue, unless a URL names another database."""
        return self.root / "catalogue.db"

    def supernode(self, consortium: str) -> Path:
        """What a consortium's SuperNode writes: its log."""
        return self.identity(consortium) / "supernode"

    @property
    def vault(self) -> Path:
        """De-identified assets and tables, content-addressed."""
        return self.root / "vault"

    @property
    def releases(self) -> Path:
        """Frozen releases, a folder each, named by the release's digest."""
        return self.root / "releases"

    @property
    def landing(self) -> Path:
        """What arrived and is not de-identified yet: identified, sealed, purged after a day."""
        return self.root / "landing"

    @property
    def landing_key(self) -> Path:
        """The secret that seals the landing."""
        return self.root / "landing.key"

    @property
    def pulls(self) -> Path:
        """State of what is fetched from archives: identifiers sealed, never in plain."""
        return self.root / "pulls"

    @property
    def receive_tokens(self) -> Path:
        """The digests of the tokens that STOW-RS lets in."""
        return self.root / "receive-tokens.json"

    @property
    def quarantine(self) -> Path:
        """What could not be made safe: identified data, never read by link or workers."""
        return self.root / "quarantine"

    @property
    def quarantine_key(self) -> Path:
        """The secret that seals the quarantine."""
        return self.root / "quarantine.key"

    @property
    def ledger(self) -> Path:
        """The hash-chained record of what left."""
        return self.root / "ledger"

    @property
    def consortia(self) -> Path:
        """An identity for each consortium: its keys and certificates."""
        return self.root / "consortia"

    @property
    def recipes(self) -> Path:
        """Approved recipes, a folder each, named by the bundle's digest."""
        return self.root / "recipes"

    @property
    def jobs(self) -> Path:
        """Spool of jobs that are under way; deleted when they close."""
        return self.root / "jobs"

    @property
    def weights(self) -> Path:
        """Approved files of pretrained weights, named by their digest."""
        return self.root / "weights"

    @property
    def drafts(self) -> Path:
        """What recipes wrote about the hospital's own assets, by content; it never leaves."""
        return self.root / "drafts"

    @property
    def pseudonym_key(self) -> Path:
        """The secret under which pseudonyms, UIDs and date offsets are made."""
        return self.root / "pseudonym.key"

    @property
    def steward_key(self) -> Path:
        """The steward's signing key, unless it is kept elsewhere and named on the command line."""
        return self.root / "steward.key"

    @property
    def noise_key(self) -> Path:
        """The secret from which the gate's noise on model updates is drawn."""
        return self.root / "noise.key"

    @property
    def console_password(self) -> Path:
        """The hash of the console's password."""
        return self.root / "console.json"

    def release(self, digest: str) -> Path:
        """The folder of one release."""
        return self.releases / digest

    def identity(self, consortium: str) -> Path:
        """The folder of the identity in one consortium."""
        return self.consortia / consortium
