"""The catalogue: what the node holds, froze and granted, in SQLite or PostgreSQL.

Every method is one transaction and may be called from any thread. Times come in as aware
datetimes and come out in UTC.

SQLite: write-ahead log, ``synchronous=FULL`` (a commit survives a power cut), foreign keys on,
and transactions that begin as writers, so that none fails half-way because another wrote in
between. ``Catalog.reading`` is the same engine for transactions that only read.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Self

from sqlalchemy import Connection, Engine, delete, func, insert, literal, select, update

from contract.errors import NotFound
from node.catalog import prepared, schema
from node.catalog.database import READING, open_database
from node.catalog.manifest import ReleaseManifest
from node.catalog.numbering import batches
from node.catalog.rows import AssetRow, GrantRow, IntakeRow, MemberRow, ReleaseRow, TableRow
from node.catalog.tallies import add_assets, add_members
from node.catalog.withdrawals import Held, register
from node.home import NodeHome

__all__ = ["AssetRow", "Catalog", "GrantRow", "IntakeRow", "ReleaseRow", "TableRow"]

KNOWN_RELEASES = 256
"""Releases that are held in memory; they don't change but for being revoked."""
_PREFIX = re.compile(r"^[0-9a-f]{8,64}$")


class Catalog:
    """The node's catalogue. ``engine`` is public: other parts keep their tables in it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.reading = engine.execution_options(**{READING: True})
        self._releases: dict[str, ReleaseRow] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, home: NodeHome, url: str | None = None) -> Self:
        """Open the catalogue of ``home``, or at ``url``, and bring it to the newest revision.

        ``StorageError`` when it can't be opened, ``ConfigurationError`` for a bad URL or a
        catalogue of a newer Wardgate.
        """
        return cls(open_database(home, url))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def snapshot(self) -> Connection:
        """Return a connection whose reads all see the catalogue as it is now."""
        connection = self.reading.connect()
        if connection.dialect.name == "postgresql":
            return connection.execution_options(isolation_level="REPEATABLE READ")
        return connection

    # ---- clinical tables -----------------------------------------------------------------------

    def put_table(self, row: TableRow) -> None:
        """Keep ``row``; it replaces an older table of that name."""
        with self.engine.begin() as connection:
            table = schema.clinical_tables
            connection.execute(delete(table).where(table.c.name == row.name))
            connection.execute(insert(table).values(**asdict(row)))

    def get_table(self, name: str) -> TableRow | None:
        """Return the table called ``name``, or None."""
        table = schema.clinical_tables
        with self.reading.connect() as connection:
            found = connection.execute(select(table).where(table.c.name == name)).first()
        return None if found is None else TableRow(**_utc(found._mapping))

    def list_tables(self) -> list[TableRow]:
        """Return every table, by name."""
        table = schema.clinical_tables
        with self.reading.connect() as connection:
            rows = connection.execute(select(table).order_by(table.c.name))
            return [TableRow(**_utc(row._mapping)) for row in rows]

    # ---- assets and intake ---------------------------------------------------------------------

    def record(
        self,
        assets: Sequence[AssetRow],
        outcomes: Sequence[IntakeRow],
        members: Sequence[MemberRow] = (),
    ) -> None:
        """Register assets and what became of the files that they came from, all or none.

        Subjects, studies and what cohorts are counted from are kept in step. ``members`` link
        assets to their groups.
        """
        if not assets and not outcomes and not members:
            return
        with self.engine.begin() as connection:
            if assets:
                add_assets(connection, assets)
            if outcomes:
                connection.execute(insert(schema.intake), [vars(row) for row in outcomes])
            if members:
                add_members(connection, members)

    def known(self, source_digest: str, subject: str | None = None) -> IntakeRow | None:
        """Return what became of the file with this keyed digest, or None if it is new.

        Of several rows it is that of ``subject``, or one of what is in quarantine.
        """
        table = schema.intake
        first = table.c.outcome != "quarantined" if subject is None else table.c.subject != subject
        query = select(table).where(table.c.source_digest == source_digest)
        with self.reading.connect() as connection:
            found = connection.execute(query.order_by(first, table.c.subject)).first()
        return None if found is None else IntakeRow(**_utc(found._mapping))

    def outcomes(self) -> dict[tuple[str, str], int]:
        """Return the number of files by outcome and reason."""
        table = schema.intake
        query = select(table.c.outcome, table.c.reason, func.count()).group_by(
            table.c.outcome, table.c.reason
        )
        with self.reading.connect() as connection:
            return {(row[0], row[1]): int(row[2]) for row in connection.execute(query)}

    def asset_of_instance(self, sop_instance_uid: str) -> str | None:
        """Return the digest of the asset with this (remapped) SOP Instance UID, or None."""
        table = schema.assets
        with self.reading.connect() as connection:
            found: str | None = connection.execute(
                select(table.c.digest).where(table.c.sop_instance_uid == sop_instance_uid)
            ).scalar()
        return found

    def list_assets(self, modalities: Iterable[str] = ()) -> list[AssetRow]:
        """Return the assets (of these modalities, or all), by subject and instance."""
        table = schema.assets
        query = select(table).order_by(table.c.subject, table.c.sop_instance_uid)
        wanted = sorted(set(modalities))
        if wanted:
            query = query.where(table.c.modality.in_(wanted))
        with self.reading.connect() as connection:
            return [_asset(row._mapping) for row in connection.execute(query)]

    def get_assets(self, digests: Iterable[str]) -> dict[str, AssetRow]:
        """Return the assets that are here, of those with these digests."""
        table = schema.assets
        found: dict[str, AssetRow] = {}
        with self.reading.connect() as connection:
            for some in batches(digests, 500):
                for row in connection.execute(select(table).where(table.c.digest.in_(some))):
                    found[row.digest] = _asset(row._mapping)
        return found

    def assets_of_study(self, study_uid: str, *, series: bool = False) -> list[AssetRow]:
        """Return the assets of a study (or series), by its remapped UID."""
        table = schema.assets
        column = table.c.series_uid if series else table.c.study_uid
        query = select(table).where(column == study_uid).order_by(table.c.digest)
        with self.reading.connect() as connection:
            return [_asset(row._mapping) for row in connection.execute(query)]

    def assets_by_modality(self) -> dict[str, int]:
        """Return the number of assets of each modality."""
        return {key[0]: count for key, count in self.assets_by(("modality",)).items()}

    def assets_by(self, facets: Sequence[str]) -> dict[tuple[Any, ...], int]:
        """Return the number of assets for each combination of some of ``schema.FACETS``."""
        columns = [schema.facets.c[name] for name in facets]
        query = select(*columns, func.sum(schema.facets.c.assets)).group_by(*columns)
        with self.reading.connect() as connection:
            found = {tuple(row[:-1]): int(row[-1]) for row in connection.execute(query)}
        return {key: count for key, count in sorted(found.items()) if count}

    def totals(self) -> tuple[int, int]:
        """Return the number of subjects and of studies with images."""
        with self.reading.connect() as connection:
            subjects, studies = (
                int(connection.execute(select(func.count()).select_from(table)).scalar_one())
                for table in (schema.subjects, schema.studies)
            )
        return subjects, studies

    def is_empty(self) -> bool:
        """Say whether nothing was taken in yet."""
        with self.reading.connect() as connection:
            return all(
                connection.execute(select(literal(1)).select_from(table).limit(1)).first() is None
                for table in (
                    *(schema.assets, schema.clinical_tables, schema.intake),
                    *(schema.sources, schema.withdrawals),
                )
            )

    # ---- releases ------------------------------------------------------------------------------

    def add_release(
        self, digest: str, manifest: ReleaseManifest, now: datetime, held: Held | None = None
    ) -> ReleaseRow:
        """Register a release; one that is there already (same content) is returned as it is.

        ``held`` is whom it holds; without it, any withdrawal revokes it. ``Unavailable`` when
        somebody withdrew since the release was planned.
        """
        table = schema.releases
        with self.engine.begin() as connection:
            found = connection.execute(select(table).where(table.c.digest == digest)).first()
            if found is None:
                connection.execute(
                    insert(table).values(
                        digest=digest,
                        name=manifest.name,
                        manifest_json=manifest.to_bytes().decode(),
                        subjects=manifest.subjects,
                        created_at=now,
                        revoked_at=None,
                    )
                )
                found = connection.execute(select(table).where(table.c.digest == digest)).one()
                if held is not None:
                    register(connection, digest, held)
        return _release(found._mapping)

    def list_releases(self, *, revoked: bool = True) -> list[ReleaseRow]:
        """Return the releases, newest first; without the revoked ones if ``revoked`` is false."""
        table = schema.releases
        query = select(table).order_by(table.c.created_at.desc(), table.c.digest)
        if not revoked:
            query = query.where(table.c.revoked_at.is_(None))
        with self.reading.connect() as connection:
            return [_release(row._mapping) for row in connection.execute(query)]

    def subjects_of(self, digest: str) -> int:
        """Return how many subjects a release holds; 0 when there is none of this digest."""
        row = prepared.SUBJECTS.row(self.engine, release=digest)
        return row[0] if row is not None else 0

    def find_release(self, reference: str) -> ReleaseRow:
        """Return the release by name, digest or beginning of a digest (8 digits or more).

        Of several with one name, the newest that isn't revoked. ``NotFound`` otherwise.
        """
        table = schema.releases
        newest = table.c.created_at.desc(), table.c.digest
        with self.reading.connect() as connection:
            named = connection.execute(
                select(table).where(table.c.name == reference).order_by(*newest)
            ).fetchall()
            valid = [row for row in named if row.revoked_at is None]
            if valid:
                return _release(valid[0]._mapping)
            begins = table.c.digest.startswith(reference if _PREFIX.match(reference) else "-")
            found = connection.execute(select(table).where(begins).limit(2)).fetchall()
        if len(found) == 1:
            return _release(found[0]._mapping)
        if named:
            raise NotFound(f"Every release called {reference!r} is revoked.")
        if found:
            raise NotFound(f"More than one release's digest begins with {reference}.")
        raise NotFound(f"There is no release {reference!r}; `release list` shows them.")

    def revoke_release(self, digest: str, now: datetime) -> None:
        """Let nobody ask this release any more; ``NotFound`` without it. Revoking twice is fine."""
        table = schema.releases
        with self.engine.begin() as connection:
            if connection.execute(select(table.c.digest).where(table.c.digest == digest)).first():
                connection.execute(
                    update(table)
                    .where(table.c.digest == digest, table.c.revoked_at.is_(None))
                    .values(revoked_at=now)
                )
                return
        raise NotFound(f"There is no release {digest}; `release list` shows them.")

    # ---- grants --------------------------------------------------------------------------------

    def grant(self, release: str, consortium: str, project: str, now: datetime) -> None:
        """Let a project ask a release (by digest); granting twice is fine."""
        table = schema.grants
        with self.engine.begin() as connection:
            known = select(schema.releases.c.digest).where(schema.releases.c.digest == release)
            if connection.execute(known).first() is None:
                raise NotFound(f"There is no release {release}; `release list` shows them.")
            values = {"release": release, "consortium": consortium, "project": project}
            if connection.execute(select(table).filter_by(**values)).first() is None:
                connection.execute(insert(table).values(**values, granted_at=now))

    def ungrant(self, release: str, consortium: str, project: str) -> bool:
        """Take a grant back; say whether there was one."""
        table = schema.grants
        with self.engine.begin() as connection:
            gone = connection.execute(
                delete(table).where(
                    table.c.release == release,
                    table.c.consortium == consortium,
                    table.c.project == project,
                )
            )
            return gone.rowcount > 0

    def granted(self, consortium: str, project: str) -> list[ReleaseRow]:
        """Return the releases that a project may ask now (not revoked), newest first."""
        table, grants = schema.releases, schema.grants
        query = (
            select(table)
            .join(grants, grants.c.release == table.c.digest)
            .where(
                grants.c.consortium == consortium,
                grants.c.project == project,
                table.c.revoked_at.is_(None),
            )
            .order_by(table.c.created_at.desc(), table.c.digest)
        )
        with self.reading.connect() as connection:
            return [_release(row._mapping) for row in connection.execute(query)]

    def listed(self, consortium: str) -> list[tuple[str, str]]:
        """Return each known project with each release that it may ask now, by its digest."""
        rows = prepared.LISTED.rows(self.engine, consortium=consortium)
        return [(project, release) for project, release in rows]

    def granted_release(self, consortium: str, project: str, digest: str) -> ReleaseRow | None:
        """Return a release that a project may ask now (not revoked), or None."""
        values = {"release": digest, "consortium": consortium, "project": project}
        if prepared.GRANTED.row(self.engine, **values) is None:
            return None
        return self._known(digest)

    def _known(self, digest: str) -> ReleaseRow | None:
        """Return a release as it was when it was first asked about: it may be revoked since."""
        with self._lock:
            if digest in self._releases:
                return self._releases[digest]
        table = schema.releases
        with self.reading.connect() as connection:
            found = connection.execute(select(table).where(table.c.digest == digest)).first()
        if found is None:
            return None
        row = _release(found._mapping)
        with self._lock:
            while len(self._releases) >= KNOWN_RELEASES:
                self._releases.popitem()
            self._releases[digest] = row
        return row

    def grants_of(self, release: str) -> list[GrantRow]:
        """Return which projects may ask a release (by digest)."""
        table = schema.grants
        query = (
            select(table)
            .where(table.c.release == release)
            .order_by(table.c.consortium, table.c.project)
        )
        with self.reading.connect() as connection:
            return [GrantRow(**_utc(row._mapping)) for row in connection.execute(query)]


def _utc(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the row with aware times: SQLite keeps none of their zone."""
    return {
        key: value.replace(tzinfo=UTC)
        if isinstance(value, datetime) and not value.tzinfo
        else value.astimezone(UTC)
        if isinstance(value, datetime)
        else value
        for key, value in row.items()
    }


def _asset(row: Mapping[Any, Any]) -> AssetRow:
    values = _utc(row)
    del values["facet"]
    return AssetRow(**values)


def _release(row: Mapping[Any, Any]) -> ReleaseRow:
    values = _utc(row)
    values["manifest"] = _manifest(values.pop("manifest_json"))
    return ReleaseRow(**values)


@lru_cache(maxsize=256)
def _manifest(text: str) -> ReleaseManifest:
    """Return a manifest. It never changes, and is read with every question."""
    return ReleaseManifest.read(text.encode())
