"""What cohorts are counted from stays in step with the assets."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from contract.errors import StorageError
from node.catalog import schema
from node.catalog.cohorts import Cohort, Cohorts
from node.catalog.rows import AssetRow
from node.catalog.selection import AssetFilter, Days, Selection
from node.catalog.store import Catalog
from node.home import NodeHome
from tests.examples import examples
from tests.node.catalog.making import TODAY, asset

EVERYTHING = Selection(assets=AssetFilter())
LONG_AGO = Selection(assets=AssetFilter(dated=Days(until=date(2100, 1, 1))))


def count(catalog: Catalog, selection: Selection = EVERYTHING) -> Cohort:
    with catalog.snapshot() as connection:
        return Cohorts(connection, TODAY).count(selection)


def in_step(catalog: Catalog) -> None:
    """Check the tallies against the assets themselves, each way they are kept."""
    rows = catalog.list_assets()
    studies = {(row.subject, row.study_uid) for row in rows if row.study_uid}
    expected = Cohort(len({row.subject for row in rows}), len(studies), len(rows))
    assert count(catalog) == expected
    assert count(catalog, LONG_AGO) == expected
    with catalog.reading.connect() as connection:
        total = connection.execute(select(func.sum(schema.strata.c.assets))).scalar()
        assert (total or 0) == len(rows)
        facets = connection.execute(
            select(schema.assets.c.facet, func.count()).group_by(schema.assets.c.facet)
        )
        kept = select(schema.facets.c.number, schema.facets.c.assets)
        assert dict(map(tuple, facets)) == dict(map(tuple, connection.execute(kept)))


def made(number: int) -> list[AssetRow]:
    return [
        asset(
            number * 10 + n,
            f"s{(number + n) % 17}",
            modality=["CT", "MR", "XC"][(number + n) % 3],
            study_uid=f"2.25.{number % 5}",
            study_date=date(2020, 1, 1 + number % 28),
        )
        for n in range(10)
    ]


def test_writers_at_the_same_time_lose_no_count(either: Catalog) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: either.record(made(n), []), range(40)))
    assert count(either).assets == 400
    in_step(either)


def test_a_batch_that_fails_counts_nothing(either: Catalog) -> None:
    either.record(made(1), [])
    with pytest.raises(IntegrityError):
        either.record([asset(999, "new"), asset(10, "s1", modality="MR"), *made(1)], [])
    assert count(either).assets == 10
    in_step(either)


def test_a_study_has_the_first_date_that_is_known(either: Catalog) -> None:
    for number, when in enumerate([None, date(2020, 5, 1), date(2021, 5, 1)]):
        either.record([asset(number, "s", study_date=when)], [])
    with either.reading.connect() as connection:
        (row,) = connection.execute(select(schema.studies))
    assert row.date == date(2020, 5, 1)


def test_what_a_strangers_file_says_of_itself_is_cut_to_what_is_kept(either: Catalog) -> None:
    long = "X" * 500 + "\0"
    names = ("modality", "body_part", "manufacturer", "device_model", "stain", "laterality")
    either.record([asset(1, "s", study_date=TODAY, **dict.fromkeys(names, long))], [])
    (row,) = either.list_assets()
    assert row.device_model == "X" * 64
    in_step(either)


def test_a_damaged_tally_is_one_clear_error(catalog: Catalog) -> None:
    catalog.record([asset(1, "s")], [])
    with catalog.engine.begin() as connection:
        connection.execute(update(schema.postings).values(bits=b"no zlib"))
    with pytest.raises(StorageError, match="damaged"):
        count(catalog)


WRITER = """
import sys, pathlib
from node.catalog.store import Catalog
from node.home import NodeHome
from tests.node.catalog.test_tallies import made
with Catalog.open(NodeHome(pathlib.Path(sys.argv[1]))) as catalog:
    for n in range(int(sys.argv[2]), 10**6):
        catalog.record(made(n), [])
        print("recorded", flush=True)
"""


def test_a_kill_at_any_moment_leaves_tallies_and_assets_in_step(home: NodeHome) -> None:
    Catalog.open(home).close()
    begin = 0
    for pause in (0.05, 0.17, 0.1, 0.3)[: examples(2, 4)]:
        running = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(home.root), str(begin)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
        )
        assert running.stdout is not None
        running.stdout.readline()  # the one after it is being recorded from here on
        time.sleep(pause)
        running.kill()
        running.wait()
        running.stdout.close()
        with Catalog.open(home) as catalog:
            in_step(catalog)
            begin = count(catalog).assets // 10
    assert begin > 0
