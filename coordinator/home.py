"""Where a coordinator keeps what, under one folder that belongs to its operating-system user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from contract.errors import NotFound
from foundation.files import private_folder


@dataclass(frozen=True)
class CoordinatorHome:
    """The folders and files of a coordinator, as paths; making them is ``create``."""

    root: Path

    def create(self) -> CoordinatorHome:
        """Make every folder (mode 0700) and return the home."""
        for folder in (self.root, self.authority, self.server, self.jobs, self.recipes):
            private_folder(folder)
        return self

    def require(self) -> CoordinatorHome:
        """Return the home; ``NotFound`` when no coordinator was initialised in it."""
        if not (self.authority / "ca.crt").exists():
            raise NotFound(
                f"{self.root} holds no coordinator; run 'wardgate-coordinator init' first."
            )
        return self

    @property
    def settings(self) -> Path:
        """The coordinator's configuration file."""
        return self.root / "coordinator.toml"

    @property
    def database(self) -> Path:
        """The embedded SQLite database, unless a URL names another."""
        return self.root / "coordinator.db"

    @property
    def authority(self) -> Path:
        """The certificate authority's key and certificate."""
        return self.root / "authority"

    @property
    def server(self) -> Path:
        """The server's own transport identity."""
        return self.root / "server"

    @property
    def jobs(self) -> Path:
        """A folder for each job: blobs, replies, journal."""
        return self.root / "jobs"

    @property
    def recipes(self) -> Path:
        """Bundles of the recipes that projects name, each a file called by its digest."""
        return self.root / "recipes"

    @property
    def superlink(self) -> Path:
        """A SuperLink's database, log and secret, if one is used."""
        return self.root / "superlink"

    @property
    def console_password(self) -> Path:
        """The hash of the console's password."""
        return self.root / "console.json"

    def job(self, digest: str) -> Path:
        """The folder of one job."""
        return self.jobs / digest

    def recipe(self, bundle: str) -> Path:
        """The file of one bundle."""
        return self.recipes / f"{bundle}.fab"
