"""Getting more out of the account than is in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from contract.cohorts import Cohort
from contract.errors import Refused
from node.gate.account import Charge, Limits, Payer, PrivacyAccount, Standing
from node.gate.dp.draws import Draws
from node.gate.dp.lane import DpLane
from tests.attacks.privacy.conftest import NewLane
from tests.node.gate.dp.conftest import ANA, COUNT, Lane

ATTACKS = (
    (
        "Budget reset by a crash",
        "Haeberlen, Pierce and Narayan 2011, Differential Privacy Under Fire",
        "the account is spent durably before anything is drawn",
        "test_a_crash_gives_nothing_back",
    ),
    (
        "Budget reset by a restored backup",
        "Matetic et al. 2017, ROTE: Rollback Protection for Trusted Execution",
        "the account takes up what the ledger says was spent",
        "test_a_restored_backup_gives_nothing_back",
    ),
    (
        "Concurrent overspending",
        "CWE-367, time of check to time of use",
        "the account is read and spent under one lock",
        "test_asking_at_once_takes_no_more_than_there_is",
    ),
)
LIMITS = Limits(epsilon_project=2.0, epsilon_year=1e6, delta=1e-6, cell=10)
SMALL = Limits(epsilon_project=0.5, epsilon_year=1e6, delta=1e-6, cell=10)


def cohort(number: int) -> Cohort:
    """Another question each time."""
    return Cohort(variable="age", at_least=30 + number / 10)


# ---- a crash -------------------------------------------------------------------------------------


class AtTheEnd(PrivacyAccount):
    """Spent in memory, written down when the process ends in order."""

    def spend(
        self,
        payer: Payer,
        release: str,
        charges: Sequence[Charge],
        limits: Limits,
        now: datetime,
        job: str = "",
    ) -> Standing:
        coming = [*getattr(self, "coming", []), *charges]
        standing = self.after(payer, release, coming, limits, now)
        if not standing.within_limits:
            raise Refused("privacy-budget", "")
        self.coming = coming
        return standing


def victim(home: Path, *, defended: bool, first: int) -> None:
    """Answer questions on standard output until the account is empty, or somebody kills us."""
    from node.home import NodeHome
    from tests.node.gate.dp.conftest import some_columns

    lane = Lane(NodeHome(home), some_columns(200), limits=SMALL)
    if not defended:
        account = AtTheEnd(lane.catalog.engine, lane.ledger)
        lane.lane = DpLane(account, Draws(lane.catalog.engine))
    for number in range(first, first + 100):
        try:
            print(lane.count(cohort(number), epsilon=0.5), flush=True)
        except Refused:
            print("refused", flush=True)
            return


def answers_before_kills(home: Path, *, defended: bool) -> int:
    """Kill a node after an answer of it, twice; return how many it gave."""
    code = (
        "import sys; from pathlib import Path; "
        "from tests.attacks.privacy.test_budget import victim; "
        f"victim(Path(sys.argv[1]), defended={defended}, first=int(sys.argv[2]))"
    )
    got = 0
    for life in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(home), str(100 * life)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        assert process.stdout is not None
        if process.stdout.readline().strip() not in ("refused", ""):
            got += 1
        os.kill(process.pid, signal.SIGKILL)
        # Answers that it gave while we took aim count as well.
        got += sum(line.strip() != "refused" for line in process.stdout)
        process.wait()
        process.stdout.close()
    return got


def test_a_crash_gives_nothing_back(new_lane: NewLane) -> None:
    there_is_for = 1
    off, on = new_lane("off"), new_lane("on")
    off.close()
    on.close()
    try:
        assert answers_before_kills(off.home.root, defended=False) > there_is_for
        assert answers_before_kills(on.home.root, defended=True) <= there_is_for
    finally:
        off.open()
        on.open()
    assert sum(1 for _ in on.account.spends()) == there_is_for


# ---- a backup ------------------------------------------------------------------------------------


class WithoutLedger(PrivacyAccount):
    """Believes the catalogue alone."""

    def _reconcile(self) -> None:
        return


def drain(lane: Lane, first: int, *, defended: bool) -> int:
    """Ask until the account refuses; return how many answers there were."""
    if not defended:
        lane.lane = DpLane(
            WithoutLedger(lane.catalog.engine, lane.ledger), Draws(lane.catalog.engine)
        )
    for number in range(first, first + 50):
        try:
            lane.count(cohort(number), epsilon=0.5)
        except Refused:
            return number - first
    return 50


def drain_twice(lane: Lane, *, defended: bool) -> int:
    """Drain the account, put the catalogue of before back, and drain it again."""
    lane.limits = LIMITS
    lane.close()
    backup = lane.home.root / "backup.db"
    shutil.copy(lane.home.database, backup)
    lane.open()
    got = drain(lane, 0, defended=defended)
    lane.close()
    shutil.copy(backup, lane.home.database)
    for rest in ("-wal", "-shm"):
        lane.home.database.with_name(lane.home.database.name + rest).unlink(missing_ok=True)
    lane.open()
    return got + drain(lane, 100, defended=defended)


def test_a_restored_backup_gives_nothing_back(new_lane: NewLane) -> None:
    assert drain_twice(new_lane("off"), defended=False) == 8
    assert drain_twice(new_lane("on"), defended=True) == 4


# ---- at once -------------------------------------------------------------------------------------


class CheckedFirst(PrivacyAccount):
    """Reads the account, and spends when all have read it."""

    barrier = threading.Barrier(6)

    def spend(
        self,
        payer: Payer,
        release: str,
        charges: Sequence[Charge],
        limits: Limits,
        now: datetime,
        job: str = "",
    ) -> Standing:
        standing = self.after(payer, release, charges, limits, now)
        self.barrier.wait(60)
        if not standing.within_limits:
            raise Refused("privacy-budget", "")
        everything = Limits(1e6, 1e6, limits.delta, limits.cell)
        return super().spend(payer, release, charges, everything, now, job)


def at_once(lane: Lane, account: PrivacyAccount) -> int:
    """Ask six questions at once, each for half of what there is; return how many were answered."""

    def ask(number: int) -> bool:
        own = DpLane(account, Draws(lane.catalog.engine))
        asked = lane.asked(COUNT, cohort=cohort(number), epsilon=1.0, payer=ANA)
        try:
            own.answer(asked, lambda: (lane.columns, None))
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        return sum(pool.map(ask, range(6)))


def test_asking_at_once_takes_no_more_than_there_is(new_lane: NewLane) -> None:
    lane = new_lane("off")
    lane.limits = LIMITS
    assert at_once(lane, CheckedFirst(lane.catalog.engine, lane.ledger)) == 6
    assert lane.account.standing(ANA, LIMITS, lane.now).epsilon_project > 5

    lane = new_lane("on")
    lane.limits = LIMITS
    assert at_once(lane, lane.account) == 2
    assert lane.account.standing(ANA, LIMITS, lane.now).epsilon_project <= 2
