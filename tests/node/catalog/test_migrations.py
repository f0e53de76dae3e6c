"""A filled catalogue of the first revision becomes one of the newest, with nothing lost."""

from __future__ import annotations

from dataclasses import replace

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, insert, inspect, select, text

from node.catalog import schema
from node.catalog.cohorts import Cohort, Cohorts
from node.catalog.database import MIGRATIONS
from node.catalog.manifest import ReleaseManifest
from node.catalog.rows import IntakeRow
from node.catalog.selection import AssetFilter, Selection
from node.catalog.store import Catalog
from node.home import NodeHome
from tests.node.catalog.making import NOW, TODAY, asset

SUBJECTS, STUDIES = 5000, 9


def first_catalogue(url: str) -> None:
    """Make a catalogue of revision 0001 and fill it."""
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    old = MetaData()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        old.reflect(connection)
        connection.execute(
            insert(old.tables["assets"]),
            [
                {
                    "digest": f"{number:064x}",
                    "subject": f"s{number % SUBJECTS:05}",
                    "study_uid": "" if number % 7 == 0 else f"2.25.{number % STUDIES}",
                    "series_uid": "2.25.2",
                    "sop_instance_uid": f"2.25.3{number}",
                    "sop_class_uid": "1.2",
                    "modality": "CT" if number < SUBJECTS else "MR",
                    "body_part": "HEAD",
                    "manufacturer": "",
                    "rows": 1,
                    "columns": 1,
                    "frames": 1,
                    "size_bytes": 1,
                    "ingested_at": NOW,
                }
                for number in range(SUBJECTS + 20)
            ],
        )
        manifest = {"format": 1, "name": "old", "table": None, "rows": 0, "subjects": 2}
        connection.execute(
            insert(old.tables["releases"]),
            {
                "digest": "d" * 64,
                "name": "old",
                "manifest_json": ReleaseManifest(**manifest, files=()).to_bytes().decode(),
                "subjects": 2,
                "created_at": NOW,
            },
        )
        connection.execute(
            insert(old.tables["grants"]),
            {"release": "d" * 64, "consortium": "north", "project": "stroke", "granted_at": NOW},
        )
        connection.execute(
            insert(old.tables["intake"]),
            {
                "source_digest": "s" * 64,
                "outcome": "accepted",
                "reason": "",
                "asset": f"{7:064x}",
                "time": NOW,
            },
        )
    engine.dispose()


def test_a_filled_catalogue_of_the_first_revision_is_counted_and_loses_nothing(
    url: str, home: NodeHome
) -> None:
    first_catalogue(url)
    with Catalog.open(home, url) as catalog:
        with catalog.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, schema.metadata) == []
        rows = catalog.list_assets()
        assert len(rows) == SUBJECTS + 20
        assert {(row.kind, row.suffix, row.study_date) for row in rows} == {("dicom", ".dcm", None)}
        assert catalog.assets_by_modality() == {"CT": SUBJECTS, "MR": 20}
        assert [r.digest for r in catalog.granted("north", "stroke")] == ["d" * 64]
        assert catalog.find_release("old").revoked_reason == ""
        with catalog.snapshot() as connection:
            cohorts = Cohorts(connection, TODAY)
            everything = cohorts.count(Selection(assets=AssetFilter()))
            magnetic = cohorts.count(Selection(assets=AssetFilter(modality=("MR",))))
            studies = connection.execute(select(schema.studies.c.number)).all()
        assert everything == Cohort(SUBJECTS, len(studies), SUBJECTS + 20)
        expected = {row.study_uid + row.subject for row in rows if row.modality == "MR"}
        bare = {row.subject for row in rows if row.modality == "MR" and not row.study_uid}
        assert magnetic == Cohort(20, len(expected - bare), 20)


def test_what_is_taken_in_after_the_migration_is_counted_with_the_rest(
    url: str, home: NodeHome
) -> None:
    first_catalogue(url)
    with Catalog.open(home, url) as catalog:
        catalog.record([asset(10**6, "s00000"), asset(10**6 + 1, "new")], [])
        with catalog.snapshot() as connection:
            found = Cohorts(connection, TODAY).count(Selection(assets=AssetFilter()))
        assert (found.subjects, found.assets) == (SUBJECTS + 1, SUBJECTS + 22)


def test_two_slides_without_an_instance_uid_are_two_assets(url: str, home: NodeHome) -> None:
    with Catalog.open(home, url) as catalog:
        names = {i["name"] for i in inspect(catalog.engine).get_indexes("assets")}
        assert "ix_assets_sop_instance_uid" in names
        catalog.record(
            [asset(n, "s", sop_instance_uid="", kind="slide", suffix=".svs") for n in range(2)], []
        )
        assert catalog.assets_by(("kind",)) == {("slide",): 2}


def test_a_file_taken_in_before_is_its_patients_and_may_be_anothers_too(
    url: str, home: NodeHome
) -> None:
    first_catalogue(url)
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0007")
        connection.execute(text("UPDATE assets SET kind = 'photograph' WHERE subject = 's00007'"))
    engine.dispose()
    with Catalog.open(home, url) as catalog:
        before = IntakeRow("s" * 64, "accepted", "", f"{7:064x}", NOW, "s00007")
        other = replace(before, asset=f"{8:064x}", subject="s00008")
        assert catalog.known("s" * 64) == before
        catalog.record([], [other])
        assert [catalog.known("s" * 64, row.subject) for row in (before, other)] == [before, other]
