"""What the steps of a model give away: to a coordinator that leads them, and in their sums.

Each attack first succeeds without its defence, in the same test. Those that weigh one row do so
also without the one that refuses a step of few rows (``ModelFit._check_shared``), which would stop
them too; the list of attacks says so of each.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from contract import wire_pb2 as wire
from contract.documents import JOB_TYPE, Job
from contract.envelope import Envelope
from contract.models import Model
from contract.receipts import Receipt
from contract.statistics import ending, models, steps
from contract.statistics.regression import IMPOSSIBLE, Sums
from contract.statistics.steps import Step, Terms
from contract.work import Statistic, StatisticsWork
from node.catalog import multiplying
from node.catalog.declaring import Minimums, Wishes
from node.catalog.releases import create_release
from node.catalog.selection import Selection
from node.deid.pseudonyms import Pseudonyms
from node.gate import modelling
from node.gate.before_egress import MinimumCohort
from node.intake.tables import ingest_table
from node.work.coefficients import OwnCoefficients, Place, digest_of
from node.work.models import ModelFit
from tests.attacks.statistics.conftest import GRIDS, SCHEMA, Node, counts, csv_of, moments, rows
from tests.contract.world import NOW, RELEASE

ATTACKS = (
    (
        "Coefficients chosen to weigh one row",
        "Huth et al. 2023, as for covariance; DataSHIELD's known holes: a fit's score",
        "a site works the coefficients out itself, from what all sites signed; off with it: that a "
        "step of few rows is refused",
        "test_coefficients_that_weigh_one_row",
    ),
    (
        "A fellow site's part forged to steer a fit",
        "Blanchard et al., Machine learning with adversaries, NeurIPS 2017: one part moves a mean "
        "anywhere",
        "each part carries its site's receipt; off with it: that a step of few rows is refused",
        "test_a_part_that_the_coordinator_made_up",
    ),
    (
        "A part of another step or job",
        "Dolev and Yao 1983, On the security of public key protocols: replay",
        "a receipt names job, step and release; off with it: that a step of few rows is refused",
        "test_a_part_said_elsewhere",
    ),
    (
        "Other sites in each step",
        "Bonawitz et al., CCS 2017, section 6.2: different sets of members",
        "the sites of a fit stay the same",
        "test_other_sites_in_each_step",
    ),
    (
        "Two stories told to two sites",
        "Bonawitz et al., CCS 2017, section 6.2: two lists of survivors",
        "each part names the parts that it follows from, one for all sites; off with it: that a "
        "step of few rows is refused",
        "test_two_stories_told_to_two_sites",
    ),
    (
        "A rare pair of levels, read off a model's sums",
        "Denning 1982, Cryptography and Data Security, section 6.2: small query sets",
        "a model's categories are declared jointly, pair by pair of its terms",
        "test_a_rare_pair_of_levels",
    ),
    (
        "Three categories solved from two steps",
        "Dinur and Nissim 2003, Revealing information while preserving privacy",
        "model_categories = all: every category of a model of several steps is declared with the "
        "others",
        "test_three_categories_from_two_steps",
    ),
    (
        "The score of a blocked regression",
        "DataSHIELD's known holes: a blocked fit still returns its score vector",
        "what the second table objects to leaves as a code and nothing else",
        "test_the_score_of_a_blocked_regression",
    ),
    (
        "A power or an offset that singles out the largest value",
        "Huth et al. 2023, as for covariance: weights of the analyst's",
        "powers are bounded and functions need declared counts; off with it: that a step of few "
        "rows is refused (offsets weigh nobody far above others)",
        "test_a_function_that_singles_out_one_value",
    ),
    (
        "A score of few values, its counts solved from a fit's steps",
        "Dinur and Nissim 2003, Revealing information while preserving privacy",
        "a number of few values in a block is declared with others as the category it is",
        "test_a_score_of_few_values",
    ),
    (
        "A fit that separates weighs the few who are nearest",
        "Albert and Anderson 1984, On the existence of maximum likelihood estimates in logistic "
        "regression models",
        "a step whose weights are those of few is refused, as one whose coefficients never end",
        "test_a_fit_that_separates",
    ),
    (
        "A row far from what is expected, read off squared residuals",
        "Huth et al. 2023, as for covariance; White 1980: sums of squared residuals",
        "nobody has more than a share of a figure of robust errors in any cell, and a linear model "
        "with them needs all its categories declared together and its numbers' shapes",
        "test_a_row_far_from_what_is_expected",
    ),
    (
        "A step at which an inverse link isn't defined",
        "Denning 1982, Cryptography and Data Security, section 6.2: an answer withheld tells",
        "it is refused as a step of few rows is; off with it: that a site works the coefficients "
        "out itself",
        "test_a_step_at_which_an_inverse_is_not_defined",
    ),
)
FELLOWS = ("minnesota", "mississippi")
STEEP, TARGET = -1.5, 0


@dataclass
class Fit:
    """A model under way at the node, led by a hostile coordinator with what fellows signed."""

    node: Node
    model: Model
    analysis: str = "main"
    release: str = ""
    job: Job = field(init=False)
    digest: str = ""
    code: str = ""

    def __post_init__(self) -> None:
        node, hospital = self.node, self.node.hospital
        project = hospital.trusted.projects["birth"].document
        work = StatisticsWork(
            ask=models.marginals(self.model, project),
            analysis=self.analysis,
            lane="exact",
            fit=self.model,
        )
        self.job = hospital.world.job(
            releases={"kentucky": self.release or node.release, **dict.fromkeys(FELLOWS, RELEASE)},
            issued_at=hospital.now,
            expires_at=hospital.now.replace(year=hospital.now.year, day=hospital.now.day + 1),
            project_version=node.version,
            nonce=f"{node.next_nonce():032x}",
            work=work,
        )
        self.digest = self.job.seal(JOB_TYPE).digest
        self.columns = models.check(work, project)
        envelope = hospital.world.sign(self.job, hospital.world.researchers["ana"])
        sealed = node.desk.offered(hospital.member, envelope)
        assert sealed is not None
        self.code = "" if sealed.message.decision.accepted else sealed.message.decision.code

    def signed(self, site: str, step: Step, payload: bytes, **changes: Any) -> wire.SignedPart:
        """A fellow's part, signed by that fellow."""
        said = {
            "job": self.digest,
            "task": step.task,
            "payload": hashlib.sha256(payload).hexdigest(),
            "payload_bytes": len(payload),
        }
        receipt = self.node.hospital.world.receipt(site, **{**said, **changes})
        return wire.SignedPart(payload=payload, receipt=receipt)

    def step(
        self, step: Step, told: Sequence[wire.SignedPart] = (), *, check: bool = False
    ) -> wire.FromNode:
        """Send a step, or what ends the fit; return what leaves."""
        payload = wire.ModelStep(parts=told, check=check).SerializeToString()
        task = wire.Task(job=self.digest, task=step.task, payload=payload)
        return self.node.desk.task(self.node.hospital.member, task, lambda *_: None).message

    def begin(self) -> wire.SignedPart:
        """Take the first step; return the node's part as it left."""
        said = self.step(Step(0)).reply
        assert said.payload
        return wire.SignedPart(payload=said.payload, receipt=said.receipt)

    def close(self) -> None:
        """End it, so that the next may begin."""
        self.node.desk.close(self.node.hospital.member, self.digest)


def harmless(width: int) -> bytes:
    """A fellow's honest part: of forty subjects, nothing special."""
    return of(Sums(40, np.eye(width) * 40, np.zeros(width), 40.0, 40.0))


def steering(beta: Sequence[float], told: bytes = b"", deviance: float = -1e300) -> bytes:
    """A part with so much information that a step goes to ``beta`` whatever the others say."""
    much = 1e60
    sums = Sums(40, np.eye(len(beta)) * much, np.array(beta) * much, deviance, 40.0)
    part = models.encode(sums)
    part.told = told
    return part.SerializeToString(deterministic=True)


def of(sums: Sums) -> bytes:
    return models.encode(sums).SerializeToString(deterministic=True)


def part_of(message: wire.FromNode) -> wire.ModelPart:
    return wire.ModelPart.FromString(message.reply.payload)


# ---- who chooses the coefficients ----------------------------------------------------------------

STEEP_MODEL = Model.model_validate({
    "family": "poisson",
    "outcome": "marker",
    "terms": [["age"]],
    "intercept": False,
})  # fmt: skip


def read_off(part: wire.ModelPart) -> float:
    """Return the marker of the oldest patient, known to be 88.

    Pearson's sum is that of (y - mu)^2 / mu, and mu is smallest by far where the age is largest.
    """
    return math.sqrt(part.pearson * math.exp(STEEP * 88))


def test_coefficients_that_weigh_one_row(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = np.array([STEEP])
    with monkeypatch.context() as undefended:
        undefended.setattr(ModelFit, "_check_shared", lambda *_: None)

        class Told(Place):
            beta = chosen  # type: ignore[assignment]

        at = OwnCoefficients.at
        undefended.setattr(
            OwnCoefficients,
            "at",
            lambda self, step, _: Told(step, at(self, step, b"").fitting, None),
        )
        fit = Fit(node, STEEP_MODEL)
        found = read_off(part_of(fit.step(Step(0))))
        assert found == pytest.approx(node.table[TARGET]["marker"], rel=1e-4)
        fit.close()
    fit = Fit(node, STEEP_MODEL)
    # What a step told once: coefficients, in the place where parts are now.
    told = chosen.tobytes()
    for payload in (b"\x0a\x08" + told, b"\x12\x08" + told):
        task = wire.Task(job=fit.digest, task="step-0", payload=payload)
        sealed = node.desk.task(node.hospital.member, task, lambda *_: None)
        assert sealed.message.failed.code == "malformed"
    assert read_off(part_of(fit.step(Step(0)))) < 1e-3  # at the fixed start
    fit.close()


def unsigned(payload: bytes, step: Step, terms: Terms, width: int) -> tuple[Any, ...] | Any:
    """``steps.verified`` of a node that believes what the coordinator says of receipts."""
    told = wire.ModelStep.FromString(payload)
    said = {
        Receipt.model_validate_json(Envelope.parse(p.receipt).body).site: p.payload
        for p in told.parts
    }
    return {site: said[site] for site in sorted(said)}


def test_a_part_that_the_coordinator_made_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def steered() -> wire.FromNode:
        fit = Fit(node, STEEP_MODEL)
        told, step = [fit.begin()], Step(1)
        made_up = Receipt.model_validate_json(
            Envelope.parse(fit.signed(FELLOWS[0], Step(0), steering([STEEP])).receipt).body
        ).sign(node.hospital.world.coordinator)
        told.append(wire.SignedPart(payload=steering([STEEP]), receipt=made_up))
        said = fit.step(step, told)
        fit.close()
        return said

    with monkeypatch.context() as undefended:
        undefended.setattr(ModelFit, "_check_shared", lambda *_: None)
        undefended.setattr(steps, "verified", unsigned)
        found = read_off(part_of(steered()))
        assert found == pytest.approx(node.table[TARGET]["marker"], rel=1e-3)
    said = steered()
    assert said.failed.code == "malformed"
    assert not said.reply.payload


def only_signed(part: wire.SignedPart, task: str, terms: Terms) -> str:
    """``steps.signed_by`` of a node that doesn't ask what a receipt is of."""
    return Receipt.verify(part.receipt, terms.roster).site


@pytest.mark.parametrize(
    "elsewhere",
    [{"task": "step-7"}, {"job": "12" * 32}, {"release": "34" * 32}],
    ids=["step", "job", "release"],
)
def test_a_part_said_elsewhere(
    node: Node, monkeypatch: pytest.MonkeyPatch, elsewhere: Mapping[str, str]
) -> None:
    """A fellow said this once, of other rows or at other coefficients; here it steers."""

    def steered() -> wire.FromNode:
        fit = Fit(node, STEEP_MODEL)
        replayed = fit.signed(FELLOWS[0], Step(0), steering([STEEP]), **elsewhere)
        said = fit.step(Step(1), [fit.begin(), replayed])
        fit.close()
        return said

    with monkeypatch.context() as undefended:
        undefended.setattr(ModelFit, "_check_shared", lambda *_: None)
        undefended.setattr(steps, "signed_by", only_signed)
        found = read_off(part_of(steered()))
        assert found == pytest.approx(node.table[TARGET]["marker"], rel=1e-3)
    assert steered().failed.code == "malformed"


def test_other_sites_in_each_step(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a choice at each step there are as many coefficients as there are sets of sites."""

    def ends() -> list[wire.FromNode]:
        found = []
        for second in (FELLOWS, FELLOWS[:1], ()):
            fit = Fit(node, STEEP_MODEL)
            told = [fit.begin(), *(fit.signed(s, Step(0), steering([0.0])) for s in FELLOWS)]
            said = fit.step(Step(1), told).reply
            own = wire.SignedPart(payload=said.payload, receipt=said.receipt)
            first = digest_of(
                {s: part.payload for s, part in zip(("kentucky", *FELLOWS), told, strict=True)}
            )
            pulls = [fit.signed(s, Step(1), steering([-0.001 * len(s)], first)) for s in second]
            found.append(fit.step(Step(2), [own, *pulls]))
            fit.close()
        return found

    with monkeypatch.context() as undefended:
        undefended.setattr(OwnCoefficients, "_check_sites", lambda *_, **__: None)
        assert len({message.reply.payload for message in ends()}) == 3
    all_of, one_of, none = ends()
    assert all_of.reply.payload
    assert [m.failed.code for m in (one_of, none)] == ["malformed", "malformed"]


def test_two_stories_told_to_two_sites(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fellow that was told of other sites answers at other coefficients."""

    def led(told_to_it: Mapping[str, bytes], pull: float = -0.02) -> wire.FromNode:
        fit = Fit(node, STEEP_MODEL)
        told = [fit.begin(), *(fit.signed(s, Step(0), steering([-0.01])) for s in FELLOWS)]
        said = fit.step(Step(1), told).reply
        own = wire.SignedPart(payload=said.payload, receipt=said.receipt)
        parts = {s: p.payload for s, p in zip(("kentucky", *FELLOWS), told, strict=True)}
        other = digest_of(parts | told_to_it)
        pulls = [fit.signed(s, Step(1), steering([pull], other, -1e301)) for s in FELLOWS]
        found = fit.step(Step(2), [own, *pulls])
        fit.close()
        return found

    lie = {FELLOWS[0]: harmless(1) + b"x"}
    with monkeypatch.context() as undefended:
        advanced = OwnCoefficients._advanced

        def credulous(self: Any, fitting: Any, parts: list[bytes], _: bytes) -> Any:
            bare = [wire.ModelPart.FromString(part) for part in parts]
            for part in bare:
                part.ClearField("told")
            return advanced(self, fitting, [part.SerializeToString() for part in bare], b"")

        undefended.setattr(OwnCoefficients, "_advanced", credulous)
        assert led(lie).reply.payload  # at coefficients of the coordinator's choice
        undefended.setattr(ModelFit, "_check_shared", lambda *_: None)
        found = read_off(part_of(led(lie, STEEP + 0.01)))
        assert found == pytest.approx(node.table[TARGET]["marker"], rel=1e-3)
    assert led(lie).failed.code == "malformed"
    assert led({}).reply.payload


# ---- what the sums tell --------------------------------------------------------------------------


def frozen(node: Node, name: str, table: Sequence[dict[str, Any]]) -> str:
    """A release of its own, one cell, with every variable in one analysis set."""
    hospital = node.hospital
    ingest_table(
        csv_of(table), SCHEMA, Pseudonyms(b"k" * 32), hospital.catalog, hospital.home, now=NOW
    )
    made = create_release(
        hospital.catalog,
        hospital.home,
        name,
        Selection(table="trial"),
        now=NOW,
        wishes=Wishes(
            strata=[],
            analyses={"main": ("arm", "sex", "ill", "age", "marker")},
            grids=GRIDS,
            minimums=Minimums(20, 10, 0.5),
        ),
    )
    hospital.catalog.grant(made.digest, hospital.world.consortium, "birth", NOW)
    return made.digest


def with_rare_pair() -> list[dict[str, Any]]:
    """Rows of whom one woman alone is ill; every level by itself is common."""
    found = rows()
    for row in found:
        row["sex"] = "f" if row["ill"] == "no" else "m"
        row["marker"] = row["marker"] or 50
    found[TARGET] |= {"sex": "f", "ill": "yes", "marker": 123.456}
    return found


def test_a_rare_pair_of_levels(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    release = frozen(node, "rare-pair", with_rare_pair())
    pair = Model.model_validate({
        "family": "linear",
        "outcome": "marker",
        "terms": [["sex"], ["ill"], ["sex", "ill"]],
    })  # fmt: skip
    apart = Model.model_validate({
        "family": "linear",
        "outcome": "marker",
        "terms": [["sex"], ["ill"]],
    })  # fmt: skip
    with monkeypatch.context() as undefended:
        undefended.setattr(modelling.Together, "check", lambda *_, **__: None)
        fit = Fit(node, apart, release=release)
        part = part_of(fit.step(Step(0)))
        fit.close()
        factor = np.zeros((4, 4))
        factor[np.triu_indices(4)] = part.information
        products = factor.T @ factor  # of (1, sex[m], ill[yes], marker)
        women_ill = products[0, 2] - products[1, 2]
        assert women_ill == pytest.approx(1)
        fit = Fit(node, pair, release=release)
        part = part_of(fit.step(Step(0)))
        fit.close()
        factor = np.zeros((5, 5))
        factor[np.triu_indices(5)] = part.information
        products = factor.T @ factor
        assert products[2, 4] - products[3, 4] == pytest.approx(123.456)
    for model in (pair, apart):
        assert Fit(node, model, release=release).code == "not-declared-together"


RARE = {"AfN": 90, "AfY": 60, "AmN": 60, "AmY": 60, "BfN": 60, "BfY": 60, "BmN": 57, "BmY": 3}
"""Each pair of levels is common, and one three is of three people."""


def of_sizes(sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    """Rows by arm, sex and illness."""
    found = []
    for kind, size in sizes.items():
        for i in range(size):
            arm, sex, ill = kind
            found.append({
                "pid": f"{kind}{i}",
                "arm": arm,
                "sex": sex,
                "age": 30 + i % 50,
                "marker": 20 + (7 * i) % 150,
                "ill": "yes" if ill == "Y" else "no",
            })  # fmt: skip
    return found


def test_three_categories_from_two_steps(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    release = frozen(node, "rare-three", of_sizes(RARE))
    model = Model.model_validate({
        "family": "poisson",
        "outcome": "marker",
        "terms": [["arm"], ["sex"], ["ill"]],
    })  # fmt: skip
    hospital, policy = node.hospital, node.hospital.policy
    laxer = policy.disclosure.model_copy(update={"model_categories": "pairs"})
    with monkeypatch.context() as heard_by:
        hospital.policy = policy.model_validate(
            policy.model_dump() | {"disclosure": laxer.model_dump()}
        )
        fit = Fit(node, model, release=release)
        own, betas = fit.begin(), []
        at = OwnCoefficients.at

        def heard(self: OwnCoefficients, step: Step, payload: bytes) -> Place:
            place = at(self, step, payload)
            betas.append(place.beta)  # which the coordinator works out as well
            return place

        heard_by.setattr(OwnCoefficients, "at", heard)
        told, step = [own], Step(0)
        while not betas or not betas[-1][1:].any():
            step = Step(step.number + 1)
            said = fit.step(step, told).reply
            told = [wire.SignedPart(payload=said.payload, receipt=said.receipt)]
        fit.close()
        first, later = (
            symmetric(wire.ModelPart.FromString(p)) for p in (own.payload, told[0].payload)
        )
        pair = first[1, 2]  # at the start every weight is one: B and m, whatever else
        base, arm, sex, ill = betas[-1]
        weighed = later[1, 2] / math.exp(base + arm + sex)
        assert (weighed - pair) / (math.exp(ill) - 1) == pytest.approx(3, rel=1e-6)
    hospital.policy = policy
    assert policy.disclosure.model_categories == "all"
    assert Fit(node, model, release=release).code == "not-declared-together"


def symmetric(part: wire.ModelPart) -> np.ndarray[Any, np.dtype[np.float64]]:
    width = round((math.sqrt(8 * len(part.information) + 1) - 1) / 2)
    square = np.zeros((width, width))
    square[np.triu_indices(width)] = part.information
    return np.asarray(square + np.triu(square, 1).T)


def test_the_score_of_a_blocked_regression(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model has too many coefficients for those with an age and a marker, not for all."""
    marker = Statistic(kind="moments", variable="marker")
    whole = moments(node.ask(marker, analysis="main", lane="exact"))
    policy = node.hospital.policy
    need = whole.n // 2 + 1
    assert 2 * need <= len(node.table) > whole.n
    values = policy.model_dump()
    values["disclosure"]["subjects_per_coefficient"] = need
    node.hospital.policy = policy.model_validate(values)
    model = Model.model_validate({"family": "poisson", "outcome": "marker", "terms": [["age"]]})
    try:
        with monkeypatch.context() as undefended:
            undefended.setattr(MinimumCohort, "check", lambda *_: None)
            fit = Fit(node, model)
            part = part_of(fit.step(Step(0)))
            # The score at the start is the sum of y - 1: the total, which was to be blocked.
            assert part.score[0] + part.n == pytest.approx(whole.n * whole.mean)
            fit.close()
        fit = Fit(node, model)
        said = fit.step(Step(0))
        fit.close()
    finally:
        node.hospital.policy = policy
    assert said.WhichOneof("body") == "failed"
    bare = wire.TaskFailed(job=fit.digest, task="step-0", code="small-cell")
    assert said.failed.SerializeToString() == bare.SerializeToString()


@pytest.mark.parametrize(
    "model",
    [
        {"terms": [[{"form": "power", "variable": "age", "power": 10, "shift": 55}]]},
        {"family": "poisson", "terms": [], "offset": [{"form": "value", "variable": "age"}]},
    ],
    ids=["power", "offset"],
)
def test_a_function_that_singles_out_one_value(
    node: Node, monkeypatch: pytest.MonkeyPatch, model: dict[str, Any]
) -> None:
    """The oldest has nearly all of a sum of high powers, or of exponentials, of ages."""
    asked = Model.model_validate({"family": "linear", "outcome": "marker"} | model)
    with monkeypatch.context() as undefended:
        undefended.setattr(ModelFit, "_check_shared", lambda *_: None)
        undefended.setattr(modelling.Together, "check", lambda *_, **__: None)
        fit = Fit(node, asked)
        part = part_of(fit.step(Step(0)))
        fit.close()
        if asked.family == "poisson":  # the sum of exp(age)
            oldest = math.log(part.information[0])
        else:
            factor = np.zeros((3, 3))
            factor[np.triu_indices(3)] = part.information
            oldest = 55 + (factor.T @ factor)[1, 1] ** (1 / 20)
        assert oldest == pytest.approx(node.table[TARGET]["age"], abs=0.2)
    assert Fit(node, asked).code in ("not-declared-together", "not-in-dictionary")


def test_what_is_declared_is_fitted(node: Node) -> None:
    """Else the defences above would be those of a gate that lets nothing through."""
    release = frozen(node, "declared", of_sizes(RARE | {"BmY": 40}))
    for family, outcome, terms in (
        ("linear", "marker", [["age"], ["sex"], ["ill"]]),
        ("logistic", "ill", [["age"], ["marker"]]),
        ("poisson", "marker", [["age"], ["arm"]]),
        ("logistic", "ill", [["arm"], ["sex"], ["age"]]),
    ):
        model = Model.model_validate({"family": family, "outcome": outcome, "terms": terms})
        fit = Fit(node, model, release=release)
        assert fit.code == ""
        assert part_of(fit.step(Step(0))).n > 300
        fit.close()
    ages = node.ask(Statistic(kind="levels", variable="ill"), lane="exact")
    assert counts(ages).n > 300


Manipulation = Callable[[Fit, wire.SignedPart], Sequence[wire.SignedPart]]


@pytest.mark.parametrize(
    "manipulate",
    [
        lambda fit, own: [],
        lambda fit, own: [own, own],
        lambda fit, own: [fit.signed("kentucky", Step(0), harmless(1))],
        lambda fit, own: [own] * 2000,
    ],
    ids=["nothing", "twice", "another of ours", "a flood"],
)
def test_a_step_without_the_nodes_own_part_is_not_taken(
    node: Node, manipulate: Manipulation
) -> None:
    fit = Fit(node, STEEP_MODEL)
    own = fit.begin()
    assert fit.step(Step(1), manipulate(fit, own)).failed.code == "malformed"
    fit.close()


# ---- few values, and few rows --------------------------------------------------------------------


def walked(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, wire.ModelPart]]:
    """Lead a fit of this node alone to its end; return coefficients and what it said at each."""
    heard: list[tuple[Any, wire.ModelPart]] = []
    with monkeypatch.context() as hearing:
        made = ModelFit._made

        def hear(self: ModelFit, rows: Any, beta: Any, payload: bytes) -> wire.ModelPart:
            part = made(self, rows, beta, payload)
            heard.append((beta, part))
            return part

        hearing.setattr(ModelFit, "_made", hear)
        step, told = Step(0), list[wire.SignedPart]()
        while step.number < 12:
            message = fit.step(step, told)
            if message.WhichOneof("body") == "failed":
                fit.code = message.failed.code
                break
            said = message.reply
            told = [wire.SignedPart(payload=said.payload, receipt=said.receipt)]
            step = Step(step.number + 1)
    fit.close()
    return heard


def with_scores() -> list[dict[str, Any]]:
    """Rows whose age is a score of eleven values, of which two patients have the highest."""
    rng = np.random.default_rng(3)
    found = of_sizes({"AfN": 80, "AmN": 75, "BfY": 75, "BmY": 80})
    for i, row in enumerate(found):
        score = 10 if i < 2 else int(rng.integers(0, 10))
        row |= {"age": score + 25, "ill": "yes" if rng.normal(score, 3) > 5 else "no"}
    return found


def test_a_score_of_few_values(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model.model_validate({"family": "logistic", "outcome": "ill", "terms": [["age"]]})
    table = with_scores()
    with monkeypatch.context() as undefended:
        undefended.setattr(multiplying, "FEWEST_WEIGHED", 0)
        fit = Fit(node, model, release=frozen(node, "scores-1", table))
        values = np.arange(25.0, 36.0)
        equations: list[Any] = []
        for beta, part in walked(fit, monkeypatch):
            weights = 1 / (2 + 2 * np.cosh(beta[0] + beta[1] * values))
            equations += [
                (weights * (values - 30) ** power, told)
                for power, told in enumerate(centred(symmetric(part)))
            ]
        left = np.array([one for one, _ in equations])
        solved = np.linalg.lstsq(left, np.array([told for _, told in equations]), rcond=1e-15)[0]
        assert round(solved[-1]) == 2
        counts = np.bincount([row["age"] - 25 for row in table], minlength=11)
        assert solved == pytest.approx(counts, abs=0.4)
    fit = Fit(node, model, release=frozen(node, "scores-2", [*table, table[-1] | {"pid": "z"}]))
    assert fit.code == "not-declared-together"


def centred(information: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float, float]:
    """Return the sums of weights, and of weights times age less 30 and its square."""
    n, first, second = information[0, 0], information[0, 1], information[1, 1]
    return n, first - 30 * n, second - 60 * first + 900 * n


def test_a_fit_that_separates(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is ill is known by the age alone: each step weighs fewer rows about the cut."""
    table = of_sizes({"AfN": 100, "AmN": 100, "BfN": 100, "BmN": 100})
    for i, row in enumerate(table):
        row |= {"age": 30 + i % 50, "ill": "yes" if i % 50 >= 25 else "no"}
    release = frozen(node, "separated", table)
    model = Model.model_validate({"family": "logistic", "outcome": "ill", "terms": [["age"]]})

    def fewest(fit: Fit) -> float:
        """Return the least effective number of subjects of a step that was answered."""
        found = []
        ages = np.array([row["age"] for row in table])
        for beta, _ in walked(fit, monkeypatch):
            weights = 1 / (2 + 2 * np.cosh(np.clip(beta[0] + beta[1] * ages, -300, 300)))
            found.append(float(weights.sum() ** 2 / (weights @ weights)))
        return min(found)

    with monkeypatch.context() as undefended:
        undefended.setattr(ModelFit, "_check_shared", lambda *_: None)
        assert fewest(Fit(node, model, release=release)) < 20
    fit = Fit(node, model, release=release)
    assert fewest(fit) >= 20
    assert fit.code == "malformed"


def test_a_row_far_from_what_is_expected(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sums of squared residuals differ by that of the men in arm A, above all by one man's."""
    table = of_sizes({"AfN": 90, "AmN": 40, "BfN": 90, "BmN": 280})
    for i, row in enumerate(table):
        row["marker"] = 98 + (7 * i) % 61 / 15
    table[100]["marker"] = 110  # of a man in arm A
    release = frozen(node, "far", table)
    model = Model.model_validate(
        {"family": "linear", "outcome": "marker", "terms": [["arm"], ["sex"]], "robust": "HC0"}
    )

    def asked() -> tuple[wire.FromNode, Any]:
        fit = Fit(node, model, release=release)
        own = fit.begin()
        factor = np.zeros((4, 4))
        factor[np.triu_indices(4)] = wire.ModelPart.FromString(own.payload).information
        said = fit.step(Step(1), [own], check=True)
        fit.close()
        return said, np.linalg.solve(factor[:3, :3], factor[:3, 3])

    # One man has most of a sum of fourth powers, so the manifest alone forbids it.
    assert Fit(node, model, release=release).code == "not-declared-together"
    monkeypatch.setattr(modelling.Together, "check_shapes", lambda _: None)
    with monkeypatch.context() as undefended:
        undefended.setattr(ending, "_codes", lambda _, held: np.zeros(len(held), np.int64))
        said, (base, _, men) = asked()
        squares = np.zeros((3, 3))
        squares[np.triu_indices(3)] = part_of(said).ending.squares
        far = math.sqrt(squares[2, 2] - squares[1, 2])
        assert base + men + far == pytest.approx(110, rel=0.03)
    said, _ = asked()
    assert said.failed.code == "few-scores"
    fit = Fit(node, model, release=release)
    own = fit.begin()
    assert fit.step(Step(1), [own]).failed.code == "out-of-order"  # it has no second step
    fit.close()
    # What a linear model needs for its sums isn't enough for squared residuals.
    rare = frozen(node, "rare-residuals", of_sizes(RARE))
    three = {"family": "linear", "outcome": "marker", "terms": [["arm"], ["sex"], ["ill"]]}
    fit = Fit(node, Model.model_validate(three), release=rare)
    assert fit.code == ""
    fit.close()
    robustly = Model.model_validate(three | {"robust": "HC1"})
    assert Fit(node, robustly, release=rare).code == "not-declared-together"


def test_a_step_at_which_an_inverse_is_not_defined(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a part can't be made says that somebody's marker is above a number."""
    model = Model.model_validate(
        {"family": "gamma", "link": "inverse", "outcome": "age", "terms": [["marker"]]}
    )
    highest = max(row["marker"] for row in node.table if row["marker"])

    def at(cut: float) -> wire.FromNode:
        class Told(Place):
            beta = np.array([1.0, -1 / cut])  # type: ignore[assignment]

        with monkeypatch.context() as chosen:
            heard = OwnCoefficients.at
            chosen.setattr(
                OwnCoefficients,
                "at",
                lambda self, step, _: Told(step, heard(self, step, b"").fitting, None),
            )
            fit = Fit(node, model)
            found = fit.step(Step(0))
        fit.close()
        return found

    with monkeypatch.context() as undefended:
        undefended.setattr(ModelFit, "_check_shared", lambda *_: None)
        told = [part_of(at(cut)).deviance >= IMPOSSIBLE for cut in (highest - 1, highest + 1)]
        assert told == [True, False]
    # Neither is answered: where one row is near the cut it weighs more than all others.
    assert [at(cut).failed.code for cut in (highest - 1, highest + 1)] == ["malformed"] * 2


def test_a_model_of_which_a_variable_is_withheld_is_refused_before_work(node: Node) -> None:
    """The release's set has no sex, so nothing of it is answered there."""
    model = Model.model_validate(
        {"family": "linear", "outcome": "marker", "terms": [["age"], ["sex"]]}
    )
    assert Fit(node, model).code == "not-declared"
