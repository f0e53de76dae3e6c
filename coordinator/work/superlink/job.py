"""A training job whose tasks go over a SuperLink; all else is as over the link."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from contract import wire_pb2 as wire
from contract.work import TrainingWork
from coordinator.jobs.states import JobEvent
from coordinator.work.superlink.carriage import Carriage, Ends
from coordinator.work.training.job import TrainingJob
from foundation.bundle import MAX_BUNDLE_BYTES
from foundation.files import read_bounded


class SuperLinkJob(TrainingJob):
    """Offers, decisions and acknowledgements go over the link; tasks and replies don't."""

    carriage: Carriage | None = None

    async def run(self) -> None:
        """As every training, with a carriage beside it."""
        link = self.around.superlink
        if link is None:
            self.move(JobEvent.ERROR, "This coordinator has no SuperLink.")
            return
        work = self.job.work
        assert isinstance(work, TrainingWork)
        grant = self.project.recipe(work.bundle)
        loop = asyncio.get_running_loop()
        bundle = read_bounded(self.around.home.recipe(work.bundle), MAX_BUNDLE_BYTES)

        def came(site: str, answer: wire.FromNode) -> None:
            asyncio.run_coroutine_threadsafe(self._came(site, answer), loop).result()

        def absent(site: str) -> None:
            loop.call_soon_threadsafe(self._absent, site)

        self.carriage = Carriage(
            link,
            self.digest,
            bundle,
            work.parameters,
            self.blobs,
            Ends(self._pending, came, absent),
            self.around.settings.absence_seconds,
            0 if grant is None else grant.max_reply_bytes,
        )
        carrying = asyncio.create_task(self._carry(self.carriage))
        try:
            await super().run()
        finally:
            self.carriage.stop()
            await carrying

    async def _carry(self, carriage: Carriage) -> None:
        """Begin with the run once training has begun: a job that isn't let in leaves no trace."""
        while self.training is None:
            if carriage.stopped:
                return
            await asyncio.sleep(0.1)
        await asyncio.to_thread(carriage.run)

    def _pending(self) -> Mapping[str, list[wire.Task]]:
        training = self.training
        if training is None:
            return {}
        return {site: training.pending(site) for site in training.sites}

    async def _came(self, site: str, answer: wire.FromNode) -> None:
        """Take an answer as if it had come over the link."""
        match answer.WhichOneof("body"):
            case "reply":
                if await self.replied(site, answer.reply):
                    received = wire.Received(job=self.digest, task=answer.reply.task)
                    self.around.sessions.send(site, wire.ToNode(received=received))
            case "failed":
                self.failed(site, answer.failed)
            case _:
                self.decided(site, answer.decision)

    def _absent(self, site: str) -> None:
        if self.training is None:
            return
        for task in self.training.pending(site):
            failed = wire.TaskFailed(job=self.digest, task=task.task, code="absent")
            self.training.fail(site, failed)

    async def _send(self, site: str, task: wire.Task) -> None:
        if self.carriage is not None:
            self.carriage.wake()

    def site_online(self, site: str) -> None:
        """A site came back: offer the job again. Its open tasks are the carriage's."""
        if self.training is None:
            super().site_online(site)
            return
        self._offer(site)
        self._tell_who_is_online()
