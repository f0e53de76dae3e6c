"""The catalogue: migrations, and each noun's methods."""

from __future__ import annotations

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from contract.errors import ConfigurationError, NotFound, StorageError
from node.catalog import database
from node.catalog.manifest import ReleaseManifest
from node.catalog.rows import AssetRow, IntakeRow, TableRow
from node.catalog.schema import metadata
from node.catalog.store import Catalog
from node.home import NodeHome

MIGRATIONS = Path(database.__file__).parent / "migrations"


def manifest(name: str, subjects: int = 3) -> ReleaseManifest:
    return ReleaseManifest(name=name, table="trial", rows=3, subjects=subjects, files=())


def asset(number: int, now: datetime, modality: str = "CT") -> AssetRow:
    return AssetRow(
        digest=f"{number:064x}",
        subject=f"s{number % 3}",
        study_uid="2.25.1",
        series_uid="2.25.2",
        sop_instance_uid=f"2.25.3{number}",
        sop_class_uid="1.2",
        modality=modality,
        body_part="",
        manufacturer="",
        rows=1,
        columns=1,
        frames=1,
        size_bytes=1,
        ingested_at=now,
    )


def test_migrations_make_what_the_schema_says(catalog: Catalog) -> None:
    with catalog.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_newest_revision_is_the_one_that_the_store_knows() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == database.HEAD


def test_a_catalogue_on_the_newest_revision_is_opened_without_alembic(home: NodeHome) -> None:
    Catalog.open(home).close()
    code = (
        "import sys, pathlib; from node.home import NodeHome; from node.catalog.store import "
        "Catalog; Catalog.open(NodeHome(pathlib.Path(sys.argv[1]))).close(); "
        "print([m for m in ('alembic', 'polars', 'pydicom') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, home.root], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_catalogue_of_a_newer_wardgate_is_refused(home: NodeHome) -> None:
    with Catalog.open(home) as catalog, catalog.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="newer Wardgate"):
        Catalog.open(home)


def test_the_database_survives_power_cuts_and_is_its_owners(
    catalog: Catalog, home: NodeHome
) -> None:
    with catalog.engine.connect() as connection:
        values = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert values == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 10_000,
    }
    assert stat.S_IMODE(home.database.stat().st_mode) == 0o600


def test_a_bad_url_is_one_clear_line(home: NodeHome) -> None:
    with pytest.raises(ConfigurationError):
        Catalog.open(home, "no url")
    with pytest.raises(ConfigurationError):
        Catalog.open(home, "nosuch://x/y")
    with pytest.raises(StorageError):
        Catalog.open(home, "postgresql+psycopg://nobody@127.0.0.1:1/none")


def test_a_table_replaces_the_one_of_its_name(catalog: Catalog, now: datetime) -> None:
    row = TableRow("trial", "a" * 64, "{}", 4, 3, "b" * 64, now)
    catalog.put_table(row)
    catalog.put_table(replace(row, rows=5))
    assert catalog.get_table("trial") == replace(row, rows=5)
    assert catalog.list_tables() == [replace(row, rows=5)]
    assert catalog.get_table("other") is None


def test_times_come_out_in_utc(catalog: Catalog, now: datetime) -> None:
    catalog.put_table(TableRow("trial", "a" * 64, "{}", 4, 3, "b" * 64, now))
    found = catalog.get_table("trial")
    assert found is not None
    assert found.ingested_at.tzinfo is UTC


def test_assets_and_outcomes_are_recorded_together_or_not_at_all(
    catalog: Catalog, now: datetime
) -> None:
    assert catalog.is_empty()
    catalog.record([asset(1, now), asset(2, now, "MR")], [IntakeRow("x", "accepted", "", "1", now)])
    with pytest.raises(Exception, match="UNIQUE"):
        catalog.record([asset(3, now)], [IntakeRow("x", "accepted", "", "3", now)])
    assert catalog.assets_by_modality() == {"CT": 1, "MR": 1}
    assert [row.modality for row in catalog.list_assets(["MR"])] == ["MR"]
    assert catalog.asset_of_instance("2.25.31") == f"{1:064x}"
    assert catalog.asset_of_instance("2.25.33") is None
    assert catalog.known("x") == IntakeRow("x", "accepted", "", "1", now)
    assert catalog.known("y") is None
    assert catalog.outcomes() == {("accepted", ""): 1}
    assert not catalog.is_empty()


def test_the_newest_valid_release_of_a_name_is_found(catalog: Catalog, now: datetime) -> None:
    old, new = manifest("trial", 3), manifest("trial", 4)
    catalog.add_release(old.digest, old, now)
    catalog.add_release(new.digest, new, now + timedelta(days=1))
    assert catalog.find_release("trial").manifest == new
    assert catalog.find_release(old.digest).manifest == old
    assert catalog.find_release(old.digest[:8]).manifest == old
    catalog.revoke_release(new.digest, now + timedelta(days=2))
    catalog.revoke_release(new.digest, now + timedelta(days=3))
    assert catalog.find_release("trial").manifest == old
    assert catalog.find_release(new.digest).revoked_at == now + timedelta(days=2)
    assert [r.digest for r in catalog.list_releases()] == [new.digest, old.digest]
    assert [r.digest for r in catalog.list_releases(revoked=False)] == [old.digest]
    catalog.revoke_release(old.digest, now)
    with pytest.raises(NotFound, match="revoked"):
        catalog.find_release("trial")


@pytest.mark.parametrize("reference", ["nothing", "abc", "%", "", "0" * 64])
def test_what_is_not_there_is_not_found(catalog: Catalog, now: datetime, reference: str) -> None:
    made = manifest("trial")
    catalog.add_release(made.digest, made, now)
    with pytest.raises(NotFound):
        catalog.find_release(reference)


def test_a_release_is_added_once(catalog: Catalog, now: datetime) -> None:
    made = manifest("trial")
    first = catalog.add_release(made.digest, made, now)
    assert catalog.add_release(made.digest, made, now + timedelta(days=9)) == first


def test_grants_let_a_project_ask_and_revoking_ends_it(catalog: Catalog, now: datetime) -> None:
    made = manifest("trial")
    catalog.add_release(made.digest, made, now)
    catalog.grant(made.digest, "north", "stroke", now)
    catalog.grant(made.digest, "north", "stroke", now + timedelta(days=1))
    assert [r.digest for r in catalog.granted("north", "stroke")] == [made.digest]
    assert catalog.granted("north", "other") == []
    assert [(g.consortium, g.project, g.granted_at) for g in catalog.grants_of(made.digest)] == [
        ("north", "stroke", now)
    ]
    catalog.revoke_release(made.digest, now)
    assert catalog.granted("north", "stroke") == []
    assert catalog.ungrant(made.digest, "north", "stroke")
    assert not catalog.ungrant(made.digest, "north", "stroke")
    with pytest.raises(NotFound):
        catalog.grant("0" * 64, "north", "stroke", now)
    with pytest.raises(NotFound):
        catalog.revoke_release("0" * 64, now)


def test_threads_may_read_and_write_at_once(catalog: Catalog, now: datetime) -> None:
    def work(number: int) -> str | None:
        catalog.record([asset(number, now)], [IntakeRow(str(number), "accepted", "", None, now)])
        return catalog.asset_of_instance(f"2.25.3{number}")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(60)))
    assert found == [f"{number:064x}" for number in range(60)]
    assert catalog.assets_by_modality() == {"CT": 60}


def test_two_processes_that_open_a_new_home_make_one_catalogue(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from node.home import NodeHome; from node.catalog.store import "
        "Catalog; Catalog.open(NodeHome(pathlib.Path(sys.argv[1]))).close()"
    )
    root = tmp_path / "node"
    running = [subprocess.Popen([sys.executable, "-c", code, root]) for _ in range(3)]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    with Catalog.open(NodeHome(root)) as catalog:
        assert catalog.is_empty()


def test_postgresql_holds_the_same_catalogue(postgres: str, tmp_path: Path, now: datetime) -> None:
    home = NodeHome(tmp_path / "node").create()
    made = manifest("trial")
    with Catalog.open(home, postgres) as catalog:
        assert catalog.is_empty()
        with catalog.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []
        catalog.record([asset(1, now)], [IntakeRow("x", "accepted", "", "1", now)])
        row = TableRow("trial", "a" * 64, "{}", 4, 3, "b" * 64, now)
        catalog.put_table(row)
        assert catalog.get_table("trial") == row
        catalog.add_release(made.digest, made, now)
        catalog.grant(made.digest, "north", "stroke", now)
    with Catalog.open(home, postgres) as catalog:
        assert catalog.find_release(made.digest[:8]).created_at == now
        assert [r.digest for r in catalog.granted("north", "stroke")] == [made.digest]
        assert catalog.list_assets() == [asset(1, now)]
    assert not home.database.exists()
