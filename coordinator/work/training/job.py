"""A training job: find enough sites, run the recipe's ServerApp, keep its model."""

from __future__ import annotations

import asyncio
import os

from google.protobuf.message import DecodeError

from contract import wire_pb2 as wire
from contract.errors import DocumentError, NotFound, SignatureError
from contract.work import TrainingWork
from coordinator.jobs.active import ActiveJob
from coordinator.jobs.states import JobEvent, JobState, SiteState
from coordinator.registry.model_records import model_record
from coordinator.registry.models import ModelRegistry
from coordinator.work.training import spool
from coordinator.work.training.run import TrainingRun
from foundation.blobs import BlobFolder
from foundation.files import private_folder

SLOW_SECONDS = 10.0
TAKING_PART = (SiteState.ACCEPTED, SiteState.ANSWERED, SiteState.FAILED)


class TrainingJob(ActiveJob):
    """Rounds of a Flower app, over the sites that accepted it."""

    training: TrainingRun | None = None
    _slow: dict[str, float]
    """Who is slow, and after how many seconds it is said again."""
    _gone_for: str = ""
    """Why the run was ended: who it waited for can't come any more."""

    @property
    def blobs(self) -> BlobFolder:
        """The job's tensors."""
        return BlobFolder(self.around.home.job(self.digest) / "blobs")

    async def run(self) -> None:
        """Offer, start once every site decided, train, write the result."""
        if self.around.store.get(self.digest).state is not JobState.RUNNING:
            self.offer_all()
            await self.wait_for_decisions(self.around.settings.start_seconds)
            if self.end_early():
                return
            if self.too_few(len(self.in_roster_order(SiteState.ACCEPTED))):
                return
            self.move(JobEvent.START)
        work = self.job.work
        assert isinstance(work, TrainingWork)
        try:
            start_from = self._start_from(work)
        except (NotFound, OSError):
            self.move(JobEvent.ERROR, "The model to start from is not here any more.")
            return
        sites = self.in_roster_order(*TAKING_PART)
        self.training = TrainingRun(
            self.digest,
            self.job,
            self.project,
            self.around.home.job(self.digest),
            self.around.home.recipe(work.bundle),
            sites,
            self._send,
            lambda event: self.around.publish(self.digest, event),
            start_from=start_from,
            keys={m.name: m.key for m in self.roster.sites},
            keep_free_bytes=self.around.settings.keep_free_bytes,
        )
        self._slow = {}
        self._tell_who_is_online()
        watch = asyncio.create_task(self._watch_absence())
        try:
            outcome = await self.training.run()
        finally:
            watch.cancel()
        if self.end_early():
            return
        if outcome.model is None:
            self.move(JobEvent.ERROR, self._gone_for or outcome.reason)
            return
        replied = self.around.store.replied(self.digest)
        taking_part = [m.name for m in self.roster.sites if m.name in replied]
        result = wire.JobResult(
            answered=taking_part,
            model=outcome.model,
            rounds=[e for e in self.around.store.events(self.digest) if e.kind == "round"],
        )
        record = await asyncio.to_thread(
            model_record, self.digest, self.job, self.project, self.around.home, result
        )
        ModelRegistry(self.around.store.engine).record(record)
        self.move(JobEvent.RESULT, result=result.SerializeToString())

    def _start_from(self, work: TrainingWork) -> bytes:
        """Return the message of the model to start from, its blob among ours; empty without one."""
        if work.start_from is None:
            return b""
        registry = ModelRegistry(self.around.store.engine)
        model = registry.find(work.start_from, {self.project.name})
        digest = wire.RecordDict.FromString(model.model).tensors.digest
        if digest and not self.blobs.has(digest):
            private_folder(self.blobs.folder)
            os.link(self.around.home.job(model.job) / "blobs" / digest, self.blobs.path(digest))
        return model.model

    def open_tasks(self, site: str) -> int:
        """Count what a site has still to answer."""
        return 0 if self.training is None else len(self.training.pending(site))

    def enough_without_stewards(self) -> bool:
        """Say whether the minimum of sites accepted: training doesn't wait for the others."""
        return self.is_enough(len(self.in_roster_order(SiteState.ACCEPTED)))

    def tidy(self) -> None:
        """Drop journal and replies; the finished model stays."""
        row = self.around.store.get(self.digest)
        result = wire.JobResult.FromString(row.result or b"")
        message = wire.RecordDict.FromString(result.model)
        spool.tidy(self.around.home.job(self.digest), message.tensors.digest)

    async def _send(self, site: str, task: wire.Task) -> None:
        task.job = self.digest
        self.around.sessions.send(site, wire.ToNode(task=task))

    def _tell_who_is_online(self) -> None:
        if self.training is not None:
            self.training.sites_changed(
                {
                    site
                    for site, state in self.sites.items()
                    if self.around.sessions.online(site) and state in TAKING_PART
                }
            )

    async def _watch_absence(self) -> None:
        """Give up on a site's open tasks when it has been away too long, or was revoked.

        A run that waits for such sites is ended when fewer than the minimum are left.
        """
        assert self.training is not None
        while True:
            await asyncio.sleep(0.5)
            if self.cancelled or self.expired:
                self.training.cancel()
                return
            self._tell_who_is_slow()
            gone: dict[str, str] = {}
            for site, state in self.sites.items():
                away = self.around.sessions.offline_seconds(site)
                revoked = state is SiteState.REVOKED
                if state not in TAKING_PART:
                    gone[site] = "takes no part any more"
                if revoked or away > self.around.settings.absence_seconds:
                    gone[site] = "was revoked" if revoked else "is away"
                    for task in self.training.pending(site):
                        self.training.fail(
                            site,
                            wire.TaskFailed(
                                job=self.digest,
                                task=task.task,
                                code="revoked" if revoked else "absent",
                            ),
                        )
            left = [site for site in self.training.sites if site not in gone]
            if self.training.waits_for_sites() and not self.is_enough(len(left)):
                why = "; ".join(
                    f"{site} {gone[site]}" for site in self.training.sites if site in gone
                )
                self._gone_for = (
                    f"Only {len(left)} of {len(self.training.sites)} sites are left, and "
                    f"{self.minimum_sites} are needed: {why}."
                )
                self.training.cancel()
                return

    def _tell_who_is_slow(self) -> None:
        """Say for whom a round waits: after ``SLOW_SECONDS``, twice that, and so on."""
        assert self.training is not None
        waited_for = self.training.waited_for()
        for site in self._slow.keys() - waited_for.keys():
            del self._slow[site]
        for site, seconds in waited_for.items():
            if seconds >= self._slow.get(site, SLOW_SECONDS):
                self._slow[site] = 2 * seconds
                where = "" if self.around.sessions.online(site) else ", and offline"
                self.event(
                    "site",
                    site=site,
                    text=f"slow: waited for, {seconds:.0f} s after half have answered{where}",
                )

    # ---- what the link calls -------------------------------------------------------------------

    def site_online(self, site: str) -> None:
        """A site came back: offer the job again, or send what it still has to answer."""
        if self.training is None:
            super().site_online(site)
            return
        # The offer goes first: a node that lost its spool must admit the job before its tasks.
        self._offer(site)
        self._tell_who_is_online()
        for task in self.training.pending(site):
            task.job = self.digest
            self.around.sessions.send(site, wire.ToNode(task=task))

    def site_offline(self, site: str) -> None:
        """A site went away; its open tasks stay open for a while."""
        super().site_offline(site)
        self._tell_who_is_online()

    def decided(self, site: str, decision: wire.Decision) -> None:
        """A site accepted or refused; a later refusal in mid-training ends its part.

        A steward who lets the job in after training began is too late for it.
        """
        if self.training is None:
            super().decided(site, decision)
            return
        if site not in self.training.sites:
            self._close(site)
            return
        if decision.waiting:
            self.note(site, decision.code, decision.sentence)
            return
        if not decision.accepted and site in self.sites:
            self.set_site(site, SiteState.REFUSED, decision.code, decision.sentence)
            for task in self.training.pending(site):
                self.training.fail(
                    site,
                    wire.TaskFailed(job=self.digest, task=task.task, code=decision.code),
                )

    async def replied(self, site: str, reply: wire.Reply) -> bool:
        """Check a reply's receipt and blob, keep it, and hand it to the ServerApp."""
        if self.training is None:
            return False  # the run begins again, and will ask for it
        if not self.training.wants(site, reply.task):
            return True
        try:
            self.check_receipt(site, reply)
            message = wire.RecordDict.FromString(reply.payload)
            if message.tensors != reply.tensors:
                raise DocumentError("A reply names another blob than its payload declares.")
            if reply.tensors.digest and not self.blobs.has(reply.tensors.digest):
                raise DocumentError("A reply came without its tensors.")
        except (DocumentError, SignatureError, DecodeError, ValueError) as error:
            self.around.publish(
                self.digest, wire.JobEvent(kind="site", site=site, text=f"malformed: {error}")
            )
            self.training.fail(
                site, wire.TaskFailed(job=self.digest, task=reply.task, code="malformed")
            )
            return True
        # First the receipt: once the reply is on disk, a coordinator that restarts asks no more.
        self.around.store.add_receipt(self.digest, site, reply.task, reply.receipt)
        await asyncio.to_thread(self.training.deliver, site, reply)
        self.sites[site] = SiteState.ANSWERED
        return True

    def _is_pending(self, site: str, task: str) -> bool:
        return self.training is not None and any(
            pending.task == task for pending in self.training.pending(site)
        )

    def failed(self, site: str, failed: wire.TaskFailed) -> None:
        """A site's work on one task gave no answer; the round goes on without it."""
        self.event("site", site=site, text=f"failed: {failed.code} {failed.location}".strip())
        if self.training is not None and self._is_pending(site, failed.task):
            self.training.fail(site, failed)

    def revoked(self, site: str) -> None:
        """A site was revoked: it takes no part in what is still open."""
        if site in self.sites and self.sites[site] is not SiteState.REVOKED:
            self.set_site(site, SiteState.REVOKED, "revoked", "The site was revoked.")
