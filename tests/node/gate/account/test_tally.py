"""What is counted in memory is what the table holds, whoever wrote it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, func, insert, select

from node.catalog import schema
from node.gate.account import Payer, PureRelease
from node.gate.account.events import Event, text
from node.gate.account.tally import YEAR, Tally

START = datetime(2026, 1, 1, tzinfo=UTC)
PAYERS = (Payer("north", "birth"), Payer("north", "stroke"), Payer("south", "birth"))
SPENDS = st.tuples(
    st.sampled_from(PAYERS),
    st.sampled_from((0.1, 0.2)),
    st.integers(-200, 800),
    st.sampled_from(("own", "another's", "look")),
)


@given(st.lists(SPENDS, max_size=30))
def test_a_tally_is_what_the_table_counts(
    spends: list[tuple[Payer, float, int, str]],
) -> None:
    engine = create_engine("sqlite://")
    table = schema.privacy_spends
    schema.privacy_pools.create(engine)
    table.create(engine)
    tally = Tally("node")
    made: list[tuple[Payer, Event, datetime]] = []
    with engine.begin() as connection:
        for number, (payer, epsilon, day, how) in enumerate(spends):
            now, event = START + timedelta(days=day), PureRelease(epsilon)
            if how != "look":
                values = {
                    "id": f"{number:032x}", "pool": "node", "consortium": payer.consortium,
                    "project": payer.project, "release": f"r{number % 3}", "question": "q",
                    "event": text(event), "spent_at": now,
                }  # fmt: skip
                tally.read_on(connection)
                connection.execute(insert(table).values(**values))
                made.append((payer, event, now))
                if how == "own":
                    tally.add(payer, f"r{number % 3}", [event], now)
            tally.read_on(connection)
            for one in PAYERS:
                assert Counter(tally.ever(one)) == Counter(e for p, e, _ in made if p == one)
            within = Counter(e for _, e, at in made if at > now - YEAR)
            assert +Counter(tally.within_a_year(now)) == within
        assert connection.execute(select(func.count()).select_from(table)).scalar() == len(made)
