"""The desk where jobs come in, are taken up again after a restart, and are watched."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from contract import wire_pb2 as wire
from contract.documents import Job
from contract.envelope import Envelope
from contract.errors import DocumentError, NotFound, SignatureError
from contract.trust import TrustedDocuments
from contract.work import StatisticsWork, TrainingWork
from coordinator.config import JobSettings
from coordinator.home import CoordinatorHome
from coordinator.jobs.active import ActiveJob, Surroundings
from coordinator.jobs.states import ENDED, JobEvent
from coordinator.jobs.store import JobStore
from coordinator.link.sessions import Sessions
from coordinator.registry.models import ModelRegistry
from coordinator.work.models import ModelJob
from coordinator.work.statistics import StatisticsJob
from coordinator.work.summed_models import SummedModelJob
from coordinator.work.sums import SecureSumJob

if TYPE_CHECKING:
    from coordinator.work.superlink.service import SuperLink

log = logging.getLogger("wardgate.coordinator")


@dataclass
class JobDesk:
    """All jobs under way."""

    home: CoordinatorHome
    store: JobStore
    sessions: Sessions
    settings: JobSettings
    superlink: SuperLink | None = None
    active: dict[str, ActiveJob] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _news: dict[str, asyncio.Event] = field(default_factory=dict)

    def submit(self, data: bytes, trusted: TrustedDocuments, sender: str) -> wire.JobStatus:
        """Take a job in, once it is believed by the common rules, and start it."""
        now = datetime.now(UTC)
        believed = trusted.job(data, now)
        if believed.document.researcher != sender:
            raise SignatureError("A job is submitted by somebody else than it names.")
        project = trusted.projects[believed.document.project].document
        strangers = set(believed.document.releases) - set(project.sites)
        if strangers:
            raise DocumentError(f"A job names sites that are not in project {project.name}.")
        self._check_origin(believed.document, trusted)
        self.store.add(believed, now)
        if self.store.state(believed.digest) not in ENDED:
            self._start(believed.digest, data, trusted, believed.document)
        return self.status(believed.digest)

    def _check_origin(self, job: Job, trusted: TrustedDocuments) -> None:
        """Refuse a job that begins with a model which its project hasn't got."""
        if not isinstance(job.work, TrainingWork) or job.work.start_from is None:
            return
        known = [n for n, p in trusted.projects.items() if job.researcher in p.document.researchers]
        ModelRegistry(self.store.engine).check_origin(job.work.start_from, job.project, known)

    def resume(self, trusted: TrustedDocuments) -> None:
        """Take up every unfinished job; one that isn't believed any more is ended."""
        for row in self.store.unfinished():
            try:
                self._start(row.digest, row.envelope, trusted)
            except (DocumentError, SignatureError) as error:
                now = datetime.now(UTC)
                job = Job.read(Envelope.parse(row.envelope).body)
                event = JobEvent.EXPIRE if now >= job.expires_at else JobEvent.CANCEL
                self.store.move(row.digest, event, now, str(error))

    def _start(
        self, digest: str, envelope: bytes, trusted: TrustedDocuments, job: Job | None = None
    ) -> None:
        """Start a job. ``job`` is it, if it is believed by now."""
        if digest in self.active:
            return
        now = datetime.now(UTC)
        job = job or trusted.job(envelope, now).document
        project = trusted.projects[job.project].document
        around = Surroundings(
            self.home, self.store, self.sessions, self.settings, self.publish, self.superlink
        )
        roster = trusted.current_roster(now)
        kind: type[ActiveJob] = StatisticsJob
        if isinstance(job.work, StatisticsWork) and job.work.fit is not None:
            kind = SummedModelJob if job.work.secure else ModelJob
        elif isinstance(job.work, StatisticsWork) and job.work.secure:
            kind = SecureSumJob
        if not isinstance(job.work, StatisticsWork):
            from coordinator.work.training.job import TrainingJob

            kind = TrainingJob
            if job.work.engine == "superlink":
                from coordinator.work.superlink.job import SuperLinkJob

                kind = SuperLinkJob
        active = kind(digest, envelope, job, project, roster, around)
        self.active[digest] = active
        task = asyncio.create_task(self._run(active))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, active: ActiveJob) -> None:
        try:
            await active.run()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # The text of an unforeseen error may hold anything, so only its type is kept.
            log.error("job %s: unexpected %s", active.digest[:12], type(error).__name__)
            if self.store.state(active.digest) not in ENDED:
                active.move(JobEvent.ERROR, f"unexpected {type(error).__name__}")
        finally:
            self.active.pop(active.digest, None)
        active.close_at_sites()
        active.tidy()
        self._wake(active.digest)

    async def stop(self) -> None:
        """Stop the work without ending the jobs: they are taken up again at the next start."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cancel(self, digest: str, researcher: str) -> wire.JobStatus:
        """Cancel a job of this researcher's."""
        self.own(digest, researcher)
        active = self.active.get(digest)
        if active is not None:
            active.cancelled = True
            active.changed.set()
        return self.status(digest)

    def own(self, digest: str, researcher: str) -> None:
        """Raise ``NotFound`` unless a job is this researcher's; others' don't exist for them."""
        if self.store.standing(digest).researcher != researcher:
            raise NotFound("There is no such job.")

    def status(self, digest: str) -> wire.JobStatus:
        """Return where a job and its sites are."""
        standing = self.store.standing(digest)
        active = self.active.get(digest)
        return wire.JobStatus(
            job=digest,
            state=standing.state,
            reason=standing.reason,
            sites=[
                wire.SiteStatus(
                    site=s.site,
                    state=s.state,
                    code=s.code,
                    sentence=s.sentence,
                    open_tasks=0 if active is None else active.open_tasks(s.site),
                )
                for s in self.store.sites(digest)
            ],
        )

    def result(self, digest: str) -> wire.JobResult:
        """Return what came of a job, with every receipt."""
        result = wire.JobResult.FromString(self.store.result(digest))
        result.status.CopyFrom(self.status(digest))
        result.receipts.extend(self.store.receipts(digest))
        return result

    # ---- events --------------------------------------------------------------------------------

    def publish(self, digest: str, event: wire.JobEvent) -> None:
        """Write an event and wake whoever watches the job."""
        if not event.time:
            event.time = datetime.now(UTC).timestamp()
        self.store.add_event(digest, event)
        self._wake(digest)

    def _wake(self, digest: str) -> None:
        news = self._news.get(digest)
        if news is not None:
            news.set()

    async def watch(self, digest: str) -> AsyncIterator[wire.JobEvent]:
        """Yield every event of a job from the first on, until it has ended."""
        news = self._news.setdefault(digest, asyncio.Event())
        following = 0
        while True:
            news.clear()
            ended = self.store.state(digest) in ENDED
            for event in self.store.events(digest, following):
                following = event.sequence + 1
                yield event
            if ended:
                yield wire.JobEvent(kind="end", status=self.status(digest))
                return
            await _wait(news, 1.0)

    async def ended(self, digest: str) -> None:
        """Return once a job has ended."""
        news = self._news.setdefault(digest, asyncio.Event())
        while self.store.state(digest) not in ENDED:
            news.clear()
            await _wait(news, 1.0)

    # ---- what the link calls -------------------------------------------------------------------

    def site_changed(self, site: str, online: bool) -> None:
        """A site came or went."""
        for active in list(self.active.values()):
            if site in active.sites:
                if online:
                    active.site_online(site)
                else:
                    active.site_offline(site)

    def site_revoked(self, site: str) -> None:
        """A site was revoked."""
        for active in list(self.active.values()):
            if site in active.sites:
                active.revoked(site)

    async def from_node(self, site: str, message: wire.FromNode) -> None:
        """Hand a node's message to its job; acknowledge a reply once it is durable."""
        match message.WhichOneof("body"):
            case "decision":
                active = self._of(site, message.decision.job)
                if active is not None:
                    active.decided(site, message.decision)
            case "reply":
                active = self._of(site, message.reply.job)
                if active is None:
                    self._over(site, message.reply.job)
                elif await active.replied(site, message.reply):
                    self._received(site, message.reply.job, message.reply.task)
            case "failed":
                active = self._of(site, message.failed.job)
                if active is None:
                    self._over(site, message.failed.job)
                else:
                    active.failed(site, message.failed)
            case _:
                pass

    def _of(self, site: str, digest: str) -> ActiveJob | None:
        active = self.active.get(digest)
        return active if active is not None and site in active.sites else None

    def _over(self, site: str, job: str) -> None:
        self.sessions.send(site, wire.ToNode(close=wire.CloseJob(job=job, state="ended")))

    def _received(self, site: str, job: str, task: str) -> None:
        self.sessions.send(site, wire.ToNode(received=wire.Received(job=job, task=task)))


async def _wait(news: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(news.wait(), seconds)
