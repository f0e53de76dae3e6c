"""What a job that the first table lets pass would meet on its way out: lanes, noise, account.

Everything here follows from the job, the project, the release's manifest, the policy and what was
spent before. No row of the release is looked at, and nothing is spent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from contract.documents import Project, printable
from contract.errors import DocumentError, Refused
from contract.work import SecureUpdates, Statistic, StatisticsWork, TrainingWork
from node.gate import before_egress, exact
from node.gate.account import Charge, Limits, Payer, Standing
from node.gate.dp.lane import Asked as DpQuestion
from node.gate.dp.lane import DpLane
from node.gate.exact import WITHHELD, Exactly
from node.gate.inbox.preview import Line, in_words
from node.gate.policy import Policy
from node.gate.rules import Question
from node.gate.updates.noise import GaussianRelease


def prospect(question: Question, lane: DpLane, period_seconds: float) -> Iterator[Line]:
    """Yield what a question that no rule objects to would meet, as (what, text).

    ``period_seconds`` is that of ``node.gate.deadline``.
    """
    job, policy = question.job, question.policy
    assert question.release is not None
    if isinstance(job.work, StatisticsWork):
        yield from _statistics(question, job.work, lane)
        yield "leaves", f"at the end of a period of {1000 * period_seconds:.3g} ms, or of a later"
    else:
        yield from _training(question, job.work, lane)
    yield "rules before egress", ", ".join(type(r).__name__ for r in before_egress.BEFORE_EGRESS)
    held = policy.holds_outputs(job.project, job.work.kind)
    yield "held outputs", "until a steward releases them" if held else "none"


def account(asked: DpQuestion, lane: DpLane) -> Iterator[Line]:
    """Yield how the privacy account stands, and would with a question's answers with noise."""
    yield _standing("account before", lane.account.standing(asked.payer, asked.limits, asked.now))
    yield _standing("account after", lane.after(asked))


def with_noise(
    payer: Payer,
    job: str,
    project: Project,
    release: str,
    work: StatisticsWork,
    plan: exact.Plan,
    policy: Policy,
    now: datetime,
) -> DpQuestion | None:
    """Return what of a question has noise, as the dp lane sees it; None when nothing has."""
    noisy = tuple(s for s, exactly in zip(work.ask, plan, strict=True) if exactly is None)
    if not noisy:
        return None
    return DpQuestion(
        payer,
        job,
        release,
        work.model_copy(update={"ask": noisy}),
        project,
        Limits.of(policy, project.name),
        policy.under(project.name).privacy.epsilon_question,
        now,
    )


def _standing(name: str, standing: Standing) -> Line:
    limits = standing.limits
    said = (
        f"epsilon {standing.epsilon_project:.3g} of {limits.epsilon_project:g} by the project, "
        f"{standing.epsilon_year:.3g} of {limits.epsilon_year:g} by all in a year"
    )
    return name, said if standing.within_limits else said + ": more than there is"


def _statistics(question: Question, work: StatisticsWork, lane: DpLane) -> Iterator[Line]:
    assert question.project is not None
    assert question.release is not None
    policy, manifest = question.policy, question.release.manifest
    declared = ", ".join(exact.strata_of(manifest)) or "none"
    yield "release's strata", printable(declared)
    asked = with_noise(
        Payer(question.consortium, question.job.project),
        question.believed.digest if question.believed is not None else "",
        question.project,
        question.release.digest,
        work,
        question.plan,
        policy,
        question.now,
    )
    costs: dict[Statistic, float] = {}
    refusal: str | None = None
    if asked is not None:
        try:
            lane.check(asked)
            costs = lane.costs(asked)
        except (Refused, DocumentError) as error:
            refusal = str(error)
    for statistic, exactly in zip(work.ask, question.plan, strict=True):
        yield (
            printable(in_words(statistic)),
            printable(_lane_of(statistic, exactly, work, policy, question.job.project, costs)),
        )
    if refusal is not None:
        yield "noise", f"refused: {refusal}"
    elif asked is not None:
        yield from account(asked, lane)
    least = before_egress.minimums_of(work, policy.disclosure)
    yield (
        "withheld",
        f"what is about fewer than {least.minimum_cohort} subjects, or has a cell of fewer than "
        f"{least.minimum_cell}; missing values in steps of {least.minimum_cell}",
    )
    if work.secure:
        yield "secure sum", f"over {policy.disclosure.minimum_sum_sites} sites or more"
    if work.fit is not None:
        yield "model", f"{work.fit.family}: its sums leave step by step"


def _lane_of(
    statistic: Statistic,
    exactly: Exactly | None,
    work: StatisticsWork,
    policy: Policy,
    project: str,
    costs: dict[Statistic, float],
) -> str:
    if exactly is None:
        cost = costs.get(statistic)
        if cost is None:
            return "dp"
        return f"dp: epsilon {cost:.3g}" if cost else "dp: drawn before, costs nothing"
    if exactly is WITHHELD:
        return f"withheld: not declared, and {_why_no_noise(work, policy, project)}"
    cells = len({cell for some in exactly.groups.values() for cell in some})
    groups = len(exactly.groups)
    by = f" by {statistic.by}" if statistic.by else ""
    return f"exact: {groups} group{'s' * (groups > 1)} of {cells} cells{by}"


def _why_no_noise(work: StatisticsWork, policy: Policy, project: str) -> str:
    if work.lane == "exact":
        return "the question wants no noise"
    if work.analysis is not None:
        return "noise is of no analysis set"
    if not policy.privacy.allowed:
        return "the policy gives no noise (privacy.allowed)"
    if "dp" not in (policy.limits(project).lanes or ["dp"]):
        return f"the policy gives the project no noise (projects.{project}.lanes)"
    return "imputed values have no noise"


def _training(question: Question, work: TrainingWork, lane: DpLane) -> Iterator[Line]:
    assert question.project is not None
    assert question.release is not None
    settings = question.policy.training
    least = max(settings.minimum_subjects, question.policy.disclosure.minimum_cohort)
    yield "minimum", f"{least} subjects in the release"
    yield "clip", f"to a norm of {settings.clip_norm:g}" if settings.clip_norm else "not"
    yield "noise", _noise(settings.noise_multiplier, "clip_norm")
    yield "quantise", f"to {settings.quantise_bits} bits" if settings.quantise_bits else "not"
    yield "imprint check", "on the weights that come" if settings.check_imprint else "none"
    grant = question.project.recipe(work.bundle)
    most = min(settings.max_reply_bytes, grant.max_reply_bytes) if grant is not None else 0
    yield "size", f"at most {most:,} bytes a reply"
    if work.secure is not None:
        yield from _sums(work.secure, question)
    else:
        yield "secure sum", "none: the coordinator sees this site's own updates"
    sums = work.secure.noise_multiplier if work.secure is not None else 0.0
    yield from _training_account(question, lane, [settings.noise_multiplier, sums])


def _sums(secure: SecureUpdates, question: Question) -> Iterator[Line]:
    policy = question.policy
    yield (
        "secure sum",
        f"over {policy.disclosure.minimum_sum_sites} sites or more, and at most "
        f"{policy.training.sum_site_sets} sets of them; clipped to {secure.clip_norm:g}, "
        f"{secure.bits} bits, weighed with at most {secure.most_examples:,} examples"
        + (", over a sparse graph" if secure.sparse else ""),
    )
    yield "noise of a sum", _noise(secure.noise_multiplier, "the job's clip_norm")


def _noise(multiplier: float, of: str) -> str:
    return f"Gaussian, {multiplier:g} times {of}" if multiplier else "none"


def _training_account(
    question: Question, lane: DpLane, multipliers: Sequence[float]
) -> Iterator[Line]:
    """Yield what a reply with arrays and metrics costs; how many are asked is not said before."""
    reply = [Charge("", GaussianRelease(one / 2)) for one in multipliers if one for _ in range(2)]
    if not reply:
        yield "epsilon", "none is claimed without noise"
        return
    assert question.release is not None
    payer = Payer(question.consortium, question.job.project)
    limits = Limits.of(question.policy, question.job.project)
    before = lane.account.standing(payer, limits, question.now)
    after = lane.account.after(payer, question.release.digest, reply, limits, question.now)
    yield _standing("account before", before)
    yield _standing("after one reply", after)
