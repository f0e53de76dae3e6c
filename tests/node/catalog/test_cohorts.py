"""Cohorts: what SQL and bits count is what a plain filter counts."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.catalog.cohorts import Cohort, Cohorts
from node.catalog.numbering import Members, bits_of, members_of
from node.catalog.rows import AssetRow
from node.catalog.selection import (
    AssetFilter,
    ConsentFilter,
    Days,
    Numbers,
    ObservationFilter,
    Selection,
    SubjectFilter,
)
from node.catalog.sources import CatalogClinicalStore
from node.catalog.store import Catalog
from node.home import NodeHome
from tests.examples import examples
from tests.node.catalog.making import TODAY, Records, asset, consent, observation, source

SUBJECTS = [f"s{n}" for n in range(8)]
TABLE = frozenset({"s0", "s1", "s5", "s7"})
CODES = ["http://loinc.org|8480-6", "|above-89"]


def days(subject: str) -> int:
    """By how many days a test subject's dates were moved."""
    return 1 + 52 * int(subject[1:])


@dataclass(frozen=True)
class World:
    """What a test's catalogue holds."""

    assets: tuple[AssetRow, ...]
    observations: tuple[tuple[Any, ...], ...]
    consents: tuple[tuple[Any, ...], ...]
    withdrawn: frozenset[str] = frozenset()


def somebody(draw: Callable[..., Any]) -> str:
    return str(draw(st.sampled_from(SUBJECTS)))


NEAR = st.dates(date(2024, 1, 1), date(2026, 12, 31))


@st.composite
def worlds(draw: Callable[..., Any]) -> World:
    assets = tuple(
        asset(
            number,
            somebody(draw),
            modality=draw(st.sampled_from(["CT", "MR", "SM"])),
            kind=draw(st.sampled_from(["dicom", "slide"])),
            magnification=draw(st.sampled_from([0.0, 20.0, 40.0])),
            study_uid=draw(st.sampled_from(["", "2.25.1", "2.25.2", "2.25.3"])),
            study_date=draw(st.none() | NEAR),
        )
        for number in range(draw(st.integers(0, 12)))
    )
    observations = tuple(
        observation(
            somebody(draw),
            draw(st.sampled_from(CODES)),
            number=draw(st.none() | st.sampled_from([80.0, 90.0, 120.0])),
            value=draw(st.none() | st.sampled_from(["http://x|yes", "http://x|no"])),
            time=draw(st.none() | st.datetimes(datetime(2024, 1, 1), datetime(2026, 12, 31))),
        )
        for _ in range(draw(st.integers(0, 10)))
    )
    consents = tuple(
        consent(
            somebody(draw),
            *draw(st.lists(st.sampled_from(["research", "teaching"]), max_size=2)),
            basis=draw(st.sampled_from(["consent", "law"])),
            starts=draw(st.none() | NEAR),
            ends=draw(st.none() | NEAR),
        )
        for _ in range(draw(st.integers(0, 10)))
    )
    return World(assets, observations, consents)


RANGES = st.builds(
    lambda first, length: Days(first=first, until=first + timedelta(days=length)),
    NEAR,
    st.integers(0, 600),
)
ASSETS = st.recursive(
    st.builds(
        AssetFilter,
        modality=st.none() | st.lists(st.sampled_from(["ct", "MR", "XX"]), min_size=1).map(tuple),
        kind=st.none() | st.just(("slide",)),
        magnification=st.none() | st.just(Numbers(minimum=20, maximum=30)),
        dated=st.none() | RANGES,
    ),
    lambda inner: st.builds(
        AssetFilter,
        any=st.none() | st.lists(inner, min_size=1, max_size=2).map(tuple),
        not_=st.none() | inner,
    ),
    max_leaves=4,
)
LEAVES = st.one_of(
    st.builds(SubjectFilter, asset=ASSETS),
    st.just(SubjectFilter(table="trial")),
    st.builds(
        lambda code, value, number, dated: SubjectFilter(
            observation=ObservationFilter(code=(code,), value=value, number=number, dated=dated)
        ),
        st.sampled_from([*CODES, "http://never|seen"]),
        st.none() | st.just(("http://x|yes",)),
        st.none() | st.just(Numbers(maximum=90)),
        st.none() | RANGES,
    ),
    st.builds(
        lambda purpose, basis: SubjectFilter(consent=ConsentFilter(purpose=purpose, basis=basis)),
        st.none() | st.just(("research",)) | st.just(("research", "teaching")),
        st.none() | st.just(("law",)),
    ),
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        SubjectFilter,
        all=st.none() | st.lists(inner, min_size=1, max_size=3).map(tuple),
        any=st.none() | st.lists(inner, min_size=1, max_size=3).map(tuple),
        not_=st.none() | inner,
    ),
    max_leaves=6,
)


# ---- the same, read aloud ------------------------------------------------------------------------


def is_meant(condition: AssetFilter, row: AssetRow) -> bool:
    words = ("kind", "modality")
    when, dated = row.study_date, condition.dated
    return (
        all(
            getattr(condition, w) is None
            or getattr(row, w).lower() in [v.lower() for v in getattr(condition, w)]
            for w in words
        )
        and (condition.magnification is None or 20 <= row.magnification <= 30)
        and (
            dated is None
            or (when is not None and (dated.first or date.min) <= when <= (dated.until or date.max))
        )
        and all(is_meant(one, row) for one in condition.all or ())
        and (condition.any is None or any(is_meant(one, row) for one in condition.any))
        and (condition.not_ is None or not is_meant(condition.not_, row))
    )


def is_seen(condition: ObservationFilter, row: tuple[Any, ...]) -> bool:
    _, code, number, value, _, time = row
    dated = condition.dated
    return (
        code in condition.code
        and (condition.value is None or value in condition.value)
        and (condition.number is None or (number is not None and number <= 90))
        and (
            dated is None
            or (
                time is not None
                and (dated.first or date.min) <= time.date() <= (dated.until or date.max)
            )
        )
    )


def is_allowed(condition: ConsentFilter, row: tuple[Any, ...]) -> bool:
    subject, basis, purposes, starts, ends = row
    today = TODAY - timedelta(days=days(subject))
    return (
        (condition.basis is None or basis in condition.basis)
        and (condition.purpose is None or bool(set(purposes) & set(condition.purpose)))
        and (starts or date.min) <= today <= (ends or date.max)
    )


def is_chosen(condition: SubjectFilter | None, subject: str, world: World) -> bool:
    if condition is None:
        return True
    a, o, c = condition.asset, condition.observation, condition.consent
    own = [row for row in world.assets if row.subject == subject]
    return (
        (a is None or any(is_meant(a, row) for row in own))
        and (o is None or any(row[0] == subject and is_seen(o, row) for row in world.observations))
        and (c is None or any(row[0] == subject and is_allowed(c, row) for row in world.consents))
        and (condition.table is None or subject in TABLE)
        and all(is_chosen(one, subject, world) for one in condition.all or ())
        and (condition.any is None or any(is_chosen(one, subject, world) for one in condition.any))
        and (condition.not_ is None or not is_chosen(condition.not_, subject, world))
    )


def plain_count(selection: Selection, world: World) -> Cohort:
    rows = (
        []
        if selection.assets is None
        else [row for row in world.assets if is_meant(selection.assets, row)]
    )
    chosen = {
        subject
        for subject in SUBJECTS
        if subject not in world.withdrawn
        and is_chosen(selection.subjects, subject, world)
        and (selection.table is None or subject in TABLE)
        and (
            selection.assets is None
            or selection.table is not None
            or any(row.subject == subject for row in rows)
        )
    }
    rows = [row for row in rows if row.subject in chosen]
    studies = {(row.subject, row.study_uid) for row in rows if row.study_uid}
    return Cohort(len(chosen), len(studies), len(rows))


def fill(catalog: Catalog, world: World) -> None:
    """Take a world in, in batches; every subject has a number."""
    half = len(world.assets) // 2
    catalog.record(world.assets[:half], [])
    catalog.record(world.assets[half:], [])
    store = CatalogClinicalStore(catalog)
    rows = Records({"observations": world.observations, "consents": world.consents})
    store.replace_source(source(), rows, ())
    everybody = Records({"observations": [observation(s, "http://x|here") for s in SUBJECTS]})
    store.replace_source(source("all"), everybody, ())
    gone = Records({"observations": [observation("s3", CODES[0], 80.0)]})
    store.replace_source(source("gone"), gone, ())
    store.replace_source(source("gone", "2" * 64), Records(), ())


def counted(catalog: Catalog, selection: Selection) -> Cohort:
    def table(name: str) -> Collection[str]:
        return TABLE

    with catalog.snapshot() as connection:
        return Cohorts(connection, TODAY, days, table).count(selection)


SELECTIONS = st.builds(
    Selection,
    assets=st.none() | ASSETS,
    subjects=st.none() | FILTERS,
    table=st.none() | st.just("trial"),
)


@settings(
    max_examples=examples(12, 25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(worlds(), st.lists(SELECTIONS, min_size=4, max_size=8))
def test_a_count_is_what_a_plain_filter_counts(
    tmp_path_factory: pytest.TempPathFactory,
    empty_catalogue: Path,
    world: World,
    selections: list[Selection],
) -> None:
    home = NodeHome(tmp_path_factory.mktemp("node")).create()
    home.database.write_bytes(empty_catalogue.read_bytes())
    with Catalog.open(home) as catalog:
        fill(catalog, world)
        for selection in selections:
            assert counted(catalog, selection) == plain_count(selection, world)


def test_either_database_counts_the_same(either: Catalog) -> None:
    world = World(
        assets=tuple(
            asset(
                n,
                SUBJECTS[n % 7],
                modality=["CT", "MR"][n % 2],
                study_uid=f"2.25.{n % 3}",
                study_date=None if n % 5 == 0 else date(2025, 1 + n % 12, 1),
            )
            for n in range(40)
        ),
        observations=tuple(observation(SUBJECTS[n], CODES[0], 70.0 + n) for n in range(6)),
        consents=tuple(
            consent(SUBJECTS[n], "research", ends=TODAY - timedelta(days=60 * n)) for n in range(7)
        ),
    )
    fill(either, world)
    ct = AssetFilter(modality=("CT",))
    spring = AssetFilter(dated=Days(first=date(2025, 3, 1), until=date(2025, 5, 31)))
    for selection in (
        Selection(assets=AssetFilter()),
        Selection(assets=ct),
        Selection(assets=AssetFilter(any=(ct, spring))),
        Selection(assets=spring, subjects=SubjectFilter(not_=SubjectFilter(asset=ct))),
        Selection(subjects=SubjectFilter(consent=ConsentFilter(purpose=("research",)))),
        Selection(
            subjects=SubjectFilter(
                observation=ObservationFilter(code=(CODES[0],), number=Numbers(maximum=90))
            )
        ),
        Selection(table="trial", assets=ct),
    ):
        assert counted(either, selection) == plain_count(selection, world)


def test_without_the_key_a_period_that_depends_on_it_is_not_in_force(catalog: Catalog) -> None:
    rows = [
        consent("s0", "research"),
        consent("s1", "research", ends=TODAY - timedelta(days=100)),
        consent("s2", "research", ends=TODAY - timedelta(days=400)),
    ]
    CatalogClinicalStore(catalog).replace_source(source(), Records({"consents": rows}), ())
    wanted = Selection(subjects=SubjectFilter(consent=ConsentFilter(purpose=("research",))))
    with catalog.snapshot() as connection:
        assert Cohorts(connection, TODAY).count(wanted).subjects == 1
        assert Cohorts(connection, TODAY, lambda s: 365).count(wanted).subjects == 2
        assert Cohorts(connection, TODAY, lambda s: 1).count(wanted).subjects == 1


@given(st.sets(st.integers(0, 20_000)), st.sets(st.integers(0, 20_000)))
def test_a_set_of_numbers_as_bits_is_that_set(some: set[int], other: set[int]) -> None:
    bits, others = bits_of(some), bits_of(other)
    assert set(members_of(bits)) == some
    assert bits.bit_count() == len(some)
    assert set(members_of(bits & ~others)) == some - other
    assert set(members_of(~(~bits & ~others))) == some | other
    members = Members(bits)
    assert all((number in members) == (number in some) for number in some | other)
