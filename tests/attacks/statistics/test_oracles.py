"""What a refusal, a form, a grid, another user or a restart gives away.

Each attack first succeeds without its defence, in the same test.
"""

from __future__ import annotations

import numpy as np
import pytest

from contract import wire_pb2 as wire
from contract.cohorts import Cohort
from contract.dictionary import Variable
from contract.statistics.summaries import Counts
from contract.work import Statistic
from node.catalog.declaring import Minimums, Wishes, declare
from node.catalog.strata import Categories, Held, StratumWish
from node.gate import exact
from tests.attacks.statistics.conftest import Node, counts, moments, rows, total

ATTACKS = (
    (
        "Cohort-size probes",
        "Denning 1982, Cryptography and Data Security, section 6.2: query-set-size control tells",
        "lane and refusal follow from manifest and question alone",
        "test_growing_a_cohort_until_it_is_answered",
    ),
    (
        "Denial as an oracle",
        "Kenthapadi, Mishra and Nissim 2005, Simulatable auditing",
        "lane and refusal follow from manifest and question alone",
        "test_a_refusal_for_one_looks_like_that_for_none_and_for_one_too_few",
    ),
    (
        "Histogram complement",
        "Hundepool et al. 2012, Statistical Disclosure Control, section 5.2",
        "bins are exact only where each that occurs is large in every piece",
        "test_a_histogram_less_another",
    ),
    (
        "Moved histogram edges",
        "DataSHIELD's known holes: edges from the analyst",
        "a release has one grid for all projects",
        "test_edges_moved_by_another_project",
    ),
    (
        "A total that is mostly one subject's",
        "Hundepool et al. 2012, Statistical Disclosure Control, section 4.2 (dominance)",
        "sums that one subject dominates aren't told",
        "test_a_total_that_is_mostly_one_subjects",
    ),
    (
        "Differencing by several users and after restarts",
        "Dinur and Nissim 2003, Revealing information while preserving privacy",
        "the declaration is in the release, not in anybody's session",
        "test_other_users_and_restarts_find_nothing_more",
    ),
)

MARKER = Statistic(kind="moments", variable="marker")
ILL = Statistic(kind="levels", variable="ill")
BINS = Statistic(kind="histogram", variable="marker")
FEMALE = Cohort(variable="sex", levels=("f",))


def older(age: int) -> Cohort:
    """Those of at least an age."""
    return Cohort(variable="age", at_least=age)


def told(node: Node, cohort: Cohort) -> bytes:
    """What leaves for a question, without the job's digest."""
    message = node.message(MARKER, cohort=cohort, lane="exact")
    for field in ("decision", "failed", "reply"):
        if message.HasField(field):  # type: ignore[arg-type]
            getattr(message, field).job = ""
    return message.SerializeToString(deterministic=True)


def test_growing_a_cohort_until_it_is_answered(node: Node) -> None:
    """The age at which a cohort becomes large enough tells how many are older."""
    ages = range(60, 95)
    first = [node.undefended(MARKER, cohort=older(age)) is not None for age in ages]
    assert True in first
    assert False in first
    at = first.index(False)
    rows = [row for row in node.table if row["age"] >= ages[at - 1] and row["marker"] != ""]
    assert 20 <= len(rows) < 30  # so many: the attacker learns it to a few
    assert len({told(node, older(age)) for age in ages}) == 1


def test_a_refusal_for_one_looks_like_that_for_none_and_for_one_too_few(node: Node) -> None:
    """Is there somebody of 88? Whether the rest is withheld says so, by a rule that counts."""

    def there(age: int) -> bool:
        everybody = node.undefended(ILL)
        rest = node.undefended(ILL, cohort=~older(age))
        return counts(everybody).n != counts(rest).n

    assert there(88)
    assert not there(89)
    numbers = {sum(row["age"] >= age for row in node.table) for age in (89, 88, 79)}
    assert {0, 1} <= numbers
    said = {told(node, older(age)) for age in (89, 88, 79)}
    said |= {told(node, ~older(age)) for age in (89, 88, 79)}
    assert len(said) == 1
    assert len({len(text) for text in said}) == 1


def test_zero_one_and_one_too_few_in_a_cell_leave_the_same_bytes() -> None:
    """The declaration is the same, and so is all that follows from it."""
    seen = set()
    for few in (0, 1, 19):
        sex = np.array([0] * 100 + [1] * 100 + [2] * few)
        held: Held = {
            "sex": Categories(sex, ("f", "m", "x")),
            "age": np.linspace(20, 80, sex.size),
        }
        made = declare(
            held,
            [f"{i:06x}" for i in range(sex.size)],
            Wishes(strata=[StratumWish("sex")], minimums=Minimums(20, 10, 0.5)),
        )
        seen.add(made.declaration.model_dump_json())
    assert len(seen) == 1


def test_a_histogram_less_another(node: Node) -> None:
    """Which quarter the target's marker is in: all less those who are younger."""
    before = counts(node.undefended(BINS)).counts
    rest = counts(node.undefended(BINS, cohort=~older(85))).counts
    assert [a - b for a, b in zip(before, rest, strict=True)] == [0, 0, 1, 0]
    assert node.ask(BINS, cohort=~older(85)) is None
    # What is answered is of cells, whose bins hold at least ten each.
    for cohort in (None, FEMALE):
        found = node.ask(BINS, cohort=cohort)
        if found is not None:
            assert all(n == 0 or n >= 10 for n in counts(found).counts)


def test_edges_moved_by_another_project(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two grids, one a little narrower: the bins' difference holds few, here the target alone."""
    values = np.array([float(row["marker"] or "nan") for row in node.table])
    wide = Variable(name="marker", kind="number", minimum=0, maximum=200, bins=2)
    for width in np.linspace(0.001, 40, 4000):
        moved = Variable(name="marker", kind="number", minimum=0, maximum=2 * (100 + width), bins=2)
        first = Counts.of_histogram(values, wide).counts[0]
        if Counts.of_histogram(values, moved).counts[0] - first == 1:
            break
    else:
        pytest.fail("no edge singles anybody out")
    fixed = counts(node.ask(BINS, lane="exact")).counts
    hospital = node.hospital
    project = hospital.trusted.projects["birth"].document
    variables = tuple(moved if v.name == "marker" else v for v in project.variables)
    hospital.settle(hospital.world.signed_project(3, variables=variables))
    node.version = 3
    try:
        with monkeypatch.context() as off:
            off.setattr(exact, "_is_grid", lambda *_: True)
            found = counts(node.ask(BINS, lane="exact")).counts
        assert min(found) >= 10
        assert found[0] - (fixed[0] + fixed[1]) == 1
        assert node.message(BINS, lane="exact").decision.code == "not-declared"
    finally:
        hospital.settle(hospital.world.signed_project(4, variables=project.variables))
        node.version = 4


def test_a_total_that_is_mostly_one_subjects(node: Node) -> None:
    """One value so large that the total is that value, to three digits."""
    table = rows()
    for number, row in enumerate(table):
        row["marker"] = 123.456 if number == 0 else round(0.00001 * (number + 1), 6)
    before = node.release
    try:
        # Off: one subject may have any share of a sum.
        node.release = node.freeze(table, "dominated", Minimums(20, 10, 1.0))
        assert total(moments(node.ask(MARKER, lane="exact"))) == pytest.approx(123.456, abs=1)
        node.release = node.freeze(table, "not-dominated")
        assert node.message(MARKER, lane="exact").decision.code == "not-declared"
        size = Statistic(kind="count", variable="marker")
        assert counts(node.ask(size, lane="exact")).n > 300
    finally:
        node.release = before


def test_other_users_and_restarts_find_nothing_more(node: Node) -> None:
    """A check of overlaps that a process keeps for each user forgets and sees only its own."""
    one = moments(node.undefended(MARKER, cohort=FEMALE))
    node.restart()  # as another user, or after a restart
    other = moments(node.undefended(MARKER, cohort=FEMALE & ~older(85)))
    assert one.n - other.n == 1
    assert one.n * one.mean - other.n * other.mean == pytest.approx(123.456, abs=1e-6)
    first = moments(node.ask(MARKER, cohort=FEMALE))
    assert node.ask(MARKER, cohort=FEMALE & ~older(85)) is None
    node.restart()
    assert node.ask(MARKER, cohort=FEMALE & ~older(85)) is None
    assert moments(node.ask(MARKER, cohort=FEMALE)) == first
    assert isinstance(node.message(MARKER, cohort=FEMALE), wire.FromNode)
