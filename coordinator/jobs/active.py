"""What statistics and training have in common while a job is under way: sites, offers, events."""

from __future__ import annotations

import asyncio
import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from contract import wire_pb2 as wire
from contract.documents import Job, Project, Roster, printable
from contract.errors import DocumentError
from contract.receipts import Receipt
from coordinator.config import JobSettings
from coordinator.home import CoordinatorHome
from coordinator.jobs.states import UNDECIDED, JobEvent, SiteState
from coordinator.jobs.store import JobStore
from coordinator.link.sessions import Sessions

if TYPE_CHECKING:
    from coordinator.work.superlink.service import SuperLink

POLL_SECONDS = 0.25
UNDECIDED_SENTENCE = "The site's steward did not decide in time."


@dataclass(frozen=True)
class Surroundings:
    """What a job under way needs of the coordinator."""

    home: CoordinatorHome
    store: JobStore
    sessions: Sessions
    settings: JobSettings
    publish: Callable[[str, wire.JobEvent], None]
    superlink: SuperLink | None = None


class ActiveJob(ABC):
    """One job under way. Subclasses say what happens once sites decide or reply."""

    keeps_events = True
    """Whether its events are written, for those who watch; a quick job's state says enough."""

    def __init__(
        self,
        digest: str,
        envelope: bytes,
        job: Job,
        project: Project,
        roster: Roster,
        around: Surroundings,
    ) -> None:
        self.digest = digest
        self.envelope = envelope
        self.job = job
        self.project = project
        self.roster = roster
        self.around = around
        self.changed = asyncio.Event()
        self.cancelled = False
        self.sites: dict[str, SiteState] = {
            row.site: row.state for row in around.store.sites(digest)
        }

    @property
    def minimum_sites(self) -> int:
        """How many sites must be in the answer."""
        return max(self.job.minimum_sites, self.project.minimum_sites)

    def in_roster_order(self, *wanted: SiteState) -> list[str]:
        """Return the job's sites in these states, in the roster's order."""
        return [m.name for m in self.roster.sites if self.sites.get(m.name) in wanted]

    @abstractmethod
    async def run(self) -> None:
        """Take the job from where it is to its end."""

    # ---- what the link calls -------------------------------------------------------------------

    def site_online(self, site: str) -> None:
        """A site of the job came back: ask it again; if it accepted, its worker may be gone."""
        if self.sites.get(site) is SiteState.ABSENT:
            self.set_site(site, SiteState.WAITING)
        if self.sites.get(site) in (*UNDECIDED, SiteState.ACCEPTED):
            self._offer(site)
        self.changed.set()

    def site_offline(self, site: str) -> None:
        """A site of the job went away."""
        self.changed.set()

    def decided(self, site: str, decision: wire.Decision) -> None:
        """A site accepted or refused, or its steward is to decide."""
        if self.sites.get(site) not in (*UNDECIDED, SiteState.ACCEPTED):
            return
        if decision.waiting:
            self.set_site(site, SiteState.HELD, decision.code, decision.sentence)
        elif decision.accepted:
            self.set_site(site, SiteState.ACCEPTED)
        else:
            self.set_site(site, SiteState.REFUSED, decision.code, decision.sentence)

    def open_tasks(self, site: str) -> int:
        """Count what a site has still to answer, where that can be told."""
        return 0

    @abstractmethod
    async def replied(self, site: str, reply: wire.Reply) -> bool:
        """A site answered. Returns whether the answer is durable, so that it may be acknowledged.

        An answer that is not acknowledged is kept by its site until the job is closed.
        """

    @abstractmethod
    def failed(self, site: str, failed: wire.TaskFailed) -> None:
        """A site's work gave no answer."""

    def revoked(self, site: str) -> None:
        """A site was revoked in the middle of the job."""
        if self.sites.get(site) in (*UNDECIDED, SiteState.ACCEPTED):
            self.set_site(site, SiteState.REVOKED, "revoked", "The site was revoked.")

    # ---- for subclasses ------------------------------------------------------------------------

    def set_site(self, site: str, state: SiteState, code: str = "", sentence: str = "") -> None:
        """Write where a site is, then act on it."""
        code, sentence = printable(code, 64), printable(sentence, 300)
        self.around.store.set_site(self.digest, site, state, code, sentence)
        self.sites[site] = state
        self.event("site", site=site, text=f"{state}: {sentence}" if sentence else state)
        self.changed.set()

    def note(self, site: str, code: str, sentence: str) -> None:
        """Say something of a site whose state stays as it is."""
        code, sentence = printable(code, 64), printable(sentence, 300)
        self.around.store.set_site(self.digest, site, self.sites[site], code, sentence)
        self.event("site", site=site, text=f"{self.sites[site]}: {sentence}")

    def check_receipt(self, site: str, reply: wire.Reply) -> None:
        """Raise unless the reply's receipt is the site's, over exactly this payload."""
        receipt = Receipt.verify(reply.receipt, self.roster)
        same = (
            receipt.site == site
            and receipt.consortium == self.job.consortium
            and receipt.job == self.digest
            and receipt.task == reply.task
            and receipt.release == self.job.releases[site]
            and receipt.payload == hashlib.sha256(reply.payload).hexdigest()
        )
        if not same:
            raise DocumentError("A receipt is about another payload than the one it came with.")

    def offer_all(self) -> None:
        """Offer the job to every online site that hasn't decided."""
        self.move(JobEvent.OFFER)
        for site, state in self.sites.items():
            if state in UNDECIDED:
                self._offer(site)

    def _offer(self, site: str) -> None:
        self.around.sessions.send(site, wire.ToNode(offer=wire.Offer(job=self.envelope)))

    def enough_without_stewards(self) -> bool:
        """Say whether the job goes on without the sites whose stewards are still to decide."""
        return False

    async def wait_for_decisions(self, seconds: float) -> None:
        """Wait until each site decided, has been offline past the grace, or time is over.

        A site whose steward is to decide has until the job's own end, unless the job can go on
        without it.
        """
        deadline = time.monotonic() + seconds
        grace = self.around.settings.offline_grace_seconds
        while not self.cancelled:
            self.changed.clear()
            waiting = [s for s, state in self.sites.items() if state is SiteState.WAITING]
            held = [s for s, state in self.sites.items() if state is SiteState.HELD]
            away = [s for s in waiting if self.around.sessions.offline_seconds(s) > grace]
            over = time.monotonic() >= deadline or self.expired
            if len(away) == len(waiting) or over:
                for site in waiting:
                    self.set_site(site, SiteState.ABSENT, "absent", "The site did not answer.")
                if not held or self.expired or self.enough_without_stewards():
                    for site in held:
                        self.set_site(site, SiteState.ABSENT, "undecided", UNDECIDED_SENTENCE)
                        self._close(site)
                    return
            left = POLL_SECONDS if over else min(POLL_SECONDS, deadline - time.monotonic())
            try:
                await asyncio.wait_for(self.changed.wait(), max(0.0, left))
            except TimeoutError:
                continue

    @property
    def expired(self) -> bool:
        """Whether the job's validity is over."""
        return datetime.now(UTC) >= self.job.expires_at

    def move(self, event: JobEvent, reason: str = "", result: bytes | None = None) -> None:
        """Apply a transition (written first) and tell who watches."""
        store = self.around.store
        state = store.move(self.digest, event, datetime.now(UTC), reason, result)
        self.event("state", text=f"{state}: {reason}" if reason else state)

    def event(self, kind: str, site: str = "", text: str = "") -> None:
        """Publish an event of the job."""
        if not self.keeps_events:
            return
        self.around.publish(
            self.digest,
            wire.JobEvent(time=time.time(), kind=kind, site=site, text=text),
        )

    def end_early(self) -> bool:
        """End a job that was cancelled or has expired; say whether it was."""
        if self.cancelled:
            self.move(JobEvent.CANCEL, "cancelled")
        elif self.expired:
            self.move(JobEvent.EXPIRE, "the job's validity is over")
        else:
            return False
        return True

    def is_enough(self, have: int) -> bool:
        """Say whether so many sites may be in the answer."""
        return have >= max(1, self.minimum_sites)

    def too_few(self, have: int) -> bool:
        """End a job that fewer sites than the minimum are left in; say whether it was."""
        if self.is_enough(have):
            return False
        self.move(
            JobEvent.TOO_FEW,
            f"{have} sites are in the answer; the minimum is {max(1, self.minimum_sites)}",
        )
        return True

    @abstractmethod
    def tidy(self) -> None:
        """Drop what the job left on disk and nobody needs after its end."""

    def close_at_sites(self) -> None:
        """Tell every site that the job is over, so that it drops its spool and worker."""
        state = self.around.store.state(self.digest)
        for site in self.sites:
            self._close(site, state)

    def _close(self, site: str, state: str = "") -> None:
        state = state or self.around.store.state(self.digest)
        message = wire.ToNode(close=wire.CloseJob(job=self.digest, state=state))
        self.around.sessions.send(site, message)
