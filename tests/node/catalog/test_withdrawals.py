"""Withdrawal: releases stop answering, and what replaces them doesn't point at who left."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import combinations, count
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete
from typer.testing import CliRunner, Result

from contract.errors import DataError, NotFound, Unavailable
from node.catalog import schema
from node.catalog.consents import Consents
from node.catalog.freezing import plan_release
from node.catalog.groups import Group, Groups, Link
from node.catalog.manifest import SUBJECT
from node.catalog.releases import create_release, verify_release, write_release
from node.catalog.rows import ReleaseRow
from node.catalog.selection import AssetFilter, ObservationFilter, Selection, SubjectFilter
from node.catalog.sources import CatalogClinicalStore
from node.catalog.store import Catalog
from node.catalog.withdrawals import holds, seals_of
from node.commands import consent, release
from node.config import create_home
from node.deid.pseudonyms import Pseudonyms
from node.gate.ledger import read_entries
from node.home import NodeHome
from node.intake.clinical import Staging
from node.intake.consent_file import ConsentFile
from node.intake.quality import QualityReport
from node.intake.records import SourceReport
from tests.node.catalog.making import NOW, TODAY, Records, asset, observation, source

EVERYTHING = Selection(assets=AssetFilter())
OMIT = 4
PEOPLE = 40


class Hospital:
    """A catalogue with assets of many subjects, and a lot that is drawn as told."""

    def __init__(
        self, home: NodeHome, catalog: Catalog, seed: int = 1, *, files: bool = True
    ) -> None:
        self.home = home
        self.files = files
        self.catalog = catalog
        self.chance = random.Random(seed)
        self.numbers = count()

    def take_in(self, *subjects: str, **values: object) -> None:
        home = self.home if self.files else None
        self.catalog.record([asset(next(self.numbers), s, home, **values) for s in subjects], [])

    def draw(self, some: Sequence[str], number: int) -> Sequence[str]:
        return self.chance.sample(some, number)

    def freeze(self, selection: Selection = EVERYTHING, name: str = "r") -> ReleaseRow:
        return create_release(
            self.catalog, self.home, name, selection, now=NOW, omissions=OMIT, draw=self.draw
        )

    def register(self, selection: Selection, name: str) -> set[str]:
        """Freeze without files; return who is inside."""
        plan = plan_release(
            self.catalog,
            self.home,
            name,
            selection,
            today=TODAY,
            omissions=OMIT,
            draw=self.draw,
        )
        self.catalog.add_release(plan.manifest.digest, plan.manifest, NOW, plan.held)
        return set(plan.held.subjects)

    def withdraw(self, *subjects: str) -> tuple[str, ...]:
        consents = Consents(self.catalog, self.home, lambda subject: 1)
        return consents.withdraw(subjects, NOW).releases

    def inside(self, row: ReleaseRow) -> set[str]:
        index = pl.read_parquet(self.home.release(row.digest) / "assets.parquet")
        return set(index[SUBJECT])


@pytest.fixture
def hospital(home: NodeHome, catalog: Catalog) -> Hospital:
    made = Hospital(home, catalog)
    made.take_in(*(f"s{n:02}" for n in range(PEOPLE)))
    return made


def test_a_withdrawal_revokes_every_release_that_holds_the_subject_and_no_other(
    hospital: Hospital,
) -> None:
    hospital.take_in("m1", "m2", modality="MR")
    every = hospital.freeze()
    magnetic = hospital.freeze(Selection(assets=AssetFilter(modality=("MR",))), "mr")
    hospital.catalog.grant(every.digest, "north", "stroke", NOW)
    hospital.catalog.grant(magnetic.digest, "north", "stroke", NOW)
    assert hospital.withdraw("s07") == (every.digest,)
    assert [r.digest for r in hospital.catalog.granted("north", "stroke")] == [magnetic.digest]
    revoked = hospital.catalog.list_releases()
    reasons = {r.digest: r.revoked_reason for r in revoked if r.revoked_at}
    assert reasons == {every.digest: "withdrawal"}
    with pytest.raises(NotFound, match="revoked"):
        hospital.catalog.find_release("r")
    assert hospital.withdraw("s07") == ()


def test_the_replacement_leaves_out_the_subject_and_others(hospital: Hospital) -> None:
    first = hospital.freeze()
    hospital.withdraw("s07")
    second = hospital.freeze()
    left = hospital.inside(first) - hospital.inside(second)
    assert "s07" in left
    assert len(left) == 1 + OMIT
    assert second.subjects == PEOPLE - 1 - OMIT
    assert verify_release(hospital.home, second.digest) == second.manifest


def test_who_is_omitted_is_drawn_once(hospital: Hospital) -> None:
    hospital.freeze()
    hospital.withdraw("s07")
    again = {hospital.freeze(name=f"r{n}").subjects for n in range(5)}
    inside = [hospital.inside(hospital.freeze(name=f"r{n}")) for n in range(5)]
    assert again == {PEOPLE - 1 - OMIT}
    assert all(one == inside[0] for one in inside)
    # The same subjects by another selection: the same others.
    other = hospital.freeze(Selection(assets=AssetFilter(modality=("CT", "MR"))), "other")
    assert hospital.inside(other) == inside[0]
    # A subject who comes later changes nothing for those who were here.
    hospital.take_in("s99")
    assert hospital.inside(hospital.freeze(name="later")) == inside[0] | {"s99"}


def test_a_plan_draws_nothing_that_is_remembered(hospital: Hospital) -> None:
    hospital.freeze()
    hospital.withdraw("s07")
    planned = [
        plan_release(
            hospital.catalog, hospital.home, "r", EVERYTHING, today=TODAY, omissions=OMIT,
            draw=hospital.draw,
        )
        for _ in range(3)
    ]  # fmt: skip
    assert len({frozenset(plan.held.subjects) for plan in planned}) > 1
    made = write_release(hospital.catalog, hospital.home, planned[1], now=NOW)
    assert hospital.inside(made) == set(planned[1].held.subjects)
    with pytest.raises(Unavailable, match="meanwhile"):
        write_release(hospital.catalog, hospital.home, planned[0], now=NOW)


def test_a_release_that_was_planned_before_a_withdrawal_is_not_made(hospital: Hospital) -> None:
    plan = plan_release(hospital.catalog, hospital.home, "r", EVERYTHING, today=TODAY)
    hospital.withdraw("s07")
    with pytest.raises(Unavailable, match="withdrawn"):
        write_release(hospital.catalog, hospital.home, plan, now=NOW)
    assert hospital.catalog.list_releases() == []
    assert list(hospital.home.releases.iterdir()) == []


def test_nobody_is_omitted_for_one_who_was_never_released(hospital: Hospital) -> None:
    hospital.withdraw("s07", "stranger")
    assert hospital.freeze().subjects == PEOPLE - 1
    assert hospital.freeze(name="again").subjects == PEOPLE - 1


def test_a_release_with_too_few_to_hide_behind_is_not_made(
    home: NodeHome, catalog: Catalog
) -> None:
    hospital = Hospital(home, catalog)
    hospital.take_in(*(f"s{n}" for n in range(OMIT + 1)))
    hospital.freeze()
    hospital.withdraw("s0")
    with pytest.raises(DataError, match="Too few"):
        hospital.freeze()


def test_a_release_of_before_whom_releases_hold_was_noted_is_found_by_its_files(
    hospital: Hospital,
) -> None:
    old = hospital.freeze()
    hospital.take_in("m1", modality="MR")
    other = hospital.freeze(Selection(assets=AssetFilter(modality=("MR",))), "mr")
    damaged = hospital.freeze(Selection(assets=AssetFilter(modality=("MR",))), "damaged")
    with hospital.catalog.engine.begin() as connection:
        connection.execute(delete(schema.release_index))
    index = hospital.home.release(damaged.digest) / "assets.parquet"
    index.write_bytes(index.read_bytes() + b"x")
    # What can't be read counts as holding everybody.
    assert set(hospital.withdraw("s07")) == {old.digest, damaged.digest}
    assert hospital.catalog.find_release("mr").digest == other.digest


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("withdraw"), st.integers(0, PEOPLE - 1)),
        st.tuples(st.just("freeze"), st.integers(0, 2)),
    ),
    min_size=4,
    max_size=14,
)
# Three ways to say the same subjects.
SAME = (
    EVERYTHING,
    Selection(assets=AssetFilter(modality=("CT",))),
    Selection(assets=AssetFilter(kind=("dicom", "slide"))),
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(STEPS, st.integers(0, 100))
def test_no_combination_of_releases_isolates_fewer_than_those_who_hide_one(
    tmp_path_factory: pytest.TempPathFactory,
    empty_catalogue: Path,
    steps: list[tuple[str, int]],
    seed: int,
) -> None:
    """Releases are nested blocks: every difference is a union of blocks of OMIT + 1 or more."""
    home = NodeHome(tmp_path_factory.mktemp("node")).create()
    home.database.write_bytes(empty_catalogue.read_bytes())
    with Catalog.open(home) as catalog:
        hospital = Hospital(home, catalog, seed, files=False)
        everybody = [f"s{n:02}" for n in range(PEOPLE)]
        hospital.take_in(*everybody)
        inside = [hospital.register(EVERYTHING, "r")]
        withdrawn: set[str] = set()
        for number, (what, which) in enumerate(steps):
            if what == "withdraw":
                hospital.withdraw(everybody[which])
                withdrawn.add(everybody[which])
                continue
            try:
                made = hospital.register(SAME[which], f"r{number}")
            except DataError:
                continue
            inside.append(made)
            assert not inside[-1] & withdrawn
        for one, other in combinations(inside, 2):
            assert one >= other or other >= one
            assert one == other or len(one ^ other) >= OMIT + 1
        # Sums over releases tell sums over classes that they don't tell apart; none is small.
        vectors = np.array([[s in one for one in inside] for s in everybody])
        _, sizes = np.unique(vectors, axis=0, return_counts=True)
        assert min(sizes) >= OMIT + 1


@given(st.sets(st.text(max_size=8)), st.text(max_size=8))
def test_a_seal_says_who_is_inside_and_nobody_else(inside: set[str], other: str) -> None:
    seals = seals_of(inside)
    assert all(holds(seals, subject) for subject in inside)
    assert holds(seals, other) == (other in inside)


# ---- the commands --------------------------------------------------------------------------------

KEY = Pseudonyms(bytes(range(32)))


@pytest.fixture
def node(tmp_path: Path) -> NodeHome:
    """A node with a key, and images of thirty patients."""
    home = create_home(NodeHome(tmp_path / "hospital"))
    home.pseudonym_key.touch(mode=0o600)
    home.pseudonym_key.write_bytes(bytes(range(32)))
    with Catalog.open(home) as catalog:
        rows = [asset(n, KEY.subject(f"MRN{n:03}"), home) for n in range(30)]
        catalog.record(rows, [])
    return home


def call(app: object, home: NodeHome, *arguments: str, entered: str = "") -> Result:
    return CliRunner().invoke(
        app,  # type: ignore[arg-type]
        [*arguments, "--home", str(home.root)],
        input=entered,
    )


def test_withdrawal_from_the_number_to_the_replacement(node: NodeHome, tmp_path: Path) -> None:
    made = call(release.app, node, "create", "images", "--all-assets")
    assert made.exit_code == 0, made.output
    digest = made.output.split()[-1]
    with Catalog.open(node) as catalog:
        catalog.grant(digest, "north", "stroke", NOW)

    looked = call(consent.app, node, "withdraw", "--dry-run", entered="MRN007\n")
    assert "1 would withdraw" in looked.output
    assert "images" in looked.output
    unknown = call(consent.app, node, "withdraw", entered="MRN999\n")
    assert isinstance(unknown.exception, NotFound)
    with Catalog.open(node) as catalog:
        assert len(catalog.granted("north", "stroke")) == 1

    done = call(consent.app, node, "withdraw", entered="MRN007\n")
    assert done.exit_code == 0, done.output
    assert "1 withdrew." in done.output
    assert f"({digest[:16]}) is revoked" in done.output
    with Catalog.open(node) as catalog:
        assert catalog.granted("north", "stroke") == []
    entry = [e for e in read_entries(node.ledger) if e.kind == "consent-withdrawn"][-1]
    assert entry.body == {"releases": [digest]}
    assert "withdrawal" in call(release.app, node, "show", digest[:12]).output

    made = call(release.app, node, "create", "images", "--all-assets")
    assert "19 subjects" in made.output
    assert "Left out: 1 who withdrew, 10 others at random." in made.output
    shown = call(consent.app, node, "show", entered="MRN007").output
    assert "withdrew" in shown
    assert "in release" not in shown
    numbers = tmp_path / "numbers.txt"
    numbers.write_text("MRN007\nMRN008\n\nMRN009\n")
    more = call(consent.app, node, "withdraw", "--file", str(numbers))
    assert "2 withdrew; 1 had before." in more.output
    listed = call(consent.app, node, "list").output
    assert "3  withdrew" in listed


def test_an_unknown_number_is_recorded_when_that_is_wished(node: NodeHome) -> None:
    done = call(consent.app, node, "withdraw", "--unknown", entered="MRN999\n")
    assert "1 withdrew." in done.output
    with Catalog.open(node) as catalog:
        catalog.record([asset(99, KEY.subject("MRN999"), node)], [])
    assert "30 subjects" in call(release.app, node, "create", "r", "--all-assets").output


def test_a_number_is_no_argument_and_is_on_no_output(node: NodeHome) -> None:
    assert call(consent.app, node, "withdraw", "MRN007").exit_code == 2
    for command in (["withdraw"], ["show"], ["list"]):
        output = call(consent.app, node, *command, entered="MRN007\n").output
        assert "MRN007" not in output


def test_a_list_of_consents_decides_who_is_released(node: NodeHome, tmp_path: Path) -> None:
    lines = ["number,basis,purposes,from,until"]
    lines += [f"MRN{n:03},consent,research; teaching,2020-01-01," for n in range(20)]
    lines += [f"MRN{n:03},consent,research,2020-01-01,2021-01-01" for n in range(20, 25)]
    lines += ["MRN025,law,,,", "MRN026,consent,research,not a day,"]
    path = tmp_path / "consents.csv"
    path.write_text("\n".join(lines))
    assert "26 subjects" in call(consent.app, node, "add", str(path), "--dry-run").output
    taken = call(consent.app, node, "add", str(path))
    assert taken.exit_code == 0, taken.output
    assert "nothing changed" in call(consent.app, node, "add", str(path)).output
    counts = call(consent.app, node, "list").output.split("\n")
    assert [line.split() for line in counts if "research" in line] == [
        ["5", "not", "in", "force", "consent", "research"],
        ["20", "in", "force", "consent", "research"],
    ]
    arguments = ("create", "r", "--all-assets", "--purpose", "research")
    assert "20 subjects" in call(release.app, node, *arguments).output
    with Catalog.open(node) as catalog:
        consents = Consents(catalog, node, KEY.days)
        today = date(2026, 3, 1)
        assert consents.allows(KEY.subject("MRN003"), "research", today)
        assert not consents.allows(KEY.subject("MRN003"), "faces", today)
        assert not consents.allows(KEY.subject("MRN021"), "research", today)
        assert consents.allows(KEY.subject("MRN021"), "research", date(2021, 1, 1))
        assert not consents.allows(KEY.subject("MRN021"), "research", date(2021, 1, 2))
        now = datetime(2026, 3, 1, tzinfo=NOW.tzinfo) + timedelta(days=1)
        consents.withdraw([KEY.subject("MRN003")], now)
        assert not consents.allows(KEY.subject("MRN003"), "research", today)


@pytest.mark.parametrize("text", ["", "number\n", "number,basis,sex\n", "number,basis\nM1\n", "\0"])
def test_a_file_that_is_no_list_of_consents_is_refused(
    node: NodeHome, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "consents.csv"
    path.write_text(text)
    assert isinstance(call(consent.app, node, "add", str(path)).exception, DataError)


def test_either_database_freezes_revokes_and_leaves_out(either: Catalog, home: NodeHome) -> None:
    hospital = Hospital(home, either)
    hospital.take_in(*(f"s{n:02}" for n in range(PEOPLE)))
    rows = Records({"observations": [observation(f"s{n:02}", "|x", 1.0) for n in range(PEOPLE)]})
    CatalogClinicalStore(either).replace_source(source(), rows, ())
    wanted = Selection(
        assets=AssetFilter(modality=("CT",)),
        observations=("|x",),
        subjects=SubjectFilter(observation=ObservationFilter(code=("|x",))),
    )
    first = hospital.freeze(wanted)
    assert first.manifest.observations == PEOPLE
    digest = either.list_assets()[0].digest
    group = Group("g", "case", "s00", (Link("ct", "asset", digest),), NOW)
    Groups(either, home).put([group])
    assert hospital.withdraw("s00", "s01") == (first.digest,)
    assert Groups(either, home).names() == []
    second = hospital.freeze(wanted)
    assert second.subjects == PEOPLE - 2 - OMIT
    assert second.manifest.observations == second.subjects
    assert hospital.freeze(wanted, "again").subjects == second.subjects


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda t: t.encode()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_are_a_list_of_consents_or_a_clear_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "consents.csv"
    path.write_bytes(b"number,basis,purposes,from,until\n" + data)
    report = SourceReport("x", "consents", QualityReport("x"))
    staging = Staging(None)
    try:
        ConsentFile(path, KEY).read(staging, report, NOW)
    except DataError:
        return
    assert staging.counts.get("consents", 0) == report.taken["Consent"]
