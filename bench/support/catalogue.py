"""A catalogue of a million instances, from synthetic headers, and what it answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node.catalog.rows import AssetRow

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
# Modality, parts, instances of a study: a mixture like that of a hospital's archive.
MIXTURE = (
    ("CT", ("CHEST", "ABDOMEN", "HEAD"), 300),
    ("MR", ("HEAD", "KNEE", "SPINE"), 250),
    ("CR", ("CHEST", "HAND"), 2),
    ("DX", ("CHEST", "PELVIS", "FOOT"), 2),
    ("MG", ("BREAST",), 4),
    ("US", ("ABDOMEN", "THYROID"), 30),
    ("XA", ("HEART",), 20),
)
STUDY_SHARES = (8, 8, 40, 30, 6, 6, 2)
MODELS = tuple((f"Maker {n % 6}", f"Model {n}") for n in range(14))


def headers(count: int, seed: int = 1, *, one_each: bool = False) -> Iterator[AssetRow]:
    """Yield the rows of ``count`` instances; ``one_each`` puts each in a study of its own."""
    from node.catalog.rows import AssetRow

    chance = Random(seed)
    made = study = 0
    while made < count:
        study += 1
        modality, parts, instances = chance.choices(MIXTURE, STUDY_SHARES)[0]
        size = 1 if one_each else max(1, round(chance.expovariate(1 / instances)))
        subject = f"{chance.randrange(max(1, count // 3 if one_each else count // 40)):032x}"
        maker, model = chance.choice(MODELS)
        part = chance.choice(parts)
        when = date(2012, 1, 1) + timedelta(days=chance.randrange(5000))
        for number in range(min(size, count - made)):
            yield AssetRow(
                digest=f"{made:064x}",
                subject=subject,
                study_uid=f"2.25.{study}",
                series_uid=f"2.25.{study}.{number // 100}",
                sop_instance_uid=f"2.25.9{made}",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
                modality=modality,
                body_part=part,
                manufacturer=maker,
                rows=512,
                columns=512,
                frames=1,
                size_bytes=527_000,
                ingested_at=NOW,
                study_date=when,
                device_model=model,
            )
            made += 1


def fill(home: Path, count: int, *, one_each: bool = False, batch: int = 5000) -> float:
    """Take so many instances in as ingest does; return instances per second."""
    from itertools import islice

    from node.catalog.rows import IntakeRow
    from node.catalog.store import Catalog
    from node.home import NodeHome

    start = time.perf_counter()
    rows = headers(count, one_each=one_each)
    with Catalog.open(NodeHome(home).create()) as catalog:
        while some := list(islice(rows, batch)):
            outcomes = [
                IntakeRow(f"k{row.digest[1:]}", "accepted", "", row.digest, NOW) for row in some
            ]
            catalog.record(some, outcomes)
    return count / (time.perf_counter() - start)


COHORTS = {
    "one modality": {"assets": {"modality": ["CT"]}},
    "several conditions": {
        "assets": {
            "modality": ["CT", "MR"],
            "body_part": ["CHEST", "HEAD"],
            "device_model": ["Model 3"],
        }
    },
    "nested, by subject": {
        "subjects": {
            "all": [{"asset": {"modality": ["CT"], "body_part": ["CHEST"]}}],
            "not": {"asset": {"any": [{"modality": ["MG"]}, {"device_model": ["Model 5"]}]}},
        }
    },
    "five years of CT": {
        "assets": {"modality": ["CT"], "dated": {"from": "2015-01-01", "until": "2019-12-31"}}
    },
    "everything": {"assets": {}},
}
"""Cohorts of different kinds; the slowest counts."""


def ask(home: Path, times: int = 5) -> dict[str, float]:
    """Open the catalogue and count cohorts; return milliseconds of each, and of the opening."""
    from node.catalog.cohorts import Cohorts
    from node.catalog.selection import parse_selection
    from node.catalog.store import Catalog
    from node.home import NodeHome

    found: dict[str, float] = {}
    start = time.perf_counter()
    with Catalog.open(NodeHome(home)) as catalog:
        catalog.totals()
        found["open_ms"] = (time.perf_counter() - start) * 1000
        for name, values in COHORTS.items():
            selection = parse_selection(values, name)
            taken = []
            for _ in range(times):
                start = time.perf_counter()
                with catalog.snapshot() as connection:
                    cohort = Cohorts(connection, NOW.date()).count(selection)
                taken.append((time.perf_counter() - start) * 1000)
            if not cohort.subjects:
                raise SystemExit(f"nobody is in the cohort of {name}")
            found[name] = max(taken)
    return found


def ask_alone(home: Path) -> tuple[dict[str, float], float]:
    """Ask in a process of its own; return its figures and its highest resident MB."""
    import json

    code = (
        "import sys, json, pathlib; from bench.support.catalogue import ask; "
        "print(json.dumps(ask(pathlib.Path(sys.argv[1]))))"
    )
    root = Path(__file__).resolve().parent.parent.parent
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, cwd=root
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("counting failed")
    return json.loads(output), usage.ru_maxrss * 1024 / 1e6
