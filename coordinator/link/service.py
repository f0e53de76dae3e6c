"""The service itself: who may call what, and where each call goes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import grpc
from sqlalchemy.exc import DBAPIError

from contract import wire_pb2 as wire
from contract import wire_pb2_grpc
from contract.errors import CertificateError, DocumentError, WardgateError
from contract.receipts import Receipt
from coordinator.config import CoordinatorSettings
from coordinator.home import CoordinatorHome
from coordinator.jobs.desk import JobDesk
from coordinator.link.heads import HeadRelay
from coordinator.link.sessions import Session, Sessions
from coordinator.link.training import TrainingTraffic
from coordinator.registry.authority import Authority
from coordinator.registry.documents import DocumentShelf
from coordinator.registry.members import Members
from foundation import rpc
from foundation.transport import Peer, Role, peer_of

log = logging.getLogger("wardgate.coordinator")

PROTOCOL = 1
MISSED_HEARTBEATS = 3
MAX_RELEASES_BYTES = 1024 * 1024


@dataclass
class WardgateService(wire_pb2_grpc.WardgateServicer):
    """gRPC's ``Wardgate``. Each method first says which roles may call it."""

    home: CoordinatorHome
    settings: CoordinatorSettings
    consortium: str
    authority: Authority
    members: Members
    shelf: DocumentShelf
    sessions: Sessions
    desk: JobDesk
    _peers: dict[bytes, Peer] = field(default_factory=dict)
    _standing: set[str] = field(default_factory=set)
    """Serials of certificates found in good standing since revocations were last looked for."""
    _heads: dict[str, wire.LedgerHead] = field(default_factory=dict)
    _unwritten_heads: set[str] = field(default_factory=set)
    _seen: set[str] = field(default_factory=set)
    relay: HeadRelay = field(init=False)
    _training: TrainingTraffic = field(init=False)

    def __post_init__(self) -> None:
        """Carry heads over the same sessions, and training's blobs beside them."""
        self.relay = HeadRelay(self.consortium, self.shelf.engine, self.shelf, self.sessions, _now)
        self._training = TrainingTraffic(self.home, self.desk, self._projects_of)

    # ---- joining -------------------------------------------------------------------------------

    async def Enrol(
        self, request: wire.EnrolRequest, context: grpc.aio.ServicerContext
    ) -> wire.EnrolReply:
        """Exchange an invitation for a certificate."""
        try:
            peer = self._caller(context, Role.ENROL)
            issued = self.members.enrol(self.authority, peer, request, _now(), self._life)
            log.info("joined: %s", request.name)
            return wire.EnrolReply(certificate=issued.pem, consortium=self.consortium)
        except WardgateError as error:
            await rpc.abort(context, error)

    async def Renew(
        self, request: wire.RenewRequest, context: grpc.aio.ServicerContext
    ) -> wire.EnrolReply:
        """Give a member a fresh certificate."""
        try:
            peer = self._caller(context, Role.SITE, Role.RESEARCHER)
            issued = self.members.renew(self.authority, peer, request.csr, _now(), self._life)
            return wire.EnrolReply(certificate=issued.pem, consortium=self.consortium)
        except WardgateError as error:
            await rpc.abort(context, error)

    @property
    def _life(self) -> timedelta:
        return timedelta(days=self.settings.certificates.lifetime_days)

    # ---- documents -----------------------------------------------------------------------------

    async def GetDocuments(
        self, request: wire.DocumentsRequest, context: grpc.aio.ServicerContext
    ) -> wire.Documents:
        """Return the published documents, or the proposed ones."""
        try:
            self._caller(context, Role.SITE, Role.RESEARCHER)
            return self.shelf.message("proposed" if request.proposed else "published")
        except WardgateError as error:
            await rpc.abort(context, error)

    async def SignDocument(
        self, request: wire.SignDocumentRequest, context: grpc.aio.ServicerContext
    ) -> wire.Documents:
        """Take a steward's signature in; tell the nodes when a document is (newly) published."""
        try:
            self._caller(context, Role.SITE)
            before = {document.digest for document in self.shelf.all("published")}
            row = self.shelf.sign(request.envelope, _now())
            if row.state == "published" and row.digest not in before:
                # A signature more on a published document is told by the watch, with others': of
                # hundreds of stewards each signs, and each telling goes to hundreds of nodes.
                self.tell_documents()
            return self.shelf.message("published")
        except WardgateError as error:
            await rpc.abort(context, error)

    def tell_documents(self) -> None:
        """Send the published documents to every node, and then the heads of others' ledgers.

        Who didn't believe the roster yet couldn't countersign what came before.
        """
        self.sessions.broadcast(wire.ToNode(documents=self.shelf.message("published")))
        for session in list(self.sessions.live.values()):
            self.relay.arrived(session)

    # ---- the link ------------------------------------------------------------------------------

    async def Link(
        self, requests: AsyncIterator[wire.FromNode], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[wire.ToNode]:
        """One node's stream: its messages in, offers and tasks out, until either side ends it."""
        try:
            peer = self._caller(context, Role.SITE)
            first = await anext(requests, None)
            if first is None or first.WhichOneof("body") != "hello":
                raise DocumentError("A link must begin with a hello.")
            if first.hello.protocol != PROTOCOL:
                raise DocumentError(
                    f"The node speaks protocol {first.hello.protocol}; this is {PROTOCOL}."
                )
        except WardgateError as error:
            await rpc.abort(context, error)
        session = Session(peer)
        session.send(wire.ToNode(welcome=self._welcome(peer.name)))
        self._close_jobs_that_are_over(session, first.hello)
        self.sessions.add(session)
        self.relay.arrived(session)
        log.info("online: %s", peer.name)
        reader = asyncio.create_task(self._read(session, requests, first.hello.ledger))
        try:
            while (message := await session.queue.get()) is not None:
                yield message
        finally:
            reader.cancel()
            self.sessions.remove(session)
            log.info("offline: %s", peer.name)
        if (peer.role, peer.name) in self.members.revoked():
            await rpc.abort(context, CertificateError(f"{peer.role} {peer.name} was revoked."))

    def _welcome(self, site: str) -> wire.Welcome:
        self._flush_ledger_heads()
        known = self.members.find(Role.SITE, site)
        welcome = wire.Welcome(
            documents=self.shelf.message("published"),
            heartbeat_seconds=self.settings.link.heartbeat_seconds,
            head=self.relay.newest(site),
        )
        if known is not None and known.ledger_sequence is not None:
            welcome.ledger.sequence = known.ledger_sequence
            welcome.ledger.hash = known.ledger_hash or b""
        return welcome

    def _note_ledger(self, site: str, sequence: int, hash_: bytes) -> None:
        """Keep the newest head of a site's ledger, to be told back to it."""
        if not hash_:
            return
        newest = self._heads.get(site)
        if newest is None or sequence > newest.sequence:
            self._heads[site] = wire.LedgerHead(sequence=sequence, hash=hash_)
            self._unwritten_heads.add(site)

    def _flush_ledger_heads(self) -> None:
        """Write the heads that came since the last time."""
        if self._unwritten_heads:
            self.members.note_ledgers({site: self._heads[site] for site in self._unwritten_heads})
            self._unwritten_heads.clear()

    def _close_jobs_that_are_over(self, session: Session, hello: wire.Hello) -> None:
        for digest in hello.open_jobs[:10_000]:
            if digest not in self.desk.active:
                session.send(wire.ToNode(close=wire.CloseJob(job=digest, state="ended")))

    async def _read(
        self,
        session: Session,
        requests: AsyncIterator[wire.FromNode],
        head: wire.LedgerHead,
    ) -> None:
        """Take a node's messages in. ``head`` is the one of its hello.

        That head is kept only once the node goes on after the welcome, which told it the head that
        was seen before: a node whose ledger was turned back doesn't, however often it tries.
        """
        told = False
        try:
            async for message in requests:
                session.heard_at = time.monotonic()
                if not told:
                    self._note_ledger(session.site, head.sequence, head.hash)
                    told = True
                match message.WhichOneof("body"):
                    case "heartbeat":
                        self._seen.add(session.site)
                        session.send(wire.ToNode(heartbeat=wire.Empty()))
                    case "head":
                        self.relay.offered(session.site, message.head)
                    case "countersigned":
                        self.relay.countersigned(session.site, message.countersigned)
                    case "releases":
                        data = message.releases.SerializeToString()
                        if len(data) <= MAX_RELEASES_BYTES:
                            self.members.set_releases(session.site, data)
                    case "reply":
                        await self.desk.from_node(session.site, message)
                        newest = Receipt.head_of(message.reply.receipt)
                        self._note_ledger(session.site, *newest)
                    case _:
                        await self.desk.from_node(session.site, message)
        except WardgateError as error:
            log.warning("%s: %s", session.site, error)
        except DBAPIError as error:
            # What can't be written isn't acknowledged; the node sends it again.
            log.error("%s: the database can't be written (%s)", session.site, type(error).__name__)
        finally:
            session.close()

    async def watch_sessions(self) -> None:
        """Cut the streams of the revoked, the expired and the silent, for as long as we serve."""
        told: set[str] = set()
        while True:
            await asyncio.sleep(self.settings.link.revocation_seconds)
            self._standing.clear()
            self._flush_ledger_heads()
            if self._seen:
                # Hundreds of sites are heard of in each period: one transaction for all.
                self.members.seen(self._seen, _now())
                self._seen.clear()
            revoked = {name for role, name in self.members.revoked() if role is Role.SITE}
            for name in revoked - told:
                self.desk.site_revoked(name)
            told = revoked
            silence = self.settings.link.heartbeat_seconds * MISSED_HEARTBEATS
            for session in list(self.sessions.live.values()):
                if (
                    session.site in revoked
                    or _now() >= session.peer.not_after
                    or time.monotonic() - session.heard_at > silence
                ):
                    session.close()

    # ---- training ------------------------------------------------------------------------------

    async def BlobState(
        self, request: wire.BlobRequest, context: grpc.aio.ServicerContext
    ) -> wire.BlobStatus:
        """Say how much of a blob is held, so that its sender goes on from there."""
        try:
            return await self._training.state(self._caller(context, Role.SITE), request)
        except WardgateError as error:
            await rpc.abort(context, error)

    async def Upload(
        self, requests: AsyncIterator[wire.BlobChunk], context: grpc.aio.ServicerContext
    ) -> wire.BlobStatus:
        """Take a blob of a job in, from the offset that its first chunk names."""
        try:
            return await self._training.take(self._caller(context, Role.SITE), requests)
        except WardgateError as error:
            await rpc.abort(context, error)

    async def Download(
        self, request: wire.BlobRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[wire.BlobChunk]:
        """Send a blob: of a job to its sites and its researcher, a recipe's bundle to any site."""
        try:
            peer = self._caller(context, Role.SITE, Role.RESEARCHER)
            async for chunk in self._training.send(peer, request):
                yield chunk
        except WardgateError as error:
            await rpc.abort(context, error)

    async def Models(
        self, request: wire.ModelsRequest, context: grpc.aio.ServicerContext
    ) -> wire.ModelList:
        """Return the models of a project of the caller's, or of all of them."""
        try:
            return self._training.models(self._caller(context, Role.RESEARCHER), request)
        except WardgateError as error:
            await rpc.abort(context, error)

    async def Model(
        self, request: wire.ModelRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[wire.ModelRecord]:
        """Send all that is known of one model; its receipts in pieces."""
        try:
            for record in self._training.model(self._caller(context, Role.RESEARCHER), request):
                yield record
        except WardgateError as error:
            await rpc.abort(context, error)

    # ---- researchers ---------------------------------------------------------------------------

    async def ListSites(
        self, request: wire.Empty, context: grpc.aio.ServicerContext
    ) -> wire.SiteList:
        """Return the sites, whether they are there, and what they can be asked about."""
        try:
            self._caller(context, Role.RESEARCHER)
            listed = wire.SiteList()
            for member in self.members.all(Role.SITE):
                site = listed.sites.add(
                    name=member.name,
                    online=self.sessions.online(member.name),
                    revoked=member.revoked_at is not None,
                )
                site.releases.extend(wire.Releases.FromString(member.releases or b"").releases)
            return listed
        except WardgateError as error:
            await rpc.abort(context, error)

    async def Submit(
        self, request: wire.SubmitRequest, context: grpc.aio.ServicerContext
    ) -> wire.JobStatus:
        """Take a signed job in."""
        try:
            peer = self._caller(context, Role.RESEARCHER)
            trusted = self.shelf.trusted(self.consortium, _now())
            return self.desk.submit(request.job, trusted, peer.name)
        except WardgateError as error:
            await rpc.abort(context, error)

    async def Watch(
        self, request: wire.JobRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[wire.JobEvent]:
        """Send a job's events, past and coming, until it has ended."""
        try:
            peer = self._caller(context, Role.RESEARCHER)
            self.desk.own(request.job, peer.name)
            async for event in self.desk.watch(request.job):
                yield event
        except WardgateError as error:
            await rpc.abort(context, error)

    async def Result(
        self, request: wire.JobRequest, context: grpc.aio.ServicerContext
    ) -> wire.JobResult:
        """Return what came of a job."""
        try:
            peer = self._caller(context, Role.RESEARCHER)
            self.desk.own(request.job, peer.name)
            return self.desk.result(request.job)
        except WardgateError as error:
            await rpc.abort(context, error)

    async def Wait(
        self, request: wire.JobRequest, context: grpc.aio.ServicerContext
    ) -> wire.JobResult:
        """Return what came of a job, once it has ended."""
        try:
            peer = self._caller(context, Role.RESEARCHER)
            self.desk.own(request.job, peer.name)
            await self.desk.ended(request.job)
            return self.desk.result(request.job)
        except WardgateError as error:
            await rpc.abort(context, error)

    async def Cancel(
        self, request: wire.JobRequest, context: grpc.aio.ServicerContext
    ) -> wire.JobStatus:
        """Stop a job of the caller's."""
        try:
            peer = self._caller(context, Role.RESEARCHER)
            return self.desk.cancel(request.job, peer.name)
        except WardgateError as error:
            await rpc.abort(context, error)

    # ---- who calls -----------------------------------------------------------------------------

    def _caller(self, context: grpc.aio.ServicerContext, *roles: Role) -> Peer:
        """Return the caller; ``CertificateError`` unless its role may call and it is no outcast."""
        pem = (context.auth_context().get("x509_pem_cert") or [b""])[0]
        peer = self._peers.get(pem)
        if peer is None:
            peer = peer_of(pem)
            if len(self._peers) > 10_000:
                self._peers.clear()
            self._peers[pem] = peer
        if peer.role not in roles:
            raise CertificateError(f"A certificate of role {peer.role} may not make this call.")
        if _now() >= peer.not_after:
            raise CertificateError("The certificate has expired.")
        if peer.role is not Role.ENROL and peer.serial not in self._standing:
            self.members.check(peer)
            self._standing.add(peer.serial)
        return peer

    def _projects_of(self, researcher: str) -> set[str]:
        """Return the projects in force that a researcher is in."""
        trusted = self.shelf.trusted(self.consortium, _now())
        return {
            name
            for name, project in trusted.projects.items()
            if researcher in project.document.researchers
        }


def _now() -> datetime:
    return datetime.now(UTC)
