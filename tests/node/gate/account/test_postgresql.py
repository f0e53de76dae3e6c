"""The account over PostgreSQL: the same rules, where transactions don't wait by themselves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from contract.errors import Refused
from node.catalog.store import Catalog
from node.gate.account import Charge, PrivacyAccount, PureRelease
from node.gate.ledger import Ledger
from node.home import NodeHome
from tests.contract.world import NOW
from tests.node.catalog.conftest import postgres
from tests.node.gate.account.conftest import ANA, LIMITS

__all__ = ["postgres"]


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return NodeHome(tmp_path / "node").create()


def database(server: str, name: str) -> str:
    """Make an empty database; return its URL."""
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return server.replace("/postgres?", f"/{name}?")


def test_two_processes_at_once_can_t_both_take_the_last_of_it(
    request: pytest.FixtureRequest, home: NodeHome
) -> None:
    url = database(request.getfixturevalue("postgres"), "spending")
    with Catalog.open(home, url) as catalog:
        ledger = Ledger(home.ledger)

        def ask(number: int) -> bool:
            # An account of its own each, as another process has: no lock of ours is shared.
            account = PrivacyAccount(catalog.engine, ledger)
            charge = Charge(f"q{number}", PureRelease(0.75))
            try:
                account.spend(ANA, "", [charge], LIMITS, NOW)
            except Refused:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(ask, range(8))) == 2
        assert PrivacyAccount(catalog.engine, ledger).standing(ANA, LIMITS, NOW).within_limits
        ledger.close()


def test_an_empty_database_takes_up_what_the_ledger_remembers(
    request: pytest.FixtureRequest, home: NodeHome
) -> None:
    server = request.getfixturevalue("postgres")
    ledger = Ledger(home.ledger)
    for name in ("first", "second"):
        with Catalog.open(home, database(server, name)) as catalog:
            account = PrivacyAccount(catalog.engine, ledger)
            if name == "first":
                account.spend(ANA, "", [Charge("q", PureRelease(1.5))], LIMITS, NOW)
            with pytest.raises(Refused):
                account.spend(ANA, "", [Charge("q2", PureRelease(1.0))], LIMITS, NOW)
            assert [row.spent_at for row in account.spends()] == [NOW]
    ledger.close()
