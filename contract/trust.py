"""The rules of trust, in one place that does no I/O: bytes in, a decision or an exception out.

The rules, in the order in which they are applied (after TUF's root role, specification 1.0, 5.3):

1.  A roster is believed when a threshold of stewards signed it: for the first roster, the threshold
    and stewards that it names itself, *and* the anchor, a key that its holder knew beforehand (a
    hospital's own steward; a researcher pins the roster's digest instead).
2.  A later roster needs the threshold of the stewards of the roster believed before *and* its own.
3.  It must be of the same consortium and of a higher version; the same bytes again are no change.
4.  An expired roster is used for one thing: to know the next one by (rule 2). Everything else that
    depends on it is refused.
5.  A project is believed when (and as long as) a threshold of the current roster's stewards signed
    it, its sites and researchers are on that roster, it is within its validity, and it is not older
    than one ever known.
6.  A job is believed when a researcher signed it who is on the roster and in the project, it is
    within its validity, and it names a version of the project that is believed.

7.  Documents are of one time (TUF's mix-and-match attack): a project names the version of the
    roster that it was made under, a roster the versions of the projects in force when it was made,
    a job the roster that its researcher knows. A project older than the roster says is not
    believed. One that names a newer roster shows that this roster is withheld: nothing is believed
    until it comes. A job that names a newer roster is not believed.

Nobody's transport certificate plays a part in any of these, so a coordinator (who owns the
certificate authority) can withhold documents but can't make any.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from contract.documents import JOB_TYPE, PROJECT_TYPE, ROSTER_TYPE, Job, Project, Roster
from contract.envelope import Envelope
from contract.errors import DocumentError, SignatureError

T = TypeVar("T")


@dataclass(frozen=True)
class Believed(Generic[T]):
    """A document that passed the rules, and the digest by which it is called."""

    document: T
    digest: str
    envelope: bytes
    signers: frozenset[str]


@dataclass
class TrustedDocuments:
    """The documents of one consortium that their holder believes.

    ``consortium`` is the name it joined; ``anchor`` is the key id or the roster digest of rule 1.
    """

    consortium: str
    anchor: str
    roster: Believed[Roster] | None = None
    projects: dict[str, Believed[Project]] = field(default_factory=dict)
    newest: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Version and digest of the newest project of each name that was ever believed."""
    named_roster: int = 0
    """The newest roster that a project names which a threshold of stewards signed (rule 7)."""

    def update_roster(self, data: bytes, now: datetime) -> bool:
        """Apply rules 1-4 to a roster's envelope. Returns False when it was known already."""
        envelope = Envelope.parse(data)
        if self.roster is not None and envelope.digest == self.roster.digest:
            return False
        if envelope.payloadType != ROSTER_TYPE:
            raise DocumentError("A document offered as a roster is of another type.")
        # A roster names the keys that must have signed it, so it is read before it is believed.
        claimed = Roster.read(envelope.body)
        if claimed.consortium != self.consortium:
            raise DocumentError(f"A roster is of another consortium than {self.consortium!r}.")
        signers, _ = envelope.opened(ROSTER_TYPE, claimed.steward_keys, claimed.threshold)
        if self.roster is None:
            if self.anchor != envelope.digest and self.anchor not in signers:
                raise SignatureError(
                    "The first roster is not signed by this site's own steward "
                    "(run 'wardgate-node roster sign' after comparing its fingerprints)."
                )
        else:
            self._check_succession(envelope, claimed, self.roster.document)
        claimed.check_begun(now)
        self.roster = Believed(claimed, envelope.digest, data, frozenset(signers))
        self._forget_projects_of_former_stewards()
        return True

    def _check_succession(self, envelope: Envelope, claimed: Roster, known: Roster) -> None:
        """Apply rules 2 and 3: the former stewards pass the roster on, to a higher version."""
        envelope.open(ROSTER_TYPE, known.steward_keys, known.threshold)
        if claimed.version <= known.version:
            raise DocumentError(
                f"A roster of version {claimed.version} is not newer than the known "
                f"version {known.version}."
            )

    def _forget_projects_of_former_stewards(self) -> None:
        """Apply rule 5 again: former stewards' signatures no longer count."""
        assert self.roster is not None
        roster = self.roster.document
        for name, believed in list(self.projects.items()):
            signers = Envelope.parse(believed.envelope).signers(roster.steward_keys)
            members = all(roster.site(s) for s in believed.document.sites) and all(
                roster.researcher(r) for r in believed.document.researchers
            )
            old = believed.document.version < roster.projects.get(name, 0)
            if len(signers) < roster.threshold or not members or old:
                del self.projects[name]

    def current_roster(self, now: datetime) -> Roster:
        """Return the roster in force (rules 4 and 7)."""
        if self.roster is None:
            raise DocumentError("No roster is known yet, so nothing can be believed.")
        self.roster.document.check_validity(now)
        if self.named_roster > self.roster.document.version:
            raise DocumentError(
                f"The stewards have a roster of version {self.named_roster}, which is kept from "
                "this holder; nothing is believed until it comes."
            )
        return self.roster.document

    def update_project(self, data: bytes, now: datetime) -> bool:
        """Apply rule 5 to a project's envelope. Returns False when it was known already."""
        roster = self.current_roster(now)
        envelope = Envelope.parse(data)
        signers, payload = envelope.opened(PROJECT_TYPE, roster.steward_keys, roster.threshold)
        project = Project.read(payload)
        if project.consortium != self.consortium:
            raise DocumentError(f"A project is of another consortium than {self.consortium!r}.")
        known = self.projects.get(project.name)
        if known is not None and known.digest == envelope.digest:
            return False
        self._check_time(project, roster)
        version, digest = self.newest.get(project.name, (0, ""))
        if project.version <= version and envelope.digest != digest:
            raise DocumentError(
                f"Project {project.name} of version {project.version} is not newer than the "
                f"known version {version}."
            )
        missing = [s for s in project.sites if roster.site(s) is None]
        missing += [r for r in project.researchers if roster.researcher(r) is None]
        if missing:
            raise DocumentError(
                f"Project {project.name} names members who are not on the roster: "
                f"{', '.join(missing[:5])}."
            )
        project.check_validity(now)
        self.projects[project.name] = Believed(project, envelope.digest, data, frozenset(signers))
        self.newest[project.name] = (project.version, envelope.digest)
        return True

    def _check_time(self, project: Project, roster: Roster) -> None:
        """Apply rule 7 to a project that a threshold signed."""
        if project.roster_version > roster.version:
            self.named_roster = max(self.named_roster, project.roster_version)
            raise DocumentError(
                f"Project {project.name} was made under a roster of version "
                f"{project.roster_version}; version {roster.version} is known here."
            )
        least = roster.projects.get(project.name, 0)
        if project.version < least:
            raise DocumentError(
                f"Project {project.name} of version {project.version} is older than version "
                f"{least}, which the roster names."
            )

    def current_project(self, name: str, version: int, now: datetime) -> Believed[Project]:
        """Return the believed project of this name if ``version`` is the one in force."""
        known = self.projects.get(name)
        if known is None:
            raise DocumentError(f"Project {name} is not known here.")
        if known.document.version != version:
            raise DocumentError(
                f"The job names version {version} of project {name}; "
                f"version {known.document.version} is in force."
            )
        known.document.check_validity(now)
        return known

    def job(self, data: bytes, now: datetime) -> Believed[Job]:
        """Apply rule 6 to a job's envelope. Replay is for the caller to check, by nonce."""
        roster = self.current_roster(now)
        envelope = Envelope.parse(data)
        by_key = {m.key_id: m for m in roster.researchers}
        signers, payload = envelope.opened(JOB_TYPE, {i: m.key for i, m in by_key.items()}, 1)
        job = Job.read(payload)
        if job.researcher not in {by_key[i].name for i in signers}:
            raise SignatureError("A job is not signed by the researcher that it names.")
        if job.consortium != self.consortium:
            raise DocumentError(f"A job is of another consortium than {self.consortium!r}.")
        job.check_validity(now)
        if job.roster_version > roster.version:
            raise DocumentError(
                f"The job names a roster of version {job.roster_version}; version "
                f"{roster.version} is known here."
            )
        project = self.current_project(job.project, job.project_version, now).document
        if job.researcher not in project.researchers:
            raise DocumentError(f"Researcher {job.researcher} is not in project {job.project}.")
        return Believed(job, envelope.digest, data, frozenset(signers))
