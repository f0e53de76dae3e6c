"""Sources of records: replaced whole, or not at all, whatever kills it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from contract.errors import StorageError
from node.catalog import schema, sources
from node.catalog.consents import Consents
from node.catalog.sources import CatalogClinicalStore
from node.catalog.store import Catalog
from node.home import NodeHome
from node.intake.clinical import ClinicalStore
from tests.examples import examples
from tests.node.catalog.making import (
    NOW,
    Records,
    consent,
    finding,
    observation,
    source,
)

CODE = "http://loinc.org|8480-6"


def held(catalog: Catalog) -> dict[str, int]:
    """Return how many rows of each kind there are at all."""
    tables = (schema.observations, schema.consents, schema.reported_studies, schema.sources)
    with catalog.reading.connect() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in tables
        }


def values(catalog: Catalog, name: str = "epic") -> list[float]:
    """Return the numbers of a source's observations that count."""
    table = schema.observations
    query = (
        select(table.c.value_number)
        .join(schema.sources, schema.sources.c.number == table.c.source)
        .where(schema.sources.c.name == name, schema.sources.c.current)
        .order_by(table.c.value_number)
    )
    with catalog.reading.connect() as connection:
        return list(connection.execute(query).scalars())


def test_a_source_is_replaced_whole_and_leaves_nothing_behind(either: Catalog) -> None:
    store: ClinicalStore = CatalogClinicalStore(either)
    assert store.source_digest("epic") is None
    first = Records(
        {
            "observations": [observation(f"s{n}", CODE, float(n)) for n in range(10)],
            "consents": [consent("s1", "research", "teaching", starts=date(2020, 1, 1))],
            "studies": [("s1", "2.25.1", datetime(2020, 5, 4, 3, 2, 1))],
        }
    )
    store.replace_source(source(), first, (finding(),))
    assert store.source_digest("epic") == "1" * 64
    assert values(either) == [float(n) for n in range(10)]
    other = Records({"observations": [observation("s1", CODE, 1.0)]})
    store.replace_source(source("other"), other, (finding("bad-json", "Patient", 3),))
    second = Records({"observations": [observation("s1", CODE, 99.5)]})
    store.replace_source(source(digest="2" * 64), second, ())
    assert values(either) == [99.5]
    assert values(either, "other") == [1.0]
    assert store.source_digest("epic") == "2" * 64
    assert held(either) == {
        "observations": 2,
        "consents": 0,
        "reported_studies": 0,
        "sources": 2,
    }
    known = CatalogClinicalStore(either)
    assert [(s.name, s.kind, s.rows) for s in known.sources()] == [
        ("epic", "fhir", 1),
        ("other", "fhir", 1),
    ]
    assert [(f.source, f.rule, f.where, f.count, f.time) for f in known.findings()] == [
        ("other", "bad-json", "Patient", 3, NOW)
    ]


def test_what_a_source_says_is_kept_as_it_says_it(either: Catalog, home: NodeHome) -> None:
    moment = datetime(1932, 2, 29, 23, 59, 58)
    rows = Records(
        {
            "observations": [
                observation("a", "http://x|" + "c" * 150, 1.5, "http://v|yes", "mm[Hg]", moment),
                observation("a", "|above-89", 1.0),
            ],
            "consents": [consent("a", "research", starts=date(2020, 1, 1), ends=date(2021, 1, 1))],
        }
    )
    CatalogClinicalStore(either).replace_source(source(), rows, ())
    table, terms = schema.observations, schema.terms
    with either.reading.connect() as connection:
        row = connection.execute(
            select(table, terms.c.system, terms.c.code)
            .join(terms, terms.c.number == table.c.term)
            .where(table.c.unit != "")
        ).one()
    assert (row.system, row.code, row.value_number) == ("http://x", "c" * 150, 1.5)
    assert datetime(1970, 1, 1) + timedelta(seconds=row.time) == moment
    standing = Consents(either, home, lambda subject: 10).standing("a")
    (held_consent,) = standing.consents
    assert (held_consent.starts, held_consent.ends) == (date(2020, 1, 11), date(2021, 1, 11))
    assert held_consent.purposes == ("research",)


def test_a_source_that_fails_half_way_leaves_the_old_rows(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CatalogClinicalStore(catalog)
    old = Records({"observations": [observation("s1", CODE, 1.0)]})
    store.replace_source(source(), old, (finding(),))

    class Broken(Records):
        def batches(self, kind):  # type: ignore[no-untyped-def]
            yield from super().batches(kind)
            if kind == "observations":
                raise StorageError("full")

    new = {"observations": [observation("s1", CODE, 2.0)] * 5}
    with pytest.raises(StorageError):
        store.replace_source(source(digest="2" * 64), Broken(new), ())
    assert values(catalog) == [1.0]
    assert store.source_digest("epic") == "1" * 64
    assert len(store.findings()) == 1
    store.replace_source(source(digest="3" * 64), Records(new), ())
    assert values(catalog) == [2.0] * 5
    assert held(catalog)["observations"] == 5


def test_rows_are_written_in_small_transactions(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "AT_ONCE", 7)
    store = CatalogClinicalStore(catalog)
    rows = [observation(f"s{n}", CODE, float(n)) for n in range(50)]
    store.replace_source(source(), Records({"observations": rows}, batch=20), ())
    store.replace_source(source(digest="2" * 64), Records({"observations": rows[:30]}), ())
    assert held(catalog) == {
        "observations": 30, "consents": 0, "reported_studies": 0, "sources": 1,
    }  # fmt: skip


WRITER = """
import sys, pathlib
from node.catalog import sources
from node.catalog.store import Catalog
from node.home import NodeHome
from tests.node.catalog.making import Records, consent, finding, observation, source
sources.AT_ONCE = 50
with Catalog.open(NodeHome(pathlib.Path(sys.argv[1]))) as catalog:
    store = sources.CatalogClinicalStore(catalog)
    for n in range(int(sys.argv[2]), 10**6):
        rows = Records({
            "observations": [observation(f"s{i}", "|x", float(n)) for i in range(400)],
            "consents": [consent(f"s{i}", f"p{n}") for i in range(100)],
        }, batch=100)
        store.replace_source(source(digest=f"{n:064}"), rows, (finding(count=n),))
        print(n, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_source_whole(home: NodeHome) -> None:
    Catalog.open(home).close()
    chance = random.Random(3)
    begin = 1
    for _ in range(examples(2, 8)):
        running = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(home.root), str(begin)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
        )
        assert running.stdout is not None
        first = running.stdout.readline()  # the one after it is being written from here on
        time.sleep(chance.random() * 0.4)
        running.send_signal(signal.SIGKILL)
        stored = int((running.stdout.read() or first).split()[-1])
        running.wait()
        running.stdout.close()
        with Catalog.open(home) as catalog:
            store = CatalogClinicalStore(catalog)
            digest = store.source_digest("epic")
            found = values(catalog)
            assert digest is not None
            number = int(digest)
            assert number in {stored, stored + 1}
            assert found == [float(number)] * 400
            assert [f.count for f in store.findings()] == [number]
            counts = Consents(catalog, home, lambda subject: 1).counts(NOW.date())
            assert counts == {("consent", f"p{number}", True): 100}
            begin = number + 1
    with Catalog.open(home) as catalog:
        last = Records({"observations": [observation("s1", CODE, 1.0)]})
        CatalogClinicalStore(catalog).replace_source(source(), last, ())
        assert held(catalog)["observations"] == 1
        assert held(catalog)["consents"] == 0
