"""Getting a small site's own part out of secure sums over releases that are made for them alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.statistics import words
from contract.statistics.answers import Part
from contract.work import Statistic, StatisticsWork
from coordinator.work import sums as coordinator_sums
from node.config import NodeSettings
from node.gate import admitting
from node.work import sums as node_sums
from node.work.desk import WorkDesk
from node.work.statistics import ColumnCache
from node.work.sums import SecureSum
from tests.sessions.centres import ANALYSIS, IN_A_SUM, SMALL, SUM, open_centres, tables
from tests.sessions.hospitals import Session, moments
from tests.sessions.led import LedSum, parts_of

ATTACKS = (
    (
        "Differencing of secure sums over other sites",
        "Bonawitz et al. 2017, Practical Secure Aggregation, 6 (what a sum itself tells); "
        "Denning and Schlörer 1983, Inference controls for statistical databases",
        "a small site's release is summed with the same sites for good, all to the end",
        "test_two_sums_over_other_sites_do_not_tell_a_sites_part",
    ),
    (
        "Differencing of secure sums over other sites, after a restored catalogue",
        "Matetic et al. 2017, ROTE: Rollback Protection for Trusted Execution",
        "the ledger remembers with which sites a release was summed",
        "test_a_restored_catalogue_does_not_forget_with_whom_a_release_was_summed",
    ),
    (
        "A secure sum in which only one site has the group",
        "Hundepool et al. 2012, Statistical Disclosure Control, 5.4 (coverage known to others)",
        "who lacks a group adds random words, so that its total tells nothing; off with it: what "
        "the coordinator itself leaves out, which a lying one doesn't",
        "test_a_group_that_one_site_has_is_in_no_total",
    ),
)
AGE = Statistic(kind="moments", variable="age")
BY_ARM = Statistic(kind="moments", variable="score", by="arm")


@pytest.fixture(scope="module")
def centres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """At all centres but the small one all patients have the same arm."""
    held = [
        table if at == SMALL else dict(table) | {"arm": ["active"] * len(table["arm"])}
        for at, table in enumerate(tables())
    ]
    made = open_centres(tmp_path_factory.mktemp("centres"), held)
    yield made
    for site in made.sites:
        site.hospital.catalog.close()


def total(session: Session, *ask: Statistic, without: int | None = None) -> Any:
    """Ask for a sum over all sites, or all but one."""
    sites = [site for at, site in enumerate(session.sites) if at != without]
    envelope = session.job(StatisticsWork(ask=ask, **IN_A_SUM), sites)
    return LedSum(envelope, session.project, session.world.roster(), sites)


def truth(session: Session, name: str, **where: str) -> float:
    """The small site's own mean."""
    alone = Session([session.sites[SMALL]])
    return float(np.mean(alone.values(name, f"analysis:{next(iter(ANALYSIS))}", **where)))


def difference(session: Session) -> float:
    """The mean of who is in the sum over all and not in that without the small site."""
    whole, rest = (
        moments(parts_of(total(session, AGE, without=left).run())[0]) for left in (None, SMALL)
    )
    return (whole.n * whole.mean - rest.n * rest.mean) / (whole.n - rest.n)


def test_two_sums_over_other_sites_do_not_tell_a_sites_part(
    centres: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as off:
        off.setattr(SecureSum, "_always_the_same", lambda self, sites: None)
        assert difference(centres) == pytest.approx(truth(centres, "age"), rel=1e-9)

    assert moments(centres.sum("all", AGE, **SUM)[0]).n > 200
    led = total(centres, AGE, without=SMALL)
    with pytest.raises(Exception, match="oo few"):
        led.run()
    assert set(led.refusals.values()) == {"other-sites"}


def test_a_restored_catalogue_does_not_forget_with_whom_a_release_was_summed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can restore the databases, but not the ledgers, wants another total."""
    session = open_centres(tmp_path / "centres")
    hospitals = [site.hospital for site in session.sites]
    for hospital in hospitals:
        hospital.catalog.engine.dispose()
        (hospital.home.root / "backup").mkdir()
        for path in hospital.home.root.glob("catalogue.db*"):
            shutil.copy(path, hospital.home.root / "backup")
    assert moments(parts_of(total(session, AGE).run())[0]).n > 200

    def restore() -> None:
        for site in session.sites:
            hospital = site.hospital
            hospital.catalog.engine.dispose()
            for path in hospital.home.root.glob("catalogue.db*"):
                path.unlink()
            for path in (hospital.home.root / "backup").iterdir():
                shutil.copy(path, hospital.home.root)
            hospital.reopen()
            site.desk = WorkDesk(hospital.home, hospital.gate, NodeSettings(), ColumnCache(2**28))

    with monkeypatch.context() as off:
        off.setattr(admitting.remembering, "remember", lambda *_: 0)
        restore()
        rest = moments(parts_of(total(session, AGE, without=SMALL).run())[0])
        assert rest.n > 200

    # The ledgers' first entries hold, not what was summed since.
    restore()
    led = total(session, AGE, without=SMALL)
    with pytest.raises(Exception, match="oo few"):
        led.run()
    assert set(led.refusals.values()) == {"other-sites"}
    assert moments(parts_of(total(session, AGE).run())[0]).n > rest.n
    for hospital in hospitals:
        hospital.catalog.close()


def test_a_group_that_one_site_has_is_in_no_total(
    centres: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only at the small site is anybody in the arm "control"."""
    encode, decode = words.encode, words.decode

    def each_by_itself(*of: Any, by_all: bool) -> Any:
        return decode(*of)

    def told() -> Part:
        return parts_of(total(centres, AGE, BY_ARM).run())[1]

    with monkeypatch.context() as off:
        # The coordinator decodes as it likes: without asking for all or none.
        off.setattr(coordinator_sums.words, "decode", each_by_itself)
        off.setattr(coordinator_sums, "drop_groups", lambda part, *_: (part, []))
        with monkeypatch.context() as undefended:
            undefended.setattr(node_sums.words, "encode", lambda *of: encode(*of[:3]))
            mean = moments(told(), "control").mean
        assert mean == pytest.approx(truth(centres, "score", arm="control"), rel=1e-9)

        numbers = [n for m in told().groups.values() for n in (m.n, m.missing)]
        assert max(map(abs, numbers)) > 2**32

    assert centres.sum("by arm", AGE, BY_ARM, **SUM)[1].withheld
