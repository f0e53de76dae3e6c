"""Tables of two variables, each with large counts only, that together tell of one patient.

Each attack first succeeds without its defence, in the same test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from contract.statistics.answers import Part
from contract.work import Statistic
from node.catalog.declaring import Minimums, Wishes
from node.catalog.joining import Joining
from node.catalog.releases import create_release
from node.catalog.selection import Selection
from node.catalog.strata import StratumWish
from node.deid.pseudonyms import Pseudonyms
from node.intake.tables import ingest_table
from tests.attacks.statistics.conftest import SCHEMA, Node, counts, csv_of
from tests.contract.world import NOW

ATTACKS = (
    (
        "Linked tables of nested groups",
        "Hundepool et al. 2012, Statistical Disclosure Control, section 5.2: linked tables",
        "pairs aren't all declared where their counts bound that of a three",
        "test_a_group_less_one_that_it_contains",
    ),
    (
        "A table by a stratum, less the table of the others",
        "Cox 1980, Suppression methodology and statistical disclosure control, JASA 75",
        "a combination that few have in a stratum is exact by no such stratum; off with it: that a "
        "cell of few is withheld as such (minimum_cell)",
        "test_a_table_by_strata_tells_of_no_few",
    ),
)
ILL = Statistic(kind="crosstab", variable="ill", across=("sex",))
OF_B = Statistic(kind="crosstab", variable="ill", across=("arm",))
BOTH = Statistic(kind="crosstab", variable="arm", across=("sex",))
Ask = Callable[[Statistic], list[Part] | None]


def table(*groups: tuple[str, str, str, int]) -> list[dict[str, Any]]:
    """Rows by arm, sex, illness and how many have all of these."""
    rng = np.random.default_rng(11)
    found: list[dict[str, Any]] = []
    for arm, sex, ill, number in groups:
        for _ in range(number):
            one = {"arm": arm, "sex": sex, "age": int(rng.integers(30, 80))}
            one |= {"marker": round(float(rng.uniform(5, 195)), 3), "ill": ill}
            found.append({"pid": f"p{len(found):04d}", **one})
    return found


def freeze(node: Node, name: str, rows: Sequence[dict[str, Any]], strata: Sequence[str]) -> str:
    """Freeze a table with one analysis set of its categories."""
    hospital = node.hospital
    ingest_table(
        csv_of(rows), SCHEMA, Pseudonyms(b"k" * 32), hospital.catalog, hospital.home, now=NOW
    )
    made = create_release(
        hospital.catalog,
        hospital.home,
        name,
        Selection(table="trial"),
        now=NOW,
        wishes=Wishes(
            strata=[StratumWish(s) for s in strata],
            analyses={"main": ("sex", "arm", "ill")},
            minimums=Minimums(20, 10, 0.5),
        ),
    )
    hospital.catalog.grant(made.digest, hospital.world.consortium, "birth", NOW)
    return made.digest


@pytest.fixture
def own_release(node: Node) -> Iterator[Node]:
    """The node, asked of other releases meanwhile."""
    before = node.release
    yield node
    node.release = before


def count_of(ask: Ask, statistic: Statistic, *places: int) -> int:
    """A count of a table of two by two; the attack fails without an answer."""
    return int(np.reshape(counts(ask(statistic)).counts, (2, 2))[places])


def test_a_group_less_one_that_it_contains(
    own_release: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in arm B are m. One of the others who are m is ill."""
    node = own_release
    rows = table(
        *(("B", "m", "yes", 30), ("B", "m", "no", 30), ("A", "m", "yes", 1), ("A", "m", "no", 49)),
        *(("A", "f", "yes", 100), ("A", "f", "no", 190)),
    )

    def attack(ask: Ask) -> int:
        for statistic in (ILL, OF_B):
            answer = counts(ask(statistic)).counts
            assert min(answer) >= 10, "no answer"
        return count_of(ask, ILL, 1, 1) - count_of(ask, OF_B, 1, 1)

    def ask(statistic: Statistic) -> list[Part] | None:
        return node.ask(statistic, analysis="main", lane="exact")

    with monkeypatch.context() as undefended:
        undefended.setattr(Joining, "_is_bound_by_pairs", lambda *_: False)
        node.release = freeze(node, "bounds", rows, ())
    assert attack(ask) == 1  # he is in arm A, m and ill
    node.release = freeze(node, "no-bounds", rows, ())
    with pytest.raises(AssertionError, match="no answer"):
        attack(ask)
    # What is given up is one table of three.
    assert [ask(one) is None for one in (ILL, OF_B, BOTH)].count(True) == 1


def test_a_table_by_strata_tells_of_no_few(
    own_release: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 33 who are f and ill two are in arm B.

    The rule is in three places, off together: which counts are large, what a table tells besides,
    and which pieces it is made of. Off too is the policy's ``minimum_cell``, by which the gate
    would withhold a cell of two.
    """
    node = own_release
    rows = table(
        *(("A", "f", "yes", 31), ("A", "f", "no", 70), ("A", "m", "yes", 50), ("A", "m", "no", 50)),
        *(("B", "f", "yes", 2), ("B", "f", "no", 60), ("B", "m", "yes", 40), ("B", "m", "no", 60)),
    )
    three = Statistic(kind="crosstab", variable="ill", across=("sex", "arm"))

    def attack(ask: Callable[..., list[Part] | None]) -> int:
        found = counts(ask(three)).counts
        return int(np.reshape(found, (2, 2, 2))[1, 0, 1])

    def ask(statistic: Statistic, **terms: Any) -> list[Part] | None:
        return node.ask(statistic, analysis="main", lane="exact", **terms)

    node.release = freeze(node, "strata", rows, ("arm",))
    low = node.hospital.policy.disclosure.model_copy(update={"minimum_cell": 1})
    policy = node.hospital.policy
    with monkeypatch.context() as undefended:
        undefended.setattr("node.catalog.joining.counts_are_large", lambda *_: True)
        undefended.setattr(Joining, "_tells", lambda *_: False)
        undefended.setattr(Joining, "table", _any_table)
        undefended.setattr(node.hospital, "policy", policy.model_copy(update={"disclosure": low}))
        node.release, declared = freeze(node, "any", rows, ("arm",)), node.release
        assert attack(ask) == 2
    node.release = declared
    with pytest.raises(AssertionError, match="no answer"):
        attack(ask)
    assert count_of(ask, ILL, 1, 0) == 33  # in both arms together


def _any_table(self: Joining, coded: Any, bits: int) -> Any:
    pieces = self.pieces(bits)
    width = int(np.prod([one.width for one in coded]))
    return pieces.counts(self.flat(coded, pieces.rows), width), None
