"""Who does an intake's work: this process, processes of its own, or a Dask cluster.

All are ``concurrent.futures.Executor``. What differs is how a worker's death shows, and what to do
to go on. Dask speaks pickle: a cluster is part of the node, reached by mutual TLS only, or within
this machine.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor
from datetime import datetime
from multiprocessing import connection
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from contract.errors import ConfigurationError, Unavailable
from foundation.listening import is_loopback
from node.config import IntakeSettings
from node.deid.engine import Deidentifier
from node.intake.items import Item, Setup, Taken
from node.intake.looking import Looked
from node.intake.taking import Taker, give, look_at, take_items

R = TypeVar("R")
Result = Future[list[Taken]]
Take = Callable[[Setup, Sequence[Item], datetime], list[Taken]]
"""What a worker does; it is found by its name."""

PROCESSES = "processes"
_CONNECT_SECONDS = 20
_WORKER_SECONDS = 60
_LEAST_CLUSTER = 16


class Crew(Protocol):
    """Workers, for one intake."""

    width: int
    """How many work at once; 0: the caller itself does."""
    is_local: bool
    """Whether all of them work on this machine."""

    def submit(self, setup: Setup, items: Sequence[Item], now: datetime) -> Result:
        """Have files taken in, by one worker."""

    def look(self, setup: Setup, items: Sequence[Item]) -> Future[Looked]:
        """Have files looked at, by one worker."""

    def has_died(self, error: BaseException) -> bool:
        """Say whether an error of a result means that a worker ended without one."""

    def renew(self, result: Future[Any]) -> None:
        """Have workers again after one has died that had this to do."""


class Alone:
    """The caller's own process."""

    width = 0
    is_local = True

    def __init__(self, deidentifier: Deidentifier) -> None:
        self._deidentifier = deidentifier
        self._taker: Taker | None = None
        self._token = ""

    def submit(self, setup: Setup, items: Sequence[Item], now: datetime) -> Result:
        """Take files in at once."""
        taker = self._ready(setup)
        return _done(lambda: [taker.take(item, now) for item in items])

    def look(self, setup: Setup, items: Sequence[Item]) -> Future[Looked]:
        """Look at files at once."""
        return _done(lambda: self._ready(setup).look(items))

    def _ready(self, setup: Setup) -> Taker:
        if self._taker is None or self._token != setup.token:
            self._taker, self._token = Taker(setup, self._deidentifier), setup.token
        return self._taker

    def has_died(self, error: BaseException) -> bool:
        """Only for want of memory."""
        return isinstance(error, MemoryError)

    def renew(self, result: Future[Any]) -> None:
        """Nothing died."""


class Executed:
    """Any executor. Its workers must be able to import this package."""

    is_local = False

    def __init__(self, executor: Executor, width: int, take: Take = take_items) -> None:
        self.width = width
        self._take = take
        self._executor = executor

    def submit(self, setup: Setup, items: Sequence[Item], now: datetime) -> Result:
        """Have files taken in; ``Unavailable`` when the executor takes nothing any more."""
        return self._submit(self._take, setup, items, now)

    def look(self, setup: Setup, items: Sequence[Item]) -> Future[Looked]:
        """Have files looked at; ``Unavailable`` as ``submit``."""
        return self._submit(look_at, setup, items)

    def _submit(self, work: Callable[..., R], *given: object) -> Future[R]:
        try:
            return self._executor.submit(work, *given)
        except RuntimeError:
            raise Unavailable("The executor of intake has ended; run the command again.") from None

    def has_died(self, error: BaseException) -> bool:
        """Say so by the error's class; Dask's is known by its name, as it may not be installed."""
        return isinstance(error, BrokenExecutor | MemoryError) or _is_killed_worker(error)

    def renew(self, result: Future[Any]) -> None:
        """Dask restarts its workers itself; others can't be renewed here."""


class Processes:
    """Processes of this machine. They end when their parent does, whatever ended it."""

    is_local = True

    def __init__(
        self,
        deidentifier: Deidentifier,
        width: int,
        file_seconds: int = 3600,
        take: Take = take_items,
    ) -> None:
        self.width = width
        self._take = take
        self._deidentifier = deidentifier
        self._seconds = file_seconds
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["node.intake.taking"])
        self._pools: WeakKeyDictionary[Future[Any], ProcessPoolExecutor] = WeakKeyDictionary()
        self._pool = self._new()

    def submit(self, setup: Setup, items: Sequence[Item], now: datetime) -> Result:
        """Have files taken in."""
        return self._submit(_timed, self._take, self._seconds, setup, items, now)

    def look(self, setup: Setup, items: Sequence[Item]) -> Future[Looked]:
        """Have files looked at."""
        return self._submit(look_at, setup, items)

    def _submit(self, work: Callable[..., R], *given: object) -> Future[R]:
        try:
            result = self._pool.submit(work, *given)
        except BrokenExecutor:
            self._pool.shutdown(wait=False)
            self._pool = self._new()
            result = self._pool.submit(work, *given)
        self._pools[result] = self._pool
        return result

    def has_died(self, error: BaseException) -> bool:
        """A pool breaks as a whole when one of its processes ends."""
        return isinstance(error, BrokenExecutor | MemoryError)

    def renew(self, result: Future[Any]) -> None:
        """Start other processes, unless they were started since."""
        if self._pools.get(result) is self._pool:
            self._pool.shutdown(wait=False)
            self._pool = self._new()

    def close(self) -> None:
        """End the processes; what they have begun is finished."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def abandon(self) -> None:
        """End the processes at once, as a kill would; the next intake clears up."""
        self.kill()
        self.close()

    def kill(self) -> None:
        """Kill the processes; who waits for their work is told. Any thread may call this."""
        for process in list((self._pool._processes or {}).values()):
            process.kill()

    def _new(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.width, self._context, initializer=_prepare, initargs=(self._deidentifier,)
        )


@contextlib.contextmanager
def open_crew(
    settings: IntakeSettings, deidentifier: Deidentifier, workers: int | None = None
) -> Iterator[Crew]:
    """Give who works: as the settings say, or so many processes (0: as many as cores).

    ``ConfigurationError`` for an executor that isn't one, or one that could be listened to;
    ``Unavailable`` when the cluster can't be reached or has no worker.
    """
    if settings.executor != PROCESSES and workers is None:
        with _cluster(settings) as crew:
            yield crew
        return
    count = settings.workers if workers is None else workers
    cores = len(os.sched_getaffinity(0))
    processes = Processes(deidentifier, count or cores, settings.file_seconds)
    try:
        yield processes
    except BaseException:
        # Whoever interrupts doesn't wait for text to be read in a thousand frames.
        processes.abandon()
        raise
    processes.close()


def _done(work: Callable[[], R]) -> Future[R]:
    result: Future[R] = Future()
    try:
        result.set_result(work())
    except Exception as error:
        result.set_exception(error)
    return result


# ---- processes -----------------------------------------------------------------------------------


def _timed(
    take: Take, seconds: int, setup: Setup, items: Sequence[Item], now: datetime
) -> list[Taken]:
    taken = []
    for item in items:
        # A decoder that never ends is ended, and its file is treated as one that killed a worker.
        signal.alarm(seconds)
        try:
            taken += take(setup, [item], now)
        finally:
            signal.alarm(0)
    return taken


def _prepare(deidentifier: Deidentifier) -> None:
    give(deidentifier)
    # Ctrl-C reaches every process of a terminal; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        # If memory runs out, a worker goes first: its file is tried again alone.
        Path("/proc/self/oom_score_adj").write_text("500")
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


# ---- Dask ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _cluster(settings: IntakeSettings) -> Iterator[Crew]:
    check_address(settings)
    from distributed import Client

    options: dict[str, Any] = {"timeout": f"{_CONNECT_SECONDS}s", "set_as_default": False}
    if settings.executor.startswith("tls://"):
        options["security"] = _security(settings)
    try:
        client = Client(settings.executor, name="wardgate-intake", **options)
    except (OSError, ValueError):
        raise Unavailable("The Dask scheduler of [intake] can't be reached.") from None
    try:
        try:
            client.wait_for_workers(1, timeout=_WORKER_SECONDS)
        except TimeoutError:
            raise Unavailable("The Dask cluster of [intake] has no worker.") from None
        # Others may join: more is kept ready than those that are there have hands for.
        width = max(sum(client.nthreads().values()), _LEAST_CLUSTER)
        yield Executed(client.get_executor(), width)
    except CancelledError:
        raise Unavailable("The Dask scheduler went away; run the command again.") from None
    finally:
        client.close(timeout=5)


def check_address(settings: IntakeSettings) -> None:
    """Raise ``ConfigurationError`` unless the executor is one that nobody can listen to."""
    address = urlsplit(settings.executor)
    if address.scheme not in ("tcp", "tls") or not address.hostname:
        raise ConfigurationError(
            '[intake] executor is "processes", or a Dask scheduler: "tls://host:port".'
        )
    if address.scheme == "tls":
        if not (settings.tls_authority and settings.tls_certificate and settings.tls_key):
            raise ConfigurationError(
                "[intake] executor by TLS needs tls_authority, tls_certificate and tls_key."
            )
    elif not settings.allow_plain_tcp and not is_loopback(address.hostname):
        raise ConfigurationError(
            "[intake] executor reaches another machine without TLS; use tls://."
        )


def _security(settings: IntakeSettings) -> Any:
    from distributed.security import Security

    return Security(
        require_encryption=True,
        tls_ca_file=settings.tls_authority,
        tls_client_cert=settings.tls_certificate,
        tls_client_key=settings.tls_key,
    )


def _is_killed_worker(error: BaseException) -> bool:
    return type(error).__name__ == "KilledWorker"
