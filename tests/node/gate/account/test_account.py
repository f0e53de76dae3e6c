"""The account: it is spent first, by one at a time, and nothing gives it back."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy.event import listen, remove

from contract.errors import DocumentError, LedgerError, Refused, StorageError
from node.gate.account import Charge, Limits, Payer, PureRelease
from node.gate.account.events import GaussianRelease, parse, text
from node.gate.ledger import read_entries
from node.gate.policy import Policy, PrivacySettings, ProjectLimits
from tests.node.gate.account.conftest import ANA, BEN, LIMITS, Books


def test_nothing_is_spent_at_first(books: Books) -> None:
    assert books.standing().epsilon_project == 0.0
    assert books.standing().remaining_project == 2.0
    assert books.account.spends() == []
    assert books.account.payers() == []


def test_an_event_is_read_back_as_it_was_written() -> None:
    for event in (PureRelease(0.1), GaussianRelease(1.1, 0.01)):
        assert parse(text(event)) == event


@pytest.mark.parametrize("written", ["", "[]", "{}", '{"epsilon": -1}', '{"epsilon": "x"}', "1"])
def test_what_is_no_event_is_refused(written: str) -> None:
    with pytest.raises(DocumentError):
        parse(written)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_nothing_and_less_can_t_be_spent(books: Books, wrong: float) -> None:
    with pytest.raises(DocumentError):
        books.spend(wrong)
    assert books.account.spends() == []


def test_a_project_spends_up_to_its_limit_and_no_further(books: Books) -> None:
    for _ in range(4):
        books.spend(0.5)
    with pytest.raises(Refused) as caught:
        books.spend(0.5)
    assert caught.value.code == "privacy-budget"
    assert len(books.account.spends()) == 4
    assert books.standing().epsilon_project <= 2.0


def test_charges_of_one_question_are_spent_all_or_none(books: Books) -> None:
    charges = [Charge(f"q{n}", PureRelease(0.5)) for n in range(5)]
    with pytest.raises(Refused):
        books.account.spend(ANA, "", charges, LIMITS, books.now)
    assert books.account.spends() == []
    books.account.spend(ANA, "", charges[:4], LIMITS, books.now)
    assert [row.question for row in sorted(books.account.spends(), key=str)] == [
        "q0",
        "q1",
        "q2",
        "q3",
    ]


def test_projects_of_all_consortia_draw_on_one_year_of_one_pool(books: Books) -> None:
    books.spend(2.0, ANA)
    books.spend(1.0, BEN)
    with pytest.raises(Refused):
        books.spend(0.5, BEN)
    assert books.standing(BEN).epsilon_project == 1.0
    assert books.standing(BEN).remaining_project == 1.0
    assert books.standing(BEN).remaining_year == pytest.approx(0.0, abs=1e-3)


def test_a_year_later_the_pool_can_be_asked_again_and_the_project_can_t(books: Books) -> None:
    books.spend(2.0, ANA)
    books.spend(1.0, BEN)
    books.now += timedelta(days=364)
    with pytest.raises(Refused):
        books.spend(0.5, BEN)
    books.now += timedelta(days=2)
    books.spend(0.5, BEN)
    with pytest.raises(Refused):
        books.spend(0.5, ANA)


def test_a_clock_that_is_turned_back_forgets_nothing(books: Books) -> None:
    books.spend(2.0, ANA)
    books.spend(1.0, BEN)
    books.now -= timedelta(days=1000)
    with pytest.raises(Refused):
        books.spend(0.5, BEN)


def test_a_preview_tells_what_a_question_leads_to_and_spends_nothing(books: Books) -> None:
    books.spend(0.5)
    charges = [Charge("q2", PureRelease(0.25)), Charge("q3", PureRelease(0.25))]
    after = books.account.after(ANA, "", charges, LIMITS, books.now)
    assert len(books.account.spends()) == 1
    spent = books.account.spend(ANA, "", charges, LIMITS, books.now)
    assert spent == after
    assert after.epsilon_project == pytest.approx(1.0, abs=1e-3)
    assert after == books.standing()


def test_delta_is_a_tenth_of_one_over_the_subjects_as_they_are_listed(books: Books) -> None:
    release = books.release(1234)
    books.spend(0.5, release=release)
    assert books.standing().delta == 1 / (10 * 1240)
    other = books.release(1239, "other")
    after = books.account.after(ANA, other, (), LIMITS, books.now)
    assert after.delta == 1 / (10 * (1240 + 1240))
    named = replace(LIMITS, delta=1e-9)
    assert books.account.standing(ANA, named, books.now).delta == 1e-9


def test_limits_are_the_policy_s_and_a_project_s_own_before_it() -> None:
    policy = Policy(
        privacy=PrivacySettings(epsilon_project=5, epsilon_subject_year=7),
        projects={"birth": ProjectLimits(epsilon=0)},
    )
    assert Limits.of(policy, "other").epsilon_project == 5
    assert Limits.of(policy, "other").epsilon_year == 7
    assert Limits.of(policy, "birth").epsilon_project == 0


def test_the_ledger_has_what_was_spent_with_the_totals(books: Books) -> None:
    books.spend(0.5, question="a" * 64)
    entry = next(e for e in read_entries(books.home.ledger) if e.kind == "spent")
    assert (entry.body["consortium"], entry.body["project"]) == ("north", "birth")
    assert entry.body["spends"][0]["question"] == "a" * 64
    assert parse(entry.body["spends"][0]["event"]) == PureRelease(0.5)
    assert entry.body["epsilon_project"] == entry.body["epsilon_year"] == 0.5


def test_what_was_spent_outlives_a_restart(books: Books) -> None:
    books.spend(1.5)
    books.restart()
    with pytest.raises(Refused):
        books.spend(1.0)


def test_a_catalogue_from_a_backup_takes_up_what_the_ledger_remembers(books: Books) -> None:
    books.spend(0.25)
    books.restart()
    books.spend(0.25)
    books.close()
    backup = books.home.root / "backup.db"
    shutil.copy(books.home.database, backup)
    books.open()
    books.spend(0.5)
    books.spend(0.5, BEN)
    before = sorted(books.account.spends(), key=str)
    books.close()
    shutil.copy(backup, books.home.database)
    for rest in ("-wal", "-shm"):
        books.home.database.with_name(books.home.database.name + rest).unlink(missing_ok=True)
    books.open()
    assert sorted(books.account.spends(), key=str) == before
    books.restart()
    assert sorted(books.account.spends(), key=str) == before


def test_a_catalogue_that_was_made_anew_takes_up_all_of_the_ledger(
    books: Books, new_catalogue: object
) -> None:
    for _ in range(3):
        books.spend(0.5)
    books.close()
    for path in books.home.root.glob("catalogue.db*"):
        path.unlink()
    books.open()
    assert len(books.account.spends()) == 3
    with pytest.raises(Refused):
        books.spend(1.0)


def test_nothing_can_be_spent_by_an_account_that_is_overdrawn(books: Books) -> None:
    books.spend(2.0)
    books.limits = replace(LIMITS, epsilon_project=0.5)
    standing = books.account.spend(ANA, "", [], books.limits, books.now)
    assert not standing.within_limits
    assert standing.remaining_project == 0
    with pytest.raises(Refused):
        books.spend(0.001)


def test_what_the_ledger_has_and_a_failed_commit_lost_is_taken_up_at_once(books: Books) -> None:
    def fail(connection: object) -> None:
        raise StorageError("The disk is full.")

    books.standing()
    listen(books.catalog.engine, "commit", fail)
    with pytest.raises(StorageError):
        books.spend(1.5)
    remove(books.catalog.engine, "commit", fail)
    with pytest.raises(Refused):
        books.spend(1.0)
    assert len(books.account.spends()) == 1


def test_a_malformed_entry_about_spending_stops_the_account(books: Books) -> None:
    books.ledger.append("spent", {"spends": [{"id": "x"}]}, books.now)
    with pytest.raises(LedgerError):
        books.spend(0.1)


def test_two_at_once_can_t_both_take_the_last_of_it(books: Books) -> None:
    books.spend(1.0)

    def ask(number: int) -> bool:
        try:
            books.spend(0.75, question=f"q{number}")
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 1
    assert books.standing().epsilon_project <= 2.0


SPENDER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from node.catalog.store import Catalog
from node.gate.account import Charge, Limits, Payer, PrivacyAccount, PureRelease
from node.gate.ledger import Ledger
from node.home import NodeHome

home = NodeHome(Path(sys.argv[1]))
catalog = Catalog.open(home)
account = PrivacyAccount(catalog.engine, Ledger(home.ledger))
limits = Limits(1000.0, 1000.0, 0.0, 10)
for number in range(100_000):
    account.spend(
        Payer("north", "birth"), "", [Charge(f"q{number}", PureRelease(0.001))], limits,
        datetime.now(UTC),
    )
    print(number, flush=True)
"""


def test_what_was_spent_outlives_a_kill_at_any_moment(books: Books) -> None:
    books.close()
    acknowledged = 0
    for wanted in (1, 6):
        process = subprocess.Popen(
            [sys.executable, "-c", SPENDER, str(books.home.root)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(wanted):
            assert process.stdout.readline().strip().isdigit()
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += wanted + len(process.stdout.read().splitlines())
        process.wait()
        process.stdout.close()
    books.open()
    spent = books.account.spends()
    # At most one of each process was spent and not acknowledged.
    assert acknowledged <= len(spent) <= acknowledged + 2
    written = sum(len(e.body["spends"]) for e in books.ledger.entries() if e.kind == "spent")
    assert written == len(spent)


def test_two_processes_share_one_account(books: Books) -> None:
    books.spend(0.5)
    code = SPENDER.replace("1000.0, 1000.0", "2.0, 3.0").replace("0.001", "1.0")
    done = subprocess.run(
        [sys.executable, "-c", code, str(books.home.root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["0"]
    assert "Refused" in done.stderr
    with pytest.raises(Refused):
        books.spend(1.0)
    assert [p for p in books.account.payers() if p == Payer("north", "birth")] == [ANA]
