"""Serving: a link to each consortium's coordinator, until a signal or an error ends them."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

from contract.errors import NotFound, WardgateError
from foundation import isolation
from foundation.clock import now
from node.catalog.asked import Asked
from node.catalog.store import Catalog
from node.config import NodeSettings
from node.gate.gate import Gate
from node.gate.ledger import Ledger
from node.gate.notices.bell import Bell
from node.gate.policy import Policy, load_policy
from node.home import NodeHome
from node.link.client import ConsortiumLink
from node.link.membership import load_membership, transport_identity
from node.work.desk import WorkDesk
from node.work.statistics import ColumnCache
from node.work.superlink.carrier import SuperNode

log = logging.getLogger("wardgate.node")

BELL_SECONDS = 1.0
"""How often is looked whether the steward is to be told of something."""
DISALLOWED_SECONDS = 1.0
"""How often running jobs are checked against what was taken back."""
PURGE_SECONDS = 24 * 3600.0
"""How often is looked for payloads that needn't be kept longer."""


def open_gate(home: NodeHome, catalog: Catalog) -> Gate:
    """Return the gate of a home, with its ledger and its policy file."""
    return Gate(catalog, Ledger(home.ledger), PolicyFile(home), now, home.noise_key)


class PolicyFile:
    """The policy, read again when its file has changed; a change is a ledger entry's worth."""

    def __init__(self, home: NodeHome) -> None:
        self._path = home.policy
        self._stamp: tuple[int, int, int] | None = None
        self._policy = self()

    def __call__(self) -> Policy:
        """Return the policy in force. A file that can't be read stops all work."""
        stamp = None
        with suppress(FileNotFoundError):
            status = self._path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp is None or stamp != self._stamp:
            self._policy = load_policy(self._path)
            self._stamp = stamp
        return self._policy


async def serve(home: NodeHome, settings: NodeSettings) -> None:
    """Serve every consortium that was joined, until SIGINT or SIGTERM.

    A consortium whose certificate was revoked, or that knows another ledger, ends alone; when it
    was the last one, its error ends the node.
    """
    with Catalog.open(home, settings.database.url or None) as catalog:
        asked = Asked(catalog.engine)
        rows = asked.consortia()
        if not rows:
            raise NotFound("This node has joined no consortium; run 'wardgate-node join' first.")
        gate = open_gate(home, catalog)
        desk = WorkDesk(home, gate, settings, ColumnCache(settings.work.column_cache_bytes))
        await asyncio.to_thread(_tidy, desk)
        pool = ThreadPoolExecutor(settings.work.threads, thread_name_prefix="work")
        training = ThreadPoolExecutor(settings.work.training_jobs, thread_name_prefix="training")
        if gate.policy().training.allowed:
            training.submit(isolation.say)
        members = {row.name: load_membership(home, asked, row, now()) for row in rows}
        kept = {
            row.name: ConsortiumLink(
                members[row.name],
                row.address,
                transport_identity(home, row.name),
                desk,
                settings.link,
                pool,
                training,
            )
            for row in rows
        }
        links = {asyncio.create_task(link.run(), name=name) for name, link in kept.items()}
        stopping = asyncio.create_task(
            _stop_disallowed(desk, settings.link.longest_backoff_seconds)
        )
        purging = asyncio.create_task(_purge_payloads(gate))
        supernodes = [
            SuperNode(
                members[name],
                address,
                transport_identity(home, name),
                desk,
                home.supernode(name),
                settings.supernode.poll_seconds,
                kept[name].was_welcomed,
            )
            for name, address in settings.supernode.addresses.items()
            if name in members
        ]
        for supernode in supernodes:
            threading.Thread(target=supernode.run, name="supernode", daemon=True).start()
            _stop_with(links, supernode)
        silent = threading.Event()
        if settings.notices.wanted:
            bell = Bell(gate.inbox, gate.ledger, settings.notices, now)
            threading.Thread(target=_ring, args=(bell, silent), name="bell", daemon=True).start()
        print(f"serving {', '.join(row.name for row in rows)}", flush=True)
        try:
            await _until_over(links)
        finally:
            silent.set()
            for supernode in supernodes:
                supernode.stop()
            for task in (stopping, purging, *links):
                task.cancel()
            await asyncio.gather(stopping, purging, *links, return_exceptions=True)
            await asyncio.to_thread(desk.stop)
            pool.shutdown(wait=False, cancel_futures=True)
            training.shutdown(wait=False, cancel_futures=True)


def _tidy(desk: WorkDesk) -> None:
    """Settle what a kill left behind; what can't be settled now is at the next start."""
    try:
        desk.training.tidy()
    except Exception as error:
        # Its text might hold a patient's data, so only its type is logged.
        log.error("what the last run left behind can't be settled: %s", type(error).__name__)


def _stop_with(links: set[asyncio.Task[None]], supernode: SuperNode) -> None:
    """Let a link that ends for good take its SuperNode along."""
    for link in links:
        if link.get_name() == supernode.consortium:
            link.add_done_callback(lambda _: supernode.stop())


def _ring(bell: Bell, silent: threading.Event) -> None:
    """Tell the steward what waits, in a thread of its own: no mail server keeps work waiting."""
    while not silent.wait(BELL_SECONDS):
        try:
            bell.ring()
        except Exception as error:
            log.error("the steward can't be told what waits: %s", type(error).__name__)
            silent.wait(bell.settings.every_seconds)


async def _purge_payloads(gate: Gate) -> None:
    """Delete kept payloads once a day that are older than the policy keeps them."""
    while True:
        try:
            older_than = now() - timedelta(days=gate.policy().ledger.keep_payload_days)
            purged = await asyncio.to_thread(gate.ledger.purge, older_than, now())
            if purged:
                log.info("%d payloads were purged, as the policy says", purged)
        except Exception as error:
            log.error("payloads can't be purged: %s", type(error).__name__)
        await asyncio.sleep(PURGE_SECONDS)


async def _stop_disallowed(desk: WorkDesk, pause_seconds: float) -> None:
    """End work whose release, project or recipe was taken back, also while no link is up."""
    while True:
        seconds = DISALLOWED_SECONDS
        try:
            if desk.is_busy():
                await asyncio.to_thread(desk.stop_disallowed)
        except Exception as error:
            # Its text might hold a patient's data, so only its type is logged.
            log.error("jobs can't be checked: %s", type(error).__name__)
            seconds = pause_seconds
        await asyncio.sleep(seconds)


async def _until_over(links: set[asyncio.Task[None]]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    stop = asyncio.create_task(stopping.wait())
    open_links = set(links)
    while not stop.done():
        done, _ = await asyncio.wait({stop, *open_links}, return_when=asyncio.FIRST_COMPLETED)
        for link in done & open_links:
            open_links.discard(link)
            error = link.exception()
            if not open_links and error is not None:
                stop.cancel()
                raise error
            if isinstance(error, WardgateError):
                log.error("%s: %s", link.get_name(), error)
            elif error is not None:
                log.error("%s: unexpected %s", link.get_name(), type(error).__name__)
