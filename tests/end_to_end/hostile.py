"""A hostile coordinator: it owns the consortium's certificate authority and speaks the link.

It offers a real node whatever it likes, and keeps every byte that the node ever sends.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc

from contract import wire_pb2 as wire
from contract import wire_pb2_grpc
from contract.documents import (
    JOB_TYPE,
    PROJECT_TYPE,
    ROSTER_TYPE,
    Job,
    Member,
    Project,
    Roster,
    new_nonce,
)
from contract.envelope import Envelope
from contract.errors import Unavailable
from contract.keys import SigningKey
from contract.work import StatisticsWork
from coordinator.commands import setup
from coordinator.home import CoordinatorHome
from coordinator.registry.authority import Authority
from foundation import transport
from foundation.files import write_new
from foundation.transport import SERVER_OPTIONS, Role, TransportIdentity
from node.catalog.asked import Asked, ConsortiumRow
from node.catalog.store import Catalog
from node.commands import recipe as node_recipe
from researcher import mean
from tests.end_to_end.federation import PROJECT, SETTINGS, bundle, make_node
from tests.end_to_end.processes import PATIENCE_SECONDS, Server
from tests.ports import free_port

SITE = "north"


def now() -> datetime:
    return datetime.now(UTC)


class HostileCoordinator(wire_pb2_grpc.WardgateServicer):
    """Serves the link; ``say`` sends to the node, ``heard`` is what came of it."""

    def __init__(self, home: CoordinatorHome, port: int) -> None:
        self.bytes: list[bytes] = []
        self.blobs: dict[str, bytes] = {}
        self.uploads: list[wire.BlobChunk] = []
        self._refusal = ""
        self.documents = wire.Documents()
        self.ledger: wire.LedgerHead | None = None
        self._heard: queue.Queue[wire.FromNode] = queue.Queue()
        self._to_say: queue.Queue[wire.ToNode] = queue.Queue()
        self._server = grpc.server(ThreadPoolExecutor(16), options=SERVER_OPTIONS)
        wire_pb2_grpc.add_WardgateServicer_to_server(self, self._server)
        credentials = TransportIdentity(home.server).server_credentials()
        assert self._server.add_secure_port(f"127.0.0.1:{port}", credentials) == port
        self._server.start()

    def close(self) -> None:
        self._server.stop(grace=None).wait()

    def Link(self, requests: Iterator[wire.FromNode], context: Any) -> Iterator[wire.ToNode]:
        hello = next(requests)
        self.bytes.append(hello.SerializeToString())
        yield wire.ToNode(
            welcome=wire.Welcome(documents=self.documents, heartbeat_seconds=1, ledger=self.ledger)
        )

        def listen() -> None:
            try:
                for message in requests:
                    self.bytes.append(message.SerializeToString())
                    self._heard.put(message)
            except grpc.RpcError:
                pass

        threading.Thread(target=listen, daemon=True).start()
        while context.is_active():
            if self._refusal:
                text, self._refusal = self._refusal, ""
                context.set_trailing_metadata((("wardgate-exit-code", str(Unavailable.exit_code)),))
                context.abort(grpc.StatusCode.UNAVAILABLE, text)
            try:
                yield self._to_say.get(timeout=0.1)
            except queue.Empty:
                continue

    def BlobState(self, request: wire.BlobRequest, context: Any) -> wire.BlobStatus:
        self.bytes.append(request.SerializeToString())
        return wire.BlobStatus()

    def Upload(self, requests: Iterator[wire.BlobChunk], context: Any) -> wire.BlobStatus:
        for chunk in requests:
            self.bytes.append(chunk.SerializeToString())
            self.uploads.append(chunk)
        return wire.BlobStatus(complete=True)

    def Download(self, request: wire.BlobRequest, context: Any) -> Iterator[wire.BlobChunk]:
        self.bytes.append(request.SerializeToString())
        yield wire.BlobChunk(data=self.blobs[request.blob.digest])

    def say(self, message: wire.ToNode) -> None:
        self._to_say.put(message)

    def publish(self, roster: bytes = b"", *projects: bytes) -> None:
        """Send documents, now and to whoever links later."""
        self.documents = wire.Documents(roster=roster, projects=projects)
        self.say(wire.ToNode(documents=self.documents))

    def next(self, *kinds: str) -> wire.FromNode:
        """Return the next message of one of these kinds; ``queue.Empty`` when none comes in time.

        Heartbeats come all the time, so it is the whole wait that has an end.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            message = self._heard.get(timeout=max(deadline - time.monotonic(), 0.01))
            if message.WhichOneof("body") in kinds:
                return message

    def refuse_with(self, text: str) -> None:
        """End the link with an error of this text."""
        self._refusal = text

    def forget(self) -> None:
        """Forget what was heard and not looked at."""
        self._heard = queue.Queue()

    def offer(self, envelope: bytes) -> wire.FromNode:
        """Offer a job and return what the node says to it."""
        self.say(wire.ToNode(offer=wire.Offer(job=envelope)))
        return self.next("decision", "reply", "failed")

    def all_bytes(self) -> bytes:
        return b"\x00\x01".join(self.bytes)


@dataclass
class Victim:
    """A node of a consortium whose other stewards are this test's."""

    root: Path
    name: str = "opt"
    steward: SigningKey = field(default_factory=SigningKey.generate)
    site: SigningKey = field(default_factory=SigningKey.generate)
    others: list[SigningKey] = field(
        default_factory=lambda: [SigningKey.generate(), SigningKey.generate()]
    )
    other_sites: list[SigningKey] = field(
        default_factory=lambda: [SigningKey.generate(), SigningKey.generate()]
    )
    ana: SigningKey = field(default_factory=SigningKey.generate)
    ben: SigningKey = field(default_factory=SigningKey.generate)

    def build(self) -> Victim:
        """Make the authority and a node that joined, with a granted release and a recipe."""
        self.port = free_port()
        address = f"127.0.0.1:{self.port}"
        setup.init(self.name, address, self.root / "coordinator")
        self.home = make_node(self.root / SITE, SITE)
        authority = Authority.load(CoordinatorHome(self.root / "coordinator"))
        key = transport.new_private_key()
        life = timedelta(days=1)
        issued = authority.issue(key.public_key(), Role.SITE, SITE, now(), life)
        folder = self.home.identity(self.name)
        folder.mkdir(mode=0o700)
        identity = TransportIdentity(folder)
        identity.save(transport.private_key_pem(key), issued.pem, authority.pem)
        write_new(folder / "site.key", self.site.to_pem())
        fab = self.root / "steps.fab"
        fab.write_bytes(bundle("steps"))
        node_recipe.approve(fab, None, None, True, self.home.root)
        with Catalog.open(self.home) as catalog:
            asked = Asked(catalog.engine)
            asked.put_consortium(
                ConsortiumRow(self.name, SITE, address, self.steward.id, None), now()
            )
            self.release = catalog.find_release("trial").digest
            catalog.grant(self.release, self.name, PROJECT, now())
        return self

    def serve(self) -> Server:
        """Describe the node's process."""
        return Server(
            "victim",
            ["wardgate-node", "serve", "--home", str(self.home.root)],
            self.root,
            "serving",
            SETTINGS,
        )

    def approve(self, project: bytes, version: int = 1) -> None:
        """Let this hospital's steward approve a project."""
        with Catalog.open(self.home) as catalog:
            asked = Asked(catalog.engine)
            asked.put_project(self.name, PROJECT, version, project)
            digest = Envelope.parse(project).digest
            asked.approve_project(self.name, PROJECT, digest, now())

    def roster(
        self,
        *signers: SigningKey,
        version: int = 1,
        minted: SigningKey | None = None,
        **values: Any,
    ) -> bytes:
        """Return a roster; ``minted`` is a key that the coordinator puts among the members."""
        stewards = [self.steward, *self.others]
        document = {
            "consortium": self.name,
            "issued_at": now() - timedelta(days=1),
            "expires_at": now() + timedelta(days=30),
            "version": version,
            "threshold": 2,
            "stewards": _members(["north", "south", "west"], stewards),
            "sites": _members(["north", "south", "west"], [self.site, *self.other_sites]),
            "researchers": _members(["ana", "ben"], [self.ana, self.ben])
            + (_members(["mallory"], [minted]) if minted else ()),
        } | values
        return _signed(Roster(**document).seal(ROSTER_TYPE), signers)

    def project(self, *signers: SigningKey, **values: Any) -> bytes:
        """Return the project."""
        from contract.dictionary import Variable
        from contract.documents import ParameterRange, RecipeGrant
        from foundation.bundle import Bundle

        document = {
            "consortium": self.name,
            "issued_at": now() - timedelta(hours=1),
            "expires_at": now() + timedelta(days=30),
            "name": PROJECT,
            "version": 1,
            "title": "a trial",
            "purpose": "tests",
            "ethics_reference": "none",
            "legal_basis": "generated data",
            "sites": ("north", "south", "west"),
            "researchers": ("ana",),
            "kinds": ("statistics", "training"),
            "table": "trial",
            "variables": (
                Variable(name="age", kind="number", minimum=0, maximum=120, bins=4),
                Variable(name="weight", kind="number"),
            ),
            "recipes": (
                RecipeGrant(
                    name="steps",
                    bundle=Bundle.parse(bundle("steps")).digest,
                    parameters={
                        "rate": ParameterRange(minimum=0.001, maximum=1.0),
                        "shout": ParameterRange(choices=(True, False)),
                    },
                    metrics=("num-examples", "calls", "loss"),
                ),
            ),
        } | values
        return _signed(Project(**document).seal(PROJECT_TYPE), signers)

    def job(self, *signers: SigningKey, **values: Any) -> bytes:
        """Return a job of ana's, with what is said otherwise."""
        document = {
            "consortium": self.name,
            "issued_at": now() - timedelta(minutes=1),
            "expires_at": now() + timedelta(minutes=30),
            "project": PROJECT,
            "project_version": 1,
            "researcher": "ana",
            "nonce": new_nonce(),
            "releases": {SITE: self.release},
            "work": StatisticsWork(ask=(mean("age"),)),
        } | values
        return _signed(Job(**document).seal(JOB_TYPE), signers or (self.ana,))


def _members(names: list[str], keys: list[SigningKey]) -> tuple[Member, ...]:
    return tuple(Member(name=n, key=k.public) for n, k in zip(names, keys, strict=True))


def _signed(envelope: Envelope, signers: tuple[SigningKey, ...]) -> bytes:
    for key in signers:
        envelope = envelope.sign(key)
    return envelope.to_bytes()
