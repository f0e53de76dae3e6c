"""Serving: the port, the service and its watchers, until a signal ends them."""

from __future__ import annotations

import asyncio
import logging
import signal
from datetime import UTC, datetime

import grpc
from sqlalchemy import select

from contract import wire_pb2_grpc
from contract.errors import DocumentError, NotFound, SignatureError, Unavailable
from contract.trust import TrustedDocuments
from coordinator import schema
from coordinator.config import CoordinatorSettings
from coordinator.database import open_coordinator_database
from coordinator.home import CoordinatorHome
from coordinator.jobs.desk import JobDesk
from coordinator.jobs.store import JobStore
from coordinator.link.service import WardgateService
from coordinator.link.sessions import Sessions
from coordinator.registry.authority import Authority
from coordinator.registry.documents import DocumentShelf
from coordinator.registry.members import Members
from coordinator.registry.model_records import record_missing
from coordinator.work.training.spool import tidy_ended
from foundation import isolation
from foundation.database import reading
from foundation.transport import SERVER_OPTIONS, TransportIdentity

log = logging.getLogger("wardgate.coordinator")


async def serve(home: CoordinatorHome, settings: CoordinatorSettings) -> None:
    """Serve until SIGINT or SIGTERM. ``Unavailable`` when the port is in use."""
    home.require()
    engine = open_coordinator_database(home, settings)
    with reading(engine) as connection:
        row = connection.execute(select(schema.consortium)).one_or_none()
    if row is None:
        raise NotFound("The database holds no consortium; run 'wardgate-coordinator init' first.")
    identity = TransportIdentity(home.server)
    identity.check(datetime.now(UTC))
    sessions = Sessions()
    desk = JobDesk(home, JobStore(engine), sessions, settings.jobs)
    sessions.changed = desk.site_changed
    service = WardgateService(
        home,
        settings,
        row.name,
        Authority.load(home),
        Members(engine),
        DocumentShelf(engine),
        sessions,
        desk,
    )
    server = grpc.aio.server(options=SERVER_OPTIONS)
    wire_pb2_grpc.add_WardgateServicer_to_server(service, server)
    address = f"{settings.listen.host}:{settings.listen.port}"
    try:
        port = server.add_secure_port(address, identity.server_credentials())
    except RuntimeError:
        port = 0
    if port == 0:
        raise Unavailable(
            f"Port {settings.listen.port} on {settings.listen.host} is in use or may not be used; "
            "set [listen] port to another."
        )
    if settings.superlink.enabled:
        from coordinator.work.superlink.service import SuperLink

        desk.superlink = SuperLink(
            settings.superlink, home.superlink, settings.jobs.keep_free_bytes
        )
        front = desk.superlink.start(identity, service.members.check)
        print(f"serving SuperNodes on port {front}", flush=True)
    tidy_ended(home, desk.store)
    desk.resume(_trusted(service, row.name))  # before a node says which jobs it holds open
    await server.start()
    watchers = [
        asyncio.create_task(service.watch_sessions()),
        asyncio.create_task(service.relay.run()),
        asyncio.create_task(_watch_documents(service)),
        asyncio.create_task(asyncio.to_thread(record_missing, home, desk.store)),
        asyncio.create_task(asyncio.to_thread(isolation.say)),
    ]
    print(f"serving consortium {row.name} on port {port}", flush=True)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    await stopping.wait()
    for watcher in watchers:
        watcher.cancel()
    await desk.stop()
    if desk.superlink is not None:
        await asyncio.to_thread(desk.superlink.stop)
    for session in list(sessions.live.values()):
        session.close()
    await server.stop(grace=1.0)


def _trusted(service: WardgateService, consortium: str) -> TrustedDocuments:
    """Return what is believed; nothing when the roster has expired, which must be mendable."""
    try:
        return service.shelf.trusted(consortium, datetime.now(UTC))
    except (DocumentError, SignatureError) as error:
        log.error("%s No job is taken up; propose a new roster.", error)
        return TrustedDocuments(consortium, anchor="")


async def _watch_documents(service: WardgateService) -> None:
    """Tell the nodes of documents that a command of this machine published."""
    known = service.shelf.message("published").SerializeToString()
    while True:
        await asyncio.sleep(1.0)
        current = service.shelf.message("published").SerializeToString()
        if current != known:
            known = current
            service.tell_documents()
