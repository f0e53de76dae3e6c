"""``Consortium``: the one thing that a researcher must learn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self

import grpc
from pydantic import ValidationError

from contract import wire_pb2 as wire
from contract import wire_pb2_grpc
from contract.cohorts import Cohort
from contract.documents import JOB_TYPE, Job, Project, new_nonce
from contract.envelope import Envelope
from contract.errors import DocumentError, JobFailed, NotFound
from contract.statistics.models import marginals
from contract.trust import TrustedDocuments
from contract.work import Scalar, SecureUpdates, Statistic, StatisticsWork, TrainingWork
from foundation import rpc, transport
from foundation.transport import CHANNEL_OPTIONS
from researcher import formulas
from researcher.home import DEFAULT_HOME, ResearcherHome
from researcher.models import ModelAnswer
from researcher.questions import Lane, question
from researcher.registry import Registry
from researcher.statistics import StatisticsAnswer
from researcher.study import Study
from researcher.training import TrainingHandle

NAMED = 5
"""So many sites are named for one reason that a job failed."""
CALL_SECONDS = 30.0
CLOCK_SKEW = timedelta(minutes=2)
"""How far a hospital's clock may be behind ours."""
HELD_SECONDS = 1.5
"""An answer that takes longer may wait for a steward: then its state is asked for."""
JOB_LIFE = timedelta(hours=1)
TRAINING_LIFE = timedelta(days=7)
CLIP_NORM = 100.0
"""Longest update of a site in a secure sum, unless another is asked for."""


@dataclass(frozen=True)
class ReleaseInfo:
    """What a site says of a release: counts are rounded down to its policy's cell size."""

    site: str
    name: str
    digest: str
    projects: tuple[str, ...]
    table: str
    subjects: int
    variables: tuple[str, ...]
    assets: Mapping[str, int]
    strata: tuple[str, ...] = ()
    """By what it can be asked exactly; of a number with its cuts: "age=50:65"."""
    analyses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Its analysis sets, and the variables of each."""
    joint: Mapping[str, frozenset[frozenset[str]]] = field(default_factory=dict)
    """Of each analysis set, which two or three variables are counted together exactly."""
    products: Mapping[str, frozenset[frozenset[str]]] = field(default_factory=dict)
    """Of each, of which two variables the sums of products are exact, as comoments need them."""


@dataclass(frozen=True)
class SiteInfo:
    """A site: whether it is there, whether it was revoked, and its releases."""

    name: str
    online: bool
    revoked: bool
    releases: tuple[ReleaseInfo, ...]


class Consortium:
    """A connection to a consortium, as one researcher. Use it in a ``with`` block."""

    def __init__(self, home: ResearcherHome, channel: grpc.Channel) -> None:
        self._home = home
        self._place = home.place()
        self._channel = channel
        self._stub = wire_pb2_grpc.WardgateStub(channel)
        self._key = home.key()
        self._trusted: TrustedDocuments | None = None

    @classmethod
    def connect(cls, home: Path | str = DEFAULT_HOME) -> Consortium:
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

    # ---- asking --------------------------------------------------------------------------------

    def statistics(
        self,
        project: str,
        ask: Sequence[Statistic],
        *,
        sites: Sequence[str] | None = None,
        minimum_sites: int = 1,
        releases: Mapping[str, str] | None = None,
        cohort: Cohort | None = None,
        analysis: str | None = None,
        lane: Lane = "any",
        epsilon: float | None = None,
        secure: bool = False,
        small_sites: bool = False,
        waiting: Callable[[wire.JobStatus], None] | None = None,
    ) -> StatisticsAnswer:
        """Ask for statistics across the sites and wait for the merged answer.

        One round trip, however many statistics. ``releases`` (site to digest) names what is asked;
        without it each site's newest release of the project is. Raises ``JobFailed`` when fewer
        than ``minimum_sites`` are in the answer; who is not in it, and why, is in the answer.

        ``cohort`` is of whom; ``analysis`` the releases' analysis set. What the releases declare is
        answered exactly, all else with noise, unless ``lane`` wants one of both. ``epsilon`` is
        what the question would spend on noise at each site; what it spent is in the answer.

        ``secure`` sums the sites' parts so that nobody sees a site's own, the coordinator included:
        it needs five sites (or what their policies say) and takes five round trips. ``small_sites``
        does so over releases that are made for such sums alone: of one ``analysis`` set, of
        everybody in it, or by one category.

        Where a site's steward is to decide first, this waits until the job's end; ``waiting`` is
        told as soon as that is so, and ``answer`` reads the answer later.
        """
        work = question(
            ask,
            cohort=cohort,
            analysis=analysis,
            lane=lane,
            epsilon=epsilon,
            secure=secure,
            small_sites=small_sites,
        )
        job, envelope = self.sign(project, work, sites, minimum_sites, releases, life=JOB_LIFE)
        digest = self._submit(envelope)

        def held(status: wire.JobStatus) -> None:
            self._home.keep_job(digest, envelope)
            if waiting is not None:
                waiting(status)

        result = self._wait(digest, held)
        return StatisticsAnswer.from_result(job, self.project(project), result, self._roster())

    def model(
        self,
        project: str,
        formula: str,
        family: str,
        *,
        analysis: str,
        weights: str | None = None,
        ties: str = "efron",
        link: str | None = None,
        by_site: str | None = None,
        method: str = "reml",
        time_scale: str = "identity",
        cohort: Cohort | None = None,
        sites: Sequence[str] | None = None,
        minimum_sites: int = 1,
        releases: Mapping[str, str] | None = None,
        waiting: Callable[[wire.JobStatus], None] | None = None,
    ) -> ModelAnswer:
        """Fit a model across the sites and wait for it.

        ``formula`` is as R writes it: ``"outcome ~ age + arm:sex"``; ``family`` one of linear,
        logistic, poisson, gamma, and cox, whose left side is ``Surv(time, event)`` and which is
        stratified by site. ``analysis`` names the releases' analysis set: the fit is of subjects
        with a value of all its variables. Estimates are those of the pooled rows.

        ``weights`` names a variable (prior weights). ``by_site`` says what differs between sites:
        ``fixed`` effects, a ``random`` intercept (linear models; ``(1 | site)`` says the same, and
        ``method`` is reml or ml), or ``each``: every site's own fit, pooled by random effects.
        ``ties`` (efron, breslow) and ``time_scale`` (identity, log: against what proportionality is
        tested) are a Cox model's, ``link`` (log, inverse) a gamma model's.
        """
        fit = formulas.parse(
            formula,
            family,
            weights=weights,
            ties=ties,
            link=link,
            by_site=by_site,
            method=method,
            time_scale=time_scale,
        )
        work = StatisticsWork(
            ask=marginals(fit, self.project(project)),
            cohort=cohort,
            analysis=analysis,
            lane="exact",
            fit=fit,
        )
        job, envelope = self.sign(project, work, sites, minimum_sites, releases, life=JOB_LIFE)
        digest = self._submit(envelope)

        def held(status: wire.JobStatus) -> None:
            self._home.keep_job(digest, envelope)
            if waiting is not None:
                waiting(status)

        result = self._wait(digest, held)
        return ModelAnswer.from_result(job, self.project(project), result, self._roster())

    def study(self, project: str, **terms: Any) -> Study:
        """Return a study of a project: every analysis by one call. ``terms`` are ``Study``'s."""
        self.project(project)
        return Study(self, project, **terms)

    def train(
        self,
        project: str,
        recipe: str,
        parameters: Mapping[str, Scalar] | None = None,
        *,
        seed: int = 0,
        start_from: str | Path | None = None,
        cross_evaluation: bool = False,
        sites: Sequence[str] | None = None,
        minimum_sites: int = 2,
        releases: Mapping[str, str] | None = None,
        engine: Literal["wardgate", "superlink"] = "wardgate",
        secure: bool = False,
        clip_norm: float = CLIP_NORM,
        noise_multiplier: float = 0.0,
        most_examples: int | None = None,
        bits: int = 26,
        sparse: bool = False,
    ) -> TrainingHandle:
        """Start a training job and return a handle with its progress, result and receipts.

        ``recipe`` is the name or bundle digest of a recipe that the project grants; ``parameters``
        override its run config within the project's ranges. ``engine`` carries the tasks.

        ``secure`` sums the sites' updates and metrics so that nobody sees a site's own, the
        coordinator included; ``minimum_sites`` must then be what the sites' policies want, 5 or
        more. A site's update is clipped to the L2 norm ``clip_norm`` and written in ``bits`` bits a
        number; the sum holds noise of ``noise_multiplier`` times ``clip_norm``. No site may weigh
        with more than ``most_examples``: by default twice the subjects of the largest release, or
        as many with noise. ``sparse`` is for 200 sites and more, and a coordinator that is honest.

        ``start_from`` is a model of the project to begin with: by its digest in the registry, or
        as its file. ``cross_evaluation`` trains a model at each site and evaluates each at every
        site instead (see ``cross_evaluate``).
        """
        granted = next(
            (r for r in self.project(project).recipes if recipe in (r.name, r.bundle)), None
        )
        if granted is None:
            raise NotFound(f"Project {project} grants no recipe called {recipe}.")
        named = dict(releases) if releases is not None else self._newest(project, sites)
        updates = None
        if secure:
            largest = max(
                (r.subjects for r in self.releases() if r.digest in named.values()), default=1
            )
            most = max(largest, 1) if noise_multiplier else max(2 * largest, 1000)
            updates = _secure_updates(
                clip_norm=clip_norm, bits=bits, most_examples=most_examples or most,
                noise_multiplier=noise_multiplier, sparse=sparse,
            )  # fmt: skip
        try:
            work = TrainingWork(
                bundle=granted.bundle, parameters=dict(parameters or {}), seed=seed, engine=engine,
                secure=updates, cross_evaluation=cross_evaluation,
                start_from=None if start_from is None else self.registry.digest_of(start_from),
            )  # fmt: skip
        except ValidationError as error:
            raise DocumentError(f"The job can't be: {error.errors()[0]['msg']}.") from None
        job, envelope = self.sign(project, work, sites, minimum_sites, named, life=TRAINING_LIFE)
        digest = self._submit(envelope)
        return TrainingHandle(digest, job, self._stub, self._place.address, self._roster)

    def cross_evaluate(
        self,
        project: str,
        recipe: str,
        parameters: Mapping[str, Scalar] | None = None,
        **terms: Any,
    ) -> TrainingHandle:
        """Start a job that evaluates every site's own model at every site; ``terms`` as ``train``.

        Each site trains by itself, as many rounds as the recipe says, and its best model is
        evaluated at each; ``Matrix.of`` reads the rounds of the result as a table. A site's model
        leaves as an update does, through its gate. The project's grant of the recipe must allow it.
        """
        return self.train(project, recipe, parameters, cross_evaluation=True, **terms)

    @property
    def registry(self) -> Registry:
        """The finished models of our projects."""
        return Registry(self._stub, self._place.address, self._roster)

    def job(self, digest: str) -> TrainingHandle:
        """Return a handle on a training job that was started before."""
        return TrainingHandle(digest, None, self._stub, self._place.address, self._roster)

    def sign(
        self,
        project: str,
        work: StatisticsWork | TrainingWork,
        sites: Sequence[str] | None = None,
        minimum_sites: int = 1,
        releases: Mapping[str, str] | None = None,
        life: timedelta = JOB_LIFE,
    ) -> tuple[Job, bytes]:
        """Return a signed job, not yet submitted: the model and its envelope's bytes."""
        document = self.project(project)
        named = dict(releases) if releases is not None else self._newest(project, sites)
        if not named:
            raise NotFound(f"No site offers a release for project {project}.")
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

    def _roster_version(self) -> int:
        roster = self._roster().roster
        return 1 if roster is None else roster.document.version

    def _newest(self, project: str, sites: Sequence[str] | None) -> dict[str, str]:
        found: dict[str, str] = {}
        for release in self.releases(project):
            if sites is None or release.site in sites:
                found[release.site] = release.digest
        return found

    def _submit(self, envelope: bytes) -> str:
        with self._calling() as stub:
            status = stub.Submit(wire.SubmitRequest(job=envelope), timeout=CALL_SECONDS)
        return str(status.job)

    def answer(
        self, digest: str, waiting: Callable[[wire.JobStatus], None] | None = None
    ) -> StatisticsAnswer:
        """Return the answer to a question that had to wait for a steward, once it is there."""
        job = Job.read(Envelope.parse(self._home.kept_job(digest)).body)
        result = self._wait(digest, waiting)
        return StatisticsAnswer.from_result(job, self.project(job.project), result, self._roster())

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


def _secure_updates(**values: Any) -> SecureUpdates:
    """Return how updates are summed; ``DocumentError`` names what doesn't fit."""
    try:
        return SecureUpdates(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise DocumentError(f"The job can't be: {first['loc'][0]}: {first['msg']}.") from None


def _checked(**values: Any) -> Job:
    """Return a job; ``DocumentError`` names what doesn't fit."""
    try:
        return Job(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "itself"
        raise DocumentError(f"The job can't be: {where}: {first['msg']}.") from None


def held_by(status: wire.JobStatus) -> list[str]:
    """Return the sites whose stewards are to decide."""
    return [s.site for s in status.sites if s.state == "held" or s.code.startswith("waiting")]


def explain(status: wire.JobStatus) -> str:
    """Return one line about why a job gave no result; sites with one reason stand together."""
    why: dict[str, list[str]] = {}
    for site in status.sites:
        if site.state != "answered":
            why.setdefault(site.sentence or site.state, []).append(site.site)
    sites = "; ".join(
        f"{', '.join(names[:NAMED])}"
        f"{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''}: {sentence}"
        for sentence, names in why.items()
    )
    return f"The job {status.state} ({status.reason or 'no reason given'}). {sites}".strip()


def release_info(site: str, message: wire.Release) -> ReleaseInfo:
    """Return what a site's listing says of a release."""
    return ReleaseInfo(
        site=site,
        name=message.name,
        digest=message.digest,
        projects=tuple(message.projects),
        table=message.table,
        subjects=message.subjects,
        variables=tuple(message.variables),
        assets={a.modality: a.count for a in message.assets},
        strata=tuple(message.strata),
        analyses={a.name: tuple(a.variables) for a in message.analyses},
        joint={a.name: _together(a, a.joint) for a in message.analyses},
        products={a.name: _together(a, a.products) for a in message.analyses},
    )


def _together(analysis: wire.AnalysisSet, bits: Iterable[int]) -> frozenset[frozenset[str]]:
    names = list(enumerate(analysis.variables))
    return frozenset(frozenset(name for at, name in names if one >> at & 1) for one in bits)


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
