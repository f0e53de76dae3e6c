"""What questions tell, asked over the link of a node with real releases.

Each attack first succeeds without its defence, at the same node, in the same test.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from contract import wire_pb2 as wire
from contract.cohorts import Cohort
from contract.documents import Project
from contract.envelope import Envelope
from contract.models import Model
from contract.statistics import models
from contract.statistics.summaries import Counts, Moments
from contract.work import Statistic
from node.catalog.declaring import Minimums, Wishes
from node.catalog.releases import create_release
from node.catalog.selection import Selection
from node.catalog.store import Catalog
from node.catalog.strata import StratumWish
from tests.attacks.link.siege import VARIABLES, Siege, digest
from tests.end_to_end.federation import PROJECT, SUBJECTS, records, take_in, write_csv, write_schema
from tests.end_to_end.hostile import SITE, now

ATTACKS = (
    (
        "Pairwise differencing",
        "Adam and Wortmann 1989, Security-control methods for statistical databases, section 3",
        "exact answers are of unions of declared cells",
        "test_two_cohorts_that_differ_by_one_patient",
    ),
    (
        "Individual tracker",
        "Schlörer 1975; Denning 1982, Cryptography and Data Security, section 6.3.2",
        "exact answers are of unions of declared cells",
        "test_a_tracker_of_one_patients_outcome",
    ),
    (
        "Averaging by asking again",
        "Dinur and Nissim 2003; DataSHIELD's known holes",
        "an answer with noise is kept and given again",
        "test_asking_again_averages_nothing_out",
    ),
    (
        "A rare pair of levels, read off a regression's sums",
        "Denning 1982, Cryptography and Data Security, section 6.2: small query sets",
        "a model's categories are declared jointly, pair by pair of its terms",
        "test_a_rare_pair_of_levels_is_in_no_regressions_sums",
    ),
    (
        "Budget reset by a restored catalogue",
        "Matetic et al. 2017, ROTE: Rollback Protection for Trusted Execution",
        "the account takes up what the ledger says was spent",
        "test_a_restored_catalogue_gives_nothing_back_of_the_account",
    ),
    (
        "Cohort-size probes and denial as an oracle, by the bytes that leave",
        "Kenthapadi, Mishra and Nissim 2005, Simulatable auditing",
        "lane, refusal and form follow from manifest and question alone",
        "test_none_one_and_one_too_few_leave_the_same_bytes",
    ),
    (
        "Denial as an oracle: a dictionary that lacks a level",
        "Kenthapadi, Mishra and Nissim 2005, Simulatable auditing",
        "whether a release fits a dictionary is decided by its manifest, before anything is spent",
        "test_a_level_that_a_newer_dictionary_lacks_tells_of_nobody",
    ),
)
OLDEST = max(records(SITE, 0, few=False), key=lambda row: int(str(row["age"])))
"""The one whom the attacker knows to be the oldest."""
REST = Cohort(variable="age", at_least=0, below=float(str(OLDEST["age"])))
IN_THE_ARM = Cohort(variable="arm", levels=(str(OLDEST["arm"]),))
WEIGHT = Statistic(kind="moments", variable="weight")
OUTCOME = Statistic(kind="levels", variable="outcome")
COUNT = Statistic(kind="count", variable="age")
K = 10
"""The policy's minimum cohort."""


def moments(parts: Any) -> Moments:
    assert parts is not None
    found = parts[0].groups[""]
    assert isinstance(found, Moments)
    return found


def counts(parts: Any) -> Counts:
    assert parts is not None
    found = parts[0].groups[""]
    assert isinstance(found, Counts)
    return found


def test_two_cohorts_that_differ_by_one_patient(siege: Siege) -> None:
    with siege.off("cells"):
        everybody = moments(siege.parts(WEIGHT))
        rest = moments(siege.parts(WEIGHT, cohort=REST))
    assert everybody.n - rest.n == 1
    learned = everybody.n * everybody.mean - rest.n * rest.mean
    assert learned == pytest.approx(float(str(OLDEST["weight"])), abs=1e-6)

    assert moments(siege.parts(WEIGHT, lane="exact")).n == SUBJECTS
    assert siege.said(siege.question(WEIGHT, cohort=REST, lane="exact")) == "not-declared"


def test_a_tracker_of_one_patients_outcome(siege: Siege) -> None:
    """All of an arm, less those of it who aren't the oldest: large cohorts, both of them."""
    with siege.off("cells"):
        arm = counts(siege.parts(OUTCOME, cohort=IN_THE_ARM))
        others = counts(siege.parts(OUTCOME, cohort=IN_THE_ARM & REST))
    learned = [a - b for a, b in zip(arm.counts, others.counts, strict=True)]
    assert learned == [int(level == OLDEST["outcome"]) for level in ("no", "yes")]

    for cohort in (IN_THE_ARM & REST, IN_THE_ARM & ~REST, ~(IN_THE_ARM & REST)):
        assert siege.said(siege.question(OUTCOME, cohort=cohort, lane="exact")) == "not-declared"


def test_asking_again_averages_nothing_out(siege: Siege) -> None:
    def ask(times: int) -> list[int]:
        asked = [siege.parts(COUNT, cohort=~REST, lane="dp") for _ in range(times)]
        return [counts(parts).n for parts in asked]

    with siege.off("draws"):
        drawn = ask(25)
    assert len(set(drawn)) > 1
    assert abs(statistics.mean(drawn) - 1) < 0.8  # how many are the oldest

    assert len(set(ask(5))) == 1


@pytest.mark.slow
def test_a_restored_catalogue_gives_nothing_back_of_the_account(siege: Siege) -> None:
    def remaining(age: int) -> float:
        """Ask what wasn't asked before; what the project may still spend."""
        question = siege.question(COUNT, cohort=Cohort(variable="age", at_least=age), lane="dp")
        answer = wire.StatisticsAnswer.FromString(siege.offer(question).reply.payload)
        assert answer.account.spent > 0
        return answer.account.remaining

    before = remaining(31)
    siege.back_up()
    after = remaining(32)
    assert after < before
    with siege.off("account"):
        siege.restore()
        again = remaining(33)  # as if the second had never been asked
        assert again == pytest.approx(after, rel=0, abs=1e-6)

    siege.restore()
    assert remaining(34) < again


def test_a_rare_pair_of_levels_is_in_no_regressions_sums(siege: Siege) -> None:
    """All of arm A have the outcome, and of arm B the target alone, whose age the sums tell."""
    table = records(SITE, 0, few=False)
    for row in table:
        row["outcome"] = "yes" if row["arm"] == "A" else "no"
    table[int(np.argmax([int(str(row["age"])) for row in table]))] |= {"arm": "B", "outcome": "yes"}
    folder = siege.root / "rare-pair"
    folder.mkdir()
    home = siege.victim.home
    take_in(home.root, write_csv(folder / "trial.csv", table), write_schema(folder))
    wishes = Wishes(
        strata=[], analyses={"main": ("arm", "outcome", "age")}, minimums=Minimums(K, 5, 0.9)
    )
    with Catalog.open(home) as catalog:
        release = create_release(
            catalog, home, "pair", Selection(table="trial"), now=now(), wishes=wishes
        ).digest
        catalog.grant(release, siege.victim.name, PROJECT, now())
    terms = [["arm"], ["outcome"], ["arm", "outcome"]]
    model = Model.model_validate({"family": "linear", "outcome": "age", "terms": terms})
    ask = models.marginals(model, Project.read(Envelope.parse(siege.agreed).body))

    def question() -> bytes:
        return siege.question(*ask, release=release, analysis="main", lane="exact", fit=model)

    with siege.off("together"):
        job = question()
        assert siege.said(job) == "accepted"
        said = siege.task(digest(job), "step-0", wire.ModelStep().SerializeToString())
        siege.end(digest(job))
    factor = np.zeros((5, 5))
    factor[np.triu_indices(5)] = wire.ModelPart.FromString(said.reply.payload).information
    products = factor.T @ factor  # of (1, arm[B], outcome[yes], both, age)
    assert products[0, 3] == pytest.approx(1)
    assert products[3, 4] == pytest.approx(int(str(OLDEST["age"])))

    assert siege.said(question()) == "not-declared-together"


# ---- what the bytes tell -------------------------------------------------------------------------


def rows(few: int) -> list[dict[str, object]]:
    """As many patients in all, of whom so many have the rare finding; of some it isn't known.

    Neither they nor those are enough for a cell.
    """
    found = records(SITE, 0, few=False)
    for number, row in enumerate(found):
        row["rare"] = "no" if number >= K - 1 else "yes" if number < few else ""
    return found


@pytest.fixture(scope="module")
def releases(siege: Siege) -> list[str]:
    """Three releases that differ in a small cell alone: it holds nobody, one, one too few."""
    home = siege.victim.home
    made = []
    for few in (0, 1, K - 1):
        folder = siege.root / f"few-{few}"
        folder.mkdir()
        take_in(home.root, write_csv(folder / "trial.csv", rows(few)), write_schema(folder))
        with Catalog.open(home) as catalog:
            wishes = Wishes(
                strata=[StratumWish("arm"), StratumWish("rare")],
                analyses={"main": ("age", "weight")},
                minimums=Minimums(K, 5, 0.9),
            )
            row = create_release(
                catalog, home, "few", Selection(table="trial"), now=now(), wishes=wishes
            )
            catalog.grant(row.digest, siege.victim.name, PROJECT, now())
        made.append(row.digest)
    assert len(set(made)) == 3
    return made


def corpus() -> Iterator[tuple[tuple[Statistic, ...], dict[str, Any]]]:
    """Questions around the small cell, and others."""
    rare, known = (Cohort(variable="rare", levels=(level,)) for level in ("yes", "no"))
    a = Cohort(variable="arm", levels=("A",))
    old = Cohort(variable="age", at_least=50)
    for cohort in (None, rare, ~rare, known, ~known, a, a & rare, a & known, a | rare, old):
        yield (COUNT, WEIGHT), {"cohort": cohort}
    for cohort in (None, ~rare, known, a):
        yield (Statistic(kind="levels", variable="rare"),), {"cohort": cohort}
    for by in ("arm", "rare", "outcome"):
        yield (Statistic(kind="moments", variable="age", by=by), OUTCOME), {}
        yield (Statistic(kind="levels", variable="rare", by=by),), {"cohort": a}
    yield (Statistic(kind="count", variable="rare"), Statistic(kind="count", variable="age")), {}
    yield (WEIGHT,), {"analysis": "main"}
    yield (WEIGHT, COUNT), {"analysis": "main", "cohort": rare}
    yield (Statistic(kind="histogram", variable="age"),), {"cohort": a}


def noisy() -> Iterator[tuple[tuple[Statistic, ...], dict[str, Any]]]:
    """Questions that are answered with noise."""
    rare = Cohort(variable="rare", levels=("yes",))
    for cohort in (rare, ~rare):
        yield (COUNT, WEIGHT), {"cohort": cohort}
    yield (Statistic(kind="levels", variable="outcome", by="rare"),), {}


def left(siege: Siege, release: str, ask: tuple[Statistic, ...], terms: dict[str, Any]) -> bytes:
    """Return what leaves for a question, without names of job and release, place and time."""
    message = siege.offer(siege.question(*ask, release=release, **terms))
    told = wire.FromNode()
    told.CopyFrom(message)
    if message.HasField("reply"):
        told.reply.job = ""
        receipt = json.loads(Envelope.parse(message.reply.receipt).body)
        for name in ("job", "release", "time", "ledger_sequence", "ledger_head"):
            assert receipt.pop(name)
        told.reply.receipt = json.dumps(receipt, sort_keys=True).encode()
    elif message.HasField("decision"):
        told.decision.job = ""
    else:
        told.failed.job = ""
    return told.SerializeToString(deterministic=True)


def form(message: bytes) -> object:
    """Return all of what leaves but the numbers with noise."""
    told = wire.FromNode.FromString(message)
    if not told.HasField("reply"):
        return message
    answer = wire.StatisticsAnswer.FromString(told.reply.payload)
    return [
        (part.withheld, part.lane, [group.level for group in part.groups]) for part in answer.parts
    ]


def test_none_one_and_one_too_few_leave_the_same_bytes(siege: Siege, releases: list[str]) -> None:
    ask, terms = (COUNT,), {"cohort": ~Cohort(variable="rare", levels=("yes",)), "lane": "exact"}
    with siege.off("cells"):
        assert len({left(siege, release, ask, terms) for release in releases}) == 3

    answered = 0
    for ask, terms in corpus():
        told = {left(siege, release, ask, terms | {"lane": "exact"}) for release in releases}
        assert len(told) == 1, (ask, terms)
        answered += wire.FromNode.FromString(told.pop()).HasField("reply")
    assert answered > 5
    for ask, terms in noisy():
        forms = [form(left(siege, release, ask, terms | {"lane": "dp"})) for release in releases]
        assert forms[0] == forms[1] == forms[2], (ask, terms)


def test_a_level_that_a_newer_dictionary_lacks_tells_of_nobody(
    siege: Siege, releases: list[str]
) -> None:
    """Has anybody the level? Who has, makes the answer fail; and the account is charged for it."""
    fewer = tuple(
        v.model_copy(update={"levels": ("no",)}) if v.name == "rare" else v for v in VARIABLES
    )
    ask = Statistic(kind="count", variable="rare")
    siege.coordinator.publish(b"", siege.project(variables=fewer))

    def said() -> list[str]:
        return [
            siege.said(siege.question(ask, release=release, lane="dp")) for release in releases[:2]
        ]

    def spent() -> int:
        return len(siege.entries("spent"))

    before = spent()
    with siege.off("fitting"):
        assert said() == ["reply", "data"]
    assert spent() - before == 2

    assert said() == ["does-not-fit", "does-not-fit"]
    assert spent() - before == 2
    siege.coordinator.publish(b"", siege.project())
