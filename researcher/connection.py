"""A connection to a consortium, as one researcher: what is there, and jobs signed and sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import grpc
from pydantic import ValidationError

from contract import wire_pb2 as wire
from contract import wire_pb2_grpc
from contract.documents import JOB_TYPE, Job, Project, new_nonce
from contract.errors import DocumentError, JobFailed, NotFound, UsageError
from contract.trust import TrustedDocuments
from contract.work import StatisticsWork, TrainingWork
from foundation import rpc, transport
from foundation.transport import CHANNEL_OPTIONS
from researcher.ending import explain, held_by
from researcher.home import DEFAULT_HOME, ResearcherHome
from researcher.offers import ReleaseInfo, SiteInfo, newest_of, release_info

CALL_SECONDS = 30.0
CLOCK_SKEW = timedelta(minutes=2)
"""How far a hospital's clock may be behind ours."""
HELD_SECONDS = 1.5
"""An answer that takes longer may wait for a steward: then its state is asked for."""
JOB_LIFE = timedelta(hours=1)


class Connection:
    """A connection to a consortium, as one researcher. Use it in a ``with`` block."""

    def __init__(self, home: ResearcherHome, channel: grpc.Channel) -> None:
        self._home = home
        self._place = home.place()
        self._channel = channel
        self._stub = wire_pb2_grpc.WardgateStub(channel)
        self._key = home.key()
        self._trusted: TrustedDocuments | None = None

    @classmethod
    def connect(cls, home: Path | str = DEFAULT_HOME) -> Self:
        """Return a connection with the identity in ``home`` (made by ``wardgate join``).

        Errors: ``NotFound`` before joining, ``CertificateError`` when the certificate has expired.
        """
        place = ResearcherHome(Path(home).expanduser())
        address = place.place().address
        place.identity.check(datetime.now(UTC))
        _renew_if_due(place, address)
        credentials = place.identity.channel_credentials()
        return cls(place, grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    @contextmanager
    def _calling(self) -> Iterator[wire_pb2_grpc.WardgateStub]:
        try:
            yield self._stub
        except grpc.RpcError as error:
            raise rpc.error_from(error, self._place.address) from None

    # ---- what is there -------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The consortium's name."""
        return self._place.consortium

    @property
    def researcher(self) -> str:
        """Who we are in it."""
        return self._place.name

    def refresh(self) -> TrustedDocuments:
        """Fetch roster and projects and return what is believed of them."""
        with self._calling() as stub:
            documents = stub.GetDocuments(wire.DocumentsRequest(), timeout=CALL_SECONDS)
        self._trusted = self._home.trusted(documents, datetime.now(UTC))
        return self._trusted

    def projects(self) -> list[Project]:
        """Return the projects in force."""
        return [b.document for b in self.refresh().projects.values()]

    def project(self, name: str) -> Project:
        """Return one project; ``NotFound`` when none of that name is in force."""
        trusted = self._trusted or self.refresh()
        if name not in trusted.projects:
            trusted = self.refresh()
        if name not in trusted.projects:
            raise NotFound(f"No project called {name} is in force in {self.name}.")
        return trusted.projects[name].document

    def sites(self) -> list[SiteInfo]:
        """Return the sites with their releases."""
        with self._calling() as stub:
            listed = stub.ListSites(wire.Empty(), timeout=CALL_SECONDS)
        return [
            SiteInfo(
                site.name,
                site.online,
                site.revoked,
                tuple(release_info(site.name, r) for r in site.releases),
            )
            for site in listed.sites
        ]

    def releases(self, project: str | None = None) -> list[ReleaseInfo]:
        """Return the releases of all sites but the revoked, or those granted to a project."""
        return [
            release
            for site in self.sites()
            if not site.revoked
            for release in site.releases
            if project is None or project in release.projects
        ]

    # ---- jobs ----------------------------------------------------------------------------------

    def sign(
        self,
        project: str,
        work: StatisticsWork | TrainingWork,
        sites: Sequence[str] | None = None,
        minimum_sites: int = 1,
        releases: Mapping[str, str] | None = None,
        life: timedelta = JOB_LIFE,
    ) -> tuple[Job, bytes]:
        """Return a signed job, not yet submitted: the model and its envelope's bytes.

        A secure sum is asked to be over as many sites as those who are in it want, if
        ``minimum_sites`` is less.
        """
        document = self.project(project)
        named = dict(releases) if releases is not None else self.newest(project, sites)
        if not named:
            raise NotFound(f"No site offers a release for project {project}.")
        if minimum_sites > len(named):
            raise UsageError(
                f"The answer is to be of {minimum_sites} sites or more, and {len(named)} are asked."
            )
        if work.secure:
            minimum_sites = max(minimum_sites, self._fewest_of_a_sum(project, named))
        now = datetime.now(UTC)
        job = _checked(
            consortium=self.name,
            issued_at=now - CLOCK_SKEW,
            expires_at=now + life,
            project=project,
            project_version=document.version,
            researcher=self._place.name,
            nonce=new_nonce(),
            releases=named,
            minimum_sites=minimum_sites,
            roster_version=self._roster_version(),
            work=work,
        )
        return job, job.seal(JOB_TYPE).sign(self._key).to_bytes()

    def _fewest_of_a_sum(self, project: str, named: Mapping[str, str]) -> int:
        """Return over how many sites those that are asked let a secure sum be.

        ``UsageError`` when that is more than are asked: they would all refuse.
        """
        wanted = {
            r.site: r.sum_sites for r in self.releases(project) if named.get(r.site) == r.digest
        }
        fewest = max(wanted.values(), default=0)
        if fewest > len(named):
            who = [site for site, sites in wanted.items() if sites > len(named)]
            raise UsageError(
                f"{', '.join(who)}: a secure sum is to be over {fewest} sites or more, and "
                f"{len(named)} are asked."
            )
        return fewest

    def _roster_version(self) -> int:
        roster = self._roster().roster
        return 1 if roster is None else roster.document.version

    def newest(self, project: str, sites: Sequence[str] | None = None) -> dict[str, str]:
        """Return the newest release of a project at each site, or at some: site to digest.

        ``NotFound`` when a site that is named offers none: a misspelt one isn't left out silently.
        """
        found = newest_of(self.releases(project))
        if sites is None:
            return found
        if lacking := [site for site in sites if site not in found]:
            raise NotFound(f"{', '.join(lacking)}: no release for project {project} is offered.")
        return {site: found[site] for site in sites}

    def _submit(self, envelope: bytes) -> str:
        with self._calling() as stub:
            status = stub.Submit(wire.SubmitRequest(job=envelope), timeout=CALL_SECONDS)
        return str(status.job)

    def _wait(
        self, digest: str, waiting: Callable[[wire.JobStatus], None] | None = None
    ) -> wire.JobResult:
        """Wait for a job's end; ``waiting`` is told once if stewards are to decide."""
        request = wire.JobRequest(job=digest)
        with self._calling() as stub:
            pending = stub.Wait.future(request)
            while True:
                try:
                    result: wire.JobResult = pending.result(timeout=HELD_SECONDS)
                    break
                except grpc.FutureTimeoutError:
                    if waiting is None:
                        continue
                    status = stub.Result(request, timeout=CALL_SECONDS).status
                    if held_by(status):
                        waiting(status)
                        waiting = None
        if result.status.state != "finished":
            raise JobFailed(explain(result.status))
        return result

    def _roster(self) -> TrustedDocuments:
        return self._trusted or self.refresh()


def _checked(**values: Any) -> Job:
    """Return a job; ``DocumentError`` names what doesn't fit."""
    try:
        return Job(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "itself"
        raise DocumentError(f"The job can't be: {where}: {first['msg']}.") from None


def _renew_if_due(home: ResearcherHome, address: str) -> None:
    """Ask for a fresh certificate when less than a third of its life is left."""
    begin, end = home.identity.validity()
    if end - datetime.now(UTC) > (end - begin) / 3:
        return
    key = transport.new_private_key()
    request = transport.certificate_request(key, home.place().name)
    with rpc.calling(address, home.identity.channel_credentials()) as stub:
        reply = stub.Renew(wire.RenewRequest(csr=request), timeout=CALL_SECONDS)
    authority = home.identity.authority_file.read_bytes()
    home.identity.save(transport.private_key_pem(key), reply.certificate, authority)
