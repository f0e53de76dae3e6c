"""What exact answers of two releases tell together: of who came between them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contract.work import Statistic
from node.catalog.store import Catalog
from node.commands import release as node_release
from tests.attacks.link.siege import AMPLE, Siege
from tests.attacks.link.test_asking import moments
from tests.end_to_end.federation import (
    POLICY,
    PROJECT,
    records,
    take_in,
    write_csv,
    write_schema,
)
from tests.end_to_end.hostile import SITE, now

ATTACKS = (
    (
        "Across time: two releases of one table subtracted",
        "Denning 1982, Cryptography and Data Security, 6.3.4 (insertion and deletion of records)",
        "a release is exact only where earlier ones of its table, with it, tell of k or nobody "
        "(disclosure.releases_apart)",
        "test_a_patient_who_came_is_not_the_difference_of_two_releases",
    ),
)
WEIGHT = Statistic(kind="moments", variable="weight")
NEWCOMER = 71.625


@pytest.fixture
def table(siege: Siege) -> Iterator[list[dict[str, object]]]:
    """The hospital's table, to which a test adds; it is as it was afterwards."""
    rows = records(SITE, 0, few=False)
    yield [*rows, rows[0] | {"patient": "CANARY-new", "weight": NEWCOMER}]
    freeze(siege, "as-it-was", rows)


def freeze(siege: Siege, name: str, rows: list[dict[str, object]]) -> str:
    """Take a table in, and make a release of it by the command; let the project ask it."""
    home = siege.victim.home
    folder = siege.root / name
    folder.mkdir()
    take_in(home.root, write_csv(folder / "trial.csv", rows), write_schema(folder))
    node_release.create(name, table="trial", home=home.root)
    with Catalog.open(home) as catalog:
        made = catalog.find_release(name).digest
        catalog.grant(made, siege.victim.name, PROJECT, now())
    return made


def test_a_patient_who_came_is_not_the_difference_of_two_releases(
    siege: Siege, table: list[dict[str, object]]
) -> None:
    def ask(release: str) -> float | None:
        """All weights of a release, added up."""
        parts = siege.parts(WEIGHT, release=release, lane="exact")
        return None if parts is None else moments(parts).n * moments(parts).mean

    policy = siege.victim.home.policy
    before = ask(siege.victim.release)
    policy.write_text(POLICY.replace("[training]", "releases_apart = false\n[training]") + AMPLE)
    later = freeze(siege, "later", table)
    policy.write_text(POLICY + AMPLE)
    after = ask(later)
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(NEWCOMER)

    other = [*table[:-1], table[-1] | {"patient": "CANARY-other"}]
    assert ask(freeze(siege, "defended", other)) is None
