"""The first table: may this be asked here? Rules run in order; the first that objects decides."""

from __future__ import annotations

from datetime import timedelta

from contract import cohorts
from contract.errors import DocumentError, Refused, SignatureError
from contract.statistics import answers
from contract.work import StatisticsWork, TrainingWork
from node.catalog.deriving import is_as_derived
from node.gate import before_egress, exact
from node.gate.dp import measure
from node.gate.fitting import FitsTheRelease
from node.gate.limits import WithinHours, WithinLimits
from node.gate.modelling import ModelWithinLimits
from node.gate.recipe_rules import DraftsAllowed, WeightsApproved, is_of_weights
from node.gate.rules import BeforeWork, Question, Waits
from node.gate.secured import SumsAsWanted


class RosterInForce:
    """There is a roster, signed as ``contract.trust`` wants it, and it hasn't expired.

    Guarantee: without a current roster nothing is answered, and one that a coordinator keeps to
    itself can be missed for ``jobs.roster_days`` at most. Assumption: the node's clock.
    Source: TUF specification 1.0, 5.3 (root rotation, expiry).
    """

    code = "no-roster"

    def check(self, question: Question) -> None:
        """Refuse without a roster in force, or when this site isn't on it."""
        try:
            question.roster = question.trusted.current_roster(question.now)
        except DocumentError as error:
            raise Refused(self.code, str(error)) from None
        age = question.now - question.roster.issued_at
        if age > timedelta(days=question.policy.jobs.roster_days):
            raise Refused("roster-old", "The roster known here is older than this site believes.")
        if question.roster.site(question.site) is None:
            raise Refused("revoked", "This site is not on the roster in force.")


class SignedAndValid:
    """A researcher on the roster signed exactly these bytes, and they are valid now.

    Guarantee: coordinator and network can't make, change or prolong a job.
    Assumption: the researcher's key is theirs alone; a stolen one is taken off by a new roster.
    Source: DSSE 1.0; RFC 8032.
    """

    code = "not-believed"

    def check(self, question: Question) -> None:
        """Refuse a bad signature, a stranger, another consortium, or a job out of its time."""
        try:
            question.believed = question.trusted.job(question.envelope, question.now)
        except SignatureError as error:
            raise Refused("bad-signature", str(error)) from None
        except DocumentError as error:
            raise Refused(self.code, str(error)) from None


class SignerOnTheRoster:
    """The key that signed an admitted job is still its researcher's, on the roster in force.

    Guarantee: a researcher who was taken off the roster, or whose key was replaced there, gets
    nothing more of a job that is under way. Assumption: that of ``RosterInForce``: until a newer
    roster is known here, at most ``jobs.roster_days``, the former one counts.
    Source: TUF specification 1.0, 6.1 (key management and migration).
    """

    code = "revoked"

    def check(self, question: Question) -> None:
        """Refuse a job whose signer is on the roster no more."""
        assert question.roster is not None
        assert question.believed is not None
        member = question.roster.researcher(question.job.researcher)
        if member is None or member.key_id not in question.believed.signers:
            raise Refused(self.code, "The researcher's key is not on the roster in force.")


class NotAReplay:
    """A nonce belongs to one job for ever.

    Guarantee: a job that was closed or refused isn't worked on again, and no second job goes under
    its nonce. What was answered stays so when the catalogue is restored from a backup
    (``node.gate.remembering``); a ledger that is turned back with it is noticed by the link.
    Assumption: what catalogue and ledger synced to the disk stays there.
    Source: NIST SP 800-63B, 5.2.8 (replay resistance by nonces).
    """

    code = "replay"

    def check(self, question: Question) -> None:
        """Refuse a nonce that was seen under another job, or whose job is over."""
        assert question.believed is not None
        seen = question.seen_nonce(question.job.nonce)
        digest = question.believed.digest
        if seen not in (None, f"{digest}:accepted", f"{digest}:waiting"):
            raise Refused(self.code, "This job was seen before.")
        if seen is None and question.forgotten(digest):
            raise Refused(self.code, "This job was seen before.")


class AskedOften:
    """One researcher asks at most the policy's number of jobs in an hour.

    Guarantee: a researcher's key, stolen or not, costs the node no more than so many admissions an
    hour. Assumption: the node's clock. It bounds load, not what answers tell together: that is
    bounded by what releases declare and by the privacy account.
    Source: OWASP API Security Top 10 2023, API4 (unrestricted resource consumption).
    """

    code = "rate"

    def check(self, question: Question) -> None:
        """Refuse a researcher who asked too often in the last hour."""
        if question.seen_nonce(question.job.nonce) is not None:
            return  # counted when it was admitted; this is the same job after a restart
        asked = question.asked_this_hour(question.job.researcher)
        if asked >= question.policy.jobs.per_hour:
            raise Refused(self.code, "This researcher asks more often than the policy allows.")


class ProjectApproved:
    """This hospital's own steward approved exactly this version of the project.

    Guarantee: what other hospitals agree to binds nobody here. Assumption: nobody but the
    hospital's own people writes into the node's catalogue.
    Source: ``docs/decisions/0004-project-approval.md``.
    """

    code = "project-not-approved"

    def check(self, question: Question) -> None:
        """Refuse a project that our steward hasn't approved, or that doesn't allow this work."""
        job = question.job
        believed = question.trusted.projects.get(job.project)
        if believed is None or believed.document.version != job.project_version:
            raise Refused(self.code, f"Project {job.project} is not in force at this site.")
        if question.approved_project(job.project) != believed.digest:
            raise Refused(self.code, f"Project {job.project} is not approved at this site.")
        question.project = believed.document
        if question.site not in question.project.sites:
            raise Refused(self.code, f"This site is not in project {job.project}.")
        if job.work.kind not in question.project.kinds:
            raise Refused("kind", f"Project {job.project} doesn't allow {job.work.kind}.")


class ReleaseGranted:
    """The release that the job names is granted to its project and isn't revoked.

    Guarantee: a project sees of this hospital what a steward granted to it by digest, and nothing
    that was taken in since; whether another release exists isn't told. Assumption: SHA-256 is
    collision-resistant, and the release's files are what its manifest commits to.
    Source: ``docs/architecture.md``, Releases.
    """

    code = "release-not-granted"

    def check(self, question: Question) -> None:
        """Refuse a release that isn't granted; one that doesn't exist looks the same."""
        wanted = question.job.releases.get(question.site, "")
        found = question.granted(question.job.project, wanted)
        if found is None or found.revoked_at is not None:
            raise Refused(self.code, "The release is not granted to this project.")
        question.release = found


class WithinTheDictionary:
    """Statistics ask only for variables, groups and grids of the project's dictionary.

    Guarantee: nobody chooses edges or groups to single a patient out; they were agreed to before.
    Assumption: the stewards looked at the grids that they signed.
    Source: ``docs/decisions/0005-agreed-grids.md``.
    """

    code = "not-in-dictionary"

    def check(self, question: Question) -> None:
        """Refuse a statistic that the dictionary or the release doesn't have."""
        work = question.job.work
        if not isinstance(work, StatisticsWork):
            return
        assert question.project is not None
        assert question.release is not None
        if len(work.ask) > question.policy.jobs.max_statistics:
            raise Refused("too-many", "The question holds more statistics than the policy allows.")
        manifest = question.release.manifest
        if manifest.rows != manifest.subjects:
            raise Refused("rows", "Statistics need a release with one row for each subject.")
        held = {column.name for column in manifest.columns}
        if work.cohort is not None:
            try:
                cohorts.check(work.cohort, question.project)
            except DocumentError as error:
                raise Refused(self.code, str(error)) from None
            unknown = set(cohorts.variables(work.cohort)) - held
            if unknown:
                raise Refused(self.code, f"The release has no variable {min(unknown)}.")
        for statistic in work.ask:
            try:
                answers.check(statistic, question.project)
            except DocumentError as error:
                raise Refused(self.code, str(error)) from None
            for name in (*statistic.variables, statistic.by):
                if name is not None and name not in held:
                    raise Refused(self.code, f"The release has no variable {name}.")
        derived = {v.name for v in question.project.variables if v.derive is not None}
        asked = {name for s in work.ask for name in (*s.variables, s.by) if name is not None}
        if work.cohort is not None:
            asked |= set(cohorts.variables(work.cohort))
        for name in sorted(derived & asked):
            if not is_as_derived(manifest, question.project.variables, name):
                raise Refused(
                    "derived-otherwise",
                    f"The release was made when {name} was derived in another way.",
                )


class DeclaredCells:
    """A statistic is of what the release declares, or it may have noise.

    Guarantee: the lane and the refusal follow from question, dictionary, manifest and policy alone.
    Whatever is asked and however often, exact answers tell only aggregates over at least the
    policy's number of subjects: ``docs/reference/disclosure.md`` proves it from the declaration.
    Assumption: the manifest's declaration is of this node's making; its digest is the release's.
    Source: Denning, Denning and Schwartz 1979, "The tracker", of which it is the remedy.
    """

    code = "not-declared"

    def check(self, question: Question) -> None:
        """Refuse what is not declared where noise isn't allowed, and what can't have noise."""
        work = question.job.work
        if not isinstance(work, StatisticsWork):
            return
        assert question.project is not None
        assert question.release is not None
        try:
            plan = exact.lanes(work, question.project, question.release.manifest, question.policy)
        except DocumentError as error:
            raise Refused(self.code, str(error)) from None
        for statistic, exactly in zip(work.ask, plan, strict=True):
            if exactly is None:
                measure.check(statistic, question.project)
        question.plan = plan


class RecipeApproved:
    """A recipe runs only if its exact digest is in the project and approved by our steward.

    Guarantee: no code from outside runs that nobody here has seen; parameters stay in the ranges
    that were agreed to. Assumption: SHA-256 is collision-resistant, and the steward read the code:
    a digest says which code it is, not that it is harmless; the sandbox bounds what harm it can do.
    Source: NIST SP 800-167 (application whitelisting by digest).
    """

    code = "recipe-not-approved"

    def check(self, question: Question) -> None:
        """Refuse an unapproved bundle, a parameter outside its range, or a use not agreed to."""
        work = question.job.work
        if not isinstance(work, TrainingWork):
            return
        assert question.project is not None
        if not question.policy.training.allowed:
            raise Refused("training-off", "The policy of this site allows no training.")
        grant = question.project.recipe(work.bundle)
        if grant is None:
            raise Refused(self.code, "The recipe is not approved at this site.")
        if work.bundle not in question.approved_recipes():
            # One that the project names and nobody here has looked at yet waits; one that was
            # withdrawn was decided on.
            if question.let_in or work.bundle in question.withdrawn_recipes():
                raise Refused(self.code, "The recipe is not approved at this site.")
            question.waits.append("recipe")
        for name, value in work.parameters.items():
            if is_of_weights(name, value, grant):
                continue
            allowed = grant.parameters.get(name)
            if allowed is None:
                raise Refused("parameter", f"Parameter {name} is none that the project allows.")
            if not allowed.admits(value):
                bounds = allowed.minimum, allowed.maximum
                said = "" if None in bounds else ": {:g} to {:g}".format(*bounds)
                raise Refused(
                    "parameter", f"Parameter {name} is outside what the project allows{said}."
                )
        if work.cross_evaluation and not grant.cross_evaluation:
            raise Refused(
                "cross-evaluation", "The project gives no site's own model to the other sites."
            )


class EngineAllowed:
    """The job's tasks come by a way that the policy allows.

    Guarantee: nothing of a job leaves over a Flower SuperLink where the policy doesn't say so.
    Assumption: none; the engine is in the job that its researcher signed.
    Source: ``docs/decisions/0036-superlink-carries-our-messages.md``.
    """

    code = "engine"

    def check(self, question: Question) -> None:
        """Refuse a SuperLink that isn't allowed."""
        work = question.job.work
        over_one = isinstance(work, TrainingWork) and work.engine == "superlink"
        if over_one and not question.policy.training.superlink:
            raise Refused(self.code, "Training over a SuperLink is not allowed at this site.")


class CohortLargeEnough:
    """The release is about at least the policy's number of subjects.

    Guarantee: nothing is worked out over fewer, but the part of a small site in a secure sum where
    the policy allows it. The refusal is the same for 0 and for k - 1. Assumption: the manifest
    counts its subjects right; a patient with two pseudonyms counts twice.
    Source: DataSHIELD's nfilter.subset, applied to subjects instead of rows.
    """

    code = "cohort-too-small"

    def check(self, question: Question) -> None:
        """Refuse a release with fewer subjects than the policy's minimum."""
        assert question.release is not None
        disclosure = question.policy.disclosure
        work, declaration = question.job.work, question.release.manifest.declaration
        if declaration is not None and declaration.sums_only:
            disclosure = before_egress.minimums_of(work, disclosure)
        minimum = disclosure.minimum_cohort
        if question.job.work.kind == "training":
            minimum = max(minimum, question.policy.training.minimum_subjects)
        if question.release.subjects < minimum:
            raise Refused(self.code, "The cohort is smaller than the policy's minimum.")


class StewardDecides:
    """What the policy holds, and a recipe that nobody here has approved yet, waits for a steward.

    Guarantee: such a job does no work before as many different stewards as ``approval.people``
    signed for exactly this job (``node.gate.inbox.decisions``). What is outside the project is
    refused before and can't be allowed here: no site widens a project by itself. Assumption: each
    steward's key is theirs alone. Source: ``docs/decisions/0019-what-waits-for-a-steward.md``.
    """

    code = "waiting"

    def check(self, question: Question) -> None:
        """Pass what need not wait or was approved; else ``Waits``, or a steward's refusal."""
        if question.let_in:
            return
        if question.job.work.kind in question.policy.approval.hold_jobs:
            question.waits.append("held")
        if not question.waits:
            return
        assert question.believed is not None
        decided = question.decided(question.believed.digest)
        if decided is not None and decided.refusal is not None:
            raise decided.refusal
        if decided is None or "recipe" in question.waits:
            raise Waits(tuple(question.waits))


BEFORE_WORK: tuple[BeforeWork, ...] = (
    RosterInForce(),
    SignedAndValid(),
    NotAReplay(),
    WithinHours(),
    AskedOften(),
    ProjectApproved(),
    ReleaseGranted(),
    WithinLimits(),
    WithinTheDictionary(),
    FitsTheRelease(),
    DeclaredCells(),
    ModelWithinLimits(),
    RecipeApproved(),
    SumsAsWanted(),
    WeightsApproved(),
    DraftsAllowed(),
    EngineAllowed(),
    CohortLargeEnough(),
    StewardDecides(),
)


def admit(question: Question) -> list[str]:
    """Run the table and return the codes of the rules that passed; the first objection raises."""
    passed: list[str] = []
    for rule in BEFORE_WORK:
        rule.check(question)
        passed.append(type(rule).__name__)
    return passed
