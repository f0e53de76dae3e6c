"""A hospital whose coordinator, network and whatever else the attack says are hostile."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from contract import wire_pb2 as wire
from contract.errors import Refused
from contract.keys import SigningKey
from foundation.files import private_folder, write_durably
from node.catalog.store import Catalog
from node.gate.gate import Admission
from node.home import NodeHome
from node.link.membership import load_membership, take_in
from tests.contract.world import World
from tests.node.gate.conftest import SITE, Hospital


@dataclass
class Target:
    """The node under attack. Everything goes through what the link calls."""

    hospital: Hospital
    mallory: SigningKey = field(default_factory=SigningKey.generate)

    def __post_init__(self) -> None:
        identity = private_folder(self.hospital.home.identity(self.world.consortium))
        write_durably(identity / "site.key", self.world.sites[SITE].to_pem())
        self.hear(self.world.signed_roster())

    @property
    def world(self) -> World:
        """Everybody's keys."""
        return self.hospital.world

    def hear(self, roster: bytes = b"", *projects: bytes) -> list[str]:
        """Let the coordinator bring documents; why they were not believed."""
        documents = wire.Documents(roster=roster, projects=projects)
        hospital = self.hospital
        if roster and hospital.trusted.roster is not None:
            hospital.gate.asked.put_roster(self.world.consortium, hospital.trusted.roster.envelope)
        return take_in(hospital.gate.asked, hospital.member, documents, hospital.now)

    def restart(self) -> None:
        """Kill the node and start it again: what it knows is what is on its disk."""
        hospital = self.hospital
        hospital.reopen()
        row = hospital.gate.asked.consortium(self.world.consortium)
        member = load_membership(hospital.home, hospital.gate.asked, row, hospital.now)
        hospital.trusted = member.trusted

    @contextmanager
    def fooled(self) -> Iterator[None]:
        """What the node comes to believe inside is forgotten afterwards."""
        believed = self.hospital.trusted
        self.hospital.trusted = deepcopy(believed)
        yield
        self.hospital.trusted = believed

    def ask(self, envelope: bytes) -> str:
        """Offer a job: empty when it is let in, else why not."""
        try:
            self.hospital.gate.admit(self.hospital.member, envelope)
        except Refused as refusal:
            return refusal.code
        return ""

    def admit(self, envelope: bytes) -> Admission:
        """Offer a job that is let in."""
        return self.hospital.gate.admit(self.hospital.member, envelope)

    def job_by(self, key: SigningKey, **values: Any) -> bytes:
        """A job that names ana and is signed by ``key``."""
        hospital = self.hospital
        job = self.world.job(
            releases={SITE: hospital.release()},
            issued_at=hospital.now,
            expires_at=hospital.now + timedelta(hours=1),
            **values,
        )
        return self.world.sign(job, key)


@pytest.fixture(scope="session")
def empty_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty catalogue's file, migrated once for all tests."""
    home = NodeHome(tmp_path_factory.mktemp("template")).create()
    Catalog.open(home).close()
    return home.database


@pytest.fixture
def target(tmp_path: Path, empty_catalogue: Path) -> Iterator[Target]:
    """A node that joined, with an approved project and a granted release."""
    home = NodeHome(tmp_path / "node").create()
    shutil.copy(empty_catalogue, home.database)
    with Catalog.open(home) as catalog:
        hospital = Hospital(home, catalog)
        yield Target(hospital)
        hospital.gate.ledger.close()
