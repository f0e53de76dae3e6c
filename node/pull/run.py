"""One run of a pull: find the studies, then fetch what isn't here, politely and to the end.

Order that makes it resumable: an instance is durable in the landing before it counts as here, a
study is done when the state says so, and before each series it is asked afresh what is here (in
the landing, taken out of it, or in the catalogue). Killed anywhere, the next run asks for no
instance that is durable.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime

from contract.errors import Unavailable, UsageError
from foundation.hours import Hours
from node.pull.archive import (
    Archive,
    ArchiveRefused,
    FoundSeries,
    FoundStudy,
    Interrupted,
    Wanted,
)
from node.pull.jobs import Fetched, Jobs, PendingStudy
from node.pull.question import Question
from node.pull.reception import Reception, Storage
from node.pull.states import JobState
from node.pull.throttle import Pauses, Throttle

NAP_SECONDS = 60.0
"""How long a wait lasts before it is looked again whether to go on."""
TICK_SECONDS = 0.25


class OutsideHours(Unavailable):
    """The allowed hours haven't begun, and the command was told not to wait."""


@dataclass(frozen=True)
class Pace:
    """How an archive may be asked."""

    hours: Hours = field(default_factory=Hours)
    instances_per_second: float = 0.0
    bytes_per_second: float = 0.0
    associations: int = 1
    study_pause_seconds: float = 0.0
    attempts: int = 5
    pauses: Pauses = field(default_factory=lambda: Pauses(2.0, 300.0))
    largest_instance_bytes: int = 4 * 2**30
    wait_for_hours: bool = True


@dataclass
class Progress:
    """A run so far."""

    studies: int = 0
    studies_done: int = 0
    instances: int = 0
    bytes: int = 0
    waiting_until: datetime | None = None
    """The allowed hours begin then."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, instances: int, size_bytes: int) -> None:
        """Count what arrived."""
        with self.lock:
            self.instances += instances
            self.bytes += size_bytes


class Run:
    """One process's work on one pull. ``stop`` ends it early, with everything kept."""

    def __init__(
        self,
        jobs: Jobs,
        name: str,
        connect: Callable[[], Archive],
        storage: Storage,
        pace: Pace,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._jobs = jobs
        self._name = name
        self._connect = connect
        self._storage = storage
        self._pace = pace
        self._now = now
        self._stop = threading.Event()
        self._sleep = self._stop.wait if sleep is None else sleep
        self._throttle = Throttle(
            pace.instances_per_second, pace.bytes_per_second, monotonic, self._sleep
        )
        self._filters = jobs.filters(name)
        self._lock = threading.Lock()
        self.progress = Progress()

    def stop(self) -> None:
        """Have it end soon; what has arrived stays."""
        self._stop.set()

    # ---- finding -------------------------------------------------------------------------------

    def find(self, observe: Callable[[int], None] = lambda asked: None) -> None:
        """Ask the questions that are not answered yet; ``UsageError`` for too many matches."""
        job = self._jobs.get(self._name)
        if job.state is not JobState.FINDING:
            return
        total = self._jobs.counts(self._name).studies.total()
        answered = False
        archive = self._connect()
        try:
            for asked, (number, question) in enumerate(self._jobs.pending_requests(self._name), 1):
                most = job.most_studies - total if job.most_studies else None
                try:
                    found = self._ask(archive, question, most)
                except ArchiveRefused:
                    if not answered:
                        raise
                    self._jobs.refused(self._name, number)
                else:
                    answered = True
                    total += self._jobs.answered(self._name, number, found)
                observe(asked)
        finally:
            archive.close()
        self._jobs.step(self._name, "found")

    def _ask(self, archive: Archive, question: Question, most: int | None) -> list[FoundStudy]:
        """Ask one question, in as many attempts as allowed."""
        found: list[FoundStudy] = []
        for attempt in self._attempts():
            with attempt:
                found = []
                for study in archive.studies(question):
                    found.append(study)
                    if most is not None and len(found) > most:
                        raise UsageError(
                            "More studies match than pull.most_studies allows; narrow the query, "
                            "or say --yes."
                        )
        return found

    def _attempts(self) -> Iterator[_Attempt]:
        """Yield attempts with growing pauses between them, until one succeeds."""
        for number in range(1, self._pace.attempts + 1):
            attempt = _Attempt(last=number == self._pace.attempts)
            yield attempt
            if attempt.succeeded:
                return
            self._sleep(self._pace.pauses.after(number))
            if self._stop.is_set():
                raise Interrupted("The pull was broken off; `pull resume` goes on.")

    # ---- fetching ------------------------------------------------------------------------------

    def fetch(self, behind: Callable[[], None] = lambda: None) -> None:
        """Fetch the studies that are pending. ``behind`` is called now and then meanwhile.

        ``Unavailable`` when the archive is down, or outside the allowed hours if told not to
        wait; ``StorageError`` for a full disk. The pull can be resumed after each.
        """
        pending = self._jobs.pending_studies(self._name)
        self.progress.studies = len(pending)
        queue = iter(pending)
        workers = max(1, min(self._pace.associations, len(pending)))
        with ThreadPoolExecutor(workers, thread_name_prefix="pull") as pool:
            futures = [pool.submit(self._work, queue) for _ in range(workers)]
            try:
                self._watch(futures, behind)
            except BaseException:
                self._stop.set()
                raise
        for future in futures:
            future.result()
        if self._stop.is_set():
            raise Interrupted("The pull was broken off; `pull resume` goes on.")
        self._jobs.step(self._name, "done")

    def _watch(self, futures: list[Future[None]], behind: Callable[[], None]) -> None:
        waiting: set[Future[None]] = set(futures)
        while waiting:
            done, waiting = wait(waiting, TICK_SECONDS, FIRST_EXCEPTION)
            for future in done:
                future.result()
            behind()

    def _work(self, queue: Iterator[PendingStudy]) -> None:
        archive = self._connect()
        try:
            while not self._stop.is_set():
                with self._lock:
                    study = next(queue, None)
                if study is None:
                    return
                self._fetch(archive, study)
                with self.progress.lock:
                    self.progress.studies_done += 1
                if self._pace.study_pause_seconds:
                    self._sleep(self._pace.study_pause_seconds)
        except Interrupted:
            if not self._stop.is_set():
                raise
        finally:
            archive.close()

    def _fetch(self, archive: Archive, pending: PendingStudy) -> None:
        """Fetch one study, in as many attempts as allowed, and keep what became of it."""
        study = _Study(pending)
        failures = 0
        while True:
            self._wait_for_hours()
            reason, refused_before = "", len(study.refused)
            try:
                self._pass(archive, study)
                if not study.missing:
                    break
                reason = "the archive didn't send everything"
            except Interrupted:
                # The allowed hours are over, or we are to stop: no failure.
                if self._stop.is_set():
                    raise
                continue
            except ArchiveRefused as refused:
                if not self.progress.instances:
                    raise
                reason = str(refused)
                failures = self._pace.attempts
            except Unavailable as unavailable:
                if isinstance(unavailable, OutsideHours):
                    raise
                reason = str(unavailable)
            if len(study.refused) > refused_before:
                # An instance that is too large breaks its association off, and isn't asked for
                # again: no failure of the archive's.
                continue
            failures += 1
            if failures >= self._pace.attempts:
                self._give_up(archive, study, reason)
                return
            self._sleep(self._pace.pauses.after(failures))
            if self._stop.is_set():
                raise Interrupted("The pull was broken off; `pull resume` goes on.")
        if study.refused:
            result = study.result(len(study.refused), "an instance is too large")
            self._jobs.fetched(self._name, pending.number, "given up", result)
            return
        event = "arrived" if study.found else "nothing there"
        self._jobs.fetched(self._name, pending.number, event, study.result())

    def _give_up(self, archive: Archive, study: _Study, reason: str) -> None:
        # If the archive itself is down, the other studies needn't be tried.
        archive.test()
        missing = len(study.missing | study.refused)
        self._jobs.fetched(
            self._name, study.pending.number, "given up", study.result(missing, reason)
        )

    def _pass(self, archive: Archive, study: _Study) -> None:
        """Go through a study's series once, and have sent what isn't here."""
        study.missing.clear()
        for series in archive.series(study.pending.uid, self._filters):
            self._wait_for_hours()
            instances = archive.instances(study.pending.uid, series.uid)
            here = self._storage.held(instances) if instances else set()
            study.held |= here - study.came
            study.found = True
            wanted = {
                uid: sop_class
                for uid, sop_class in instances.items()
                if uid not in here and uid not in study.refused
            }
            if wanted:
                whole = len(wanted) == len(instances)
                self._retrieve(archive, study, Wanted(study.pending.uid, series.uid, wanted, whole))
            elif not instances and series.uid not in study.blind:
                self._retrieve_unlisted(archive, study, series)

    def _retrieve(self, archive: Archive, study: _Study, wanted: Wanted) -> None:
        reception = self._reception(wanted.classes)
        try:
            archive.retrieve(wanted, reception)
        finally:
            study.came |= reception.came
            study.refused |= reception.refused
            study.missing |= set(wanted.classes) - reception.came - reception.refused

    def _retrieve_unlisted(self, archive: Archive, study: _Study, series: FoundSeries) -> None:
        """Have a series sent that the archive gives no list of; its count says if all came."""
        reception = self._reception(None)
        try:
            archive.retrieve(Wanted(study.pending.uid, series.uid), reception)
        finally:
            study.came |= reception.came
            study.refused |= reception.refused
            study.held |= reception.held
        there = len(reception.came | reception.held | reception.refused)
        if there < max(1, series.instances):
            study.missing.add(series.uid)
        else:
            study.blind.add(series.uid)

    def _reception(self, wanted: Iterable[str] | None) -> Reception:
        return Reception(
            wanted,
            storage=self._storage,
            throttle=self._throttle,
            largest_bytes=self._pace.largest_instance_bytes,
            stopping=self._stopping,
            observe=self.progress.count,
        )

    # ---- hours ---------------------------------------------------------------------------------

    def _stopping(self) -> bool:
        return self._stop.is_set() or bool(self._pace.hours.opens_in(self._now()))

    def _wait_for_hours(self) -> None:
        while not self._stop.is_set():
            now = self._now()
            closed = self._pace.hours.opens_in(now)
            if closed is None:
                raise UsageError("[pull] hours never come.")
            if not closed:
                self.progress.waiting_until = None
                return
            opening = now + closed
            if not self._pace.wait_for_hours:
                raise OutsideHours(
                    f"Outside the allowed hours, which begin {opening:%Y-%m-%d %H:%M} UTC; "
                    "`pull resume` goes on then."
                )
            self.progress.waiting_until = opening
            self._sleep(min(closed.total_seconds(), NAP_SECONDS))
        raise Interrupted("The pull was broken off; `pull resume` goes on.")


class _Attempt:
    """One attempt: a context that swallows ``Unavailable`` unless it is the last."""

    def __init__(self, *, last: bool) -> None:
        self._last = last
        self.succeeded = False

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> bool:
        self.succeeded = kind is None
        passing = isinstance(error, Unavailable) and not isinstance(error, Interrupted)
        return passing and not self._last


class _Study:
    """One study while it is fetched."""

    def __init__(self, pending: PendingStudy) -> None:
        self.pending = pending
        self.found = False
        self.came: set[str] = set()
        self.held: set[str] = set()
        """Here before."""
        self.refused: set[str] = set()
        self.missing: set[str] = set()
        self.blind: set[str] = set()
        """Series that came without a list of what they hold."""

    def result(self, missing: int = 0, reason: str = "") -> Fetched:
        """Return the counts."""
        return Fetched(len(self.came), len(self.held), missing, reason[:200])
