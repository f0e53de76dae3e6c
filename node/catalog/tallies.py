"""What cohorts are counted from: kept in step with the assets, in the same transactions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from datetime import date
from typing import Any, Literal

from sqlalchemy import Connection, String, bindparam, insert, select, tuple_, update

from node.catalog import schema
from node.catalog.numbering import (
    AT_ONCE,
    batches,
    insert_or_ignore,
    numbers,
    packed,
    subject_numbers,
    unpacked,
    upsert,
)
from node.catalog.rows import AssetRow, MemberRow

EPOCH = date(1970, 1, 1).toordinal()
Holds = Literal["subjects", "studies"]
_LENGTHS = {
    column.name: column.type.length
    for column in schema.assets.c
    if isinstance(column.type, String) and column.name in (*schema.FACETS, "sop_class_uid")
}


def day(value: date | None) -> int:
    """Return the day as the catalogue counts it: from 1970, ``UNDATED`` without one."""
    return schema.UNDATED if value is None else value.toordinal() - EPOCH


def add_assets(connection: Connection, assets: Sequence[AssetRow]) -> None:
    """Register assets, and count them."""
    rows = [_fitting(dict(vars(asset))) for asset in assets]
    first = min(asset.ingested_at for asset in assets)
    subjects = subject_numbers(connection, (row["subject"] for row in rows), {"first_seen": first})
    studies = _studies(connection, rows, subjects)
    keys = [tuple(row[name] for name in schema.FACETS) for row in rows]
    facets = numbers(connection, schema.facets, set(keys), schema.FACETS, {"assets": 0})
    counts: Counter[tuple[int, int, int, int]] = Counter()
    for row, key in zip(rows, keys, strict=True):
        row["facet"] = facets[key]
        subject = subjects[row["subject"]]
        study = studies.get((row["study_uid"], subject), 0)
        counts[facets[key], day(row["study_date"]), subject, study] += 1
    connection.execute(insert(schema.assets), rows)
    _count(connection, counts)


def add_members(connection: Connection, members: Sequence[MemberRow]) -> None:
    """Link assets to their groups, which come to be by that.

    What isn't of the group's subject, or of one who withdrew, isn't linked.
    """
    groups, links = schema.groups, schema.group_links
    gone = set(connection.execute(select(schema.withdrawals.c.subject)).scalars())
    owners = _owners(connection, {member.asset for member in members})
    fit = [m for m in members if owners.get(m.asset) == m.subject and m.subject not in gone]
    if not fit:
        return
    made: dict[str, dict[str, object]] = {}
    for m in fit:
        first = {"name": m.group, "kind": m.kind, "subject": m.subject, "created_at": m.time}
        made.setdefault(m.group, first)
    connection.execute(insert_or_ignore(connection, groups), [made[name] for name in sorted(made)])
    found = select(groups.c.name, groups.c.subject)
    subjects = {
        row.name: row.subject
        for names in batches(sorted(made), AT_ONCE)
        for row in connection.execute(found.where(groups.c.name.in_(names)))
    }
    rows = [
        {"group": m.group, "role": m.role[:64], "kind": "asset", "target": m.asset}
        for m in fit
        if subjects[m.group] == m.subject
    ]
    if rows:
        connection.execute(insert_or_ignore(connection, links), rows)


def _owners(connection: Connection, digests: Collection[str]) -> dict[str, str]:
    table = schema.assets
    found: dict[str, str] = {}
    for some in batches(sorted(digests), AT_ONCE):
        query = select(table.c.digest, table.c.subject).where(table.c.digest.in_(some))
        found |= {row.digest: row.subject for row in connection.execute(query)}
    return found


def _fitting(row: dict[str, Any]) -> dict[str, Any]:
    """Cut descriptions to what their columns hold; a stranger's file may say anything."""
    for name, length in _LENGTHS.items():
        row[name] = row[name].replace("\0", "")[:length]
    return row


def _studies(
    connection: Connection, rows: Sequence[dict[str, Any]], subjects: dict[str, int]
) -> dict[tuple[Any, ...], int]:
    """Return the numbers of the rows' studies, by UID and subject; the new ones get a date."""
    dates: dict[tuple[str, int], date | None] = {}
    for row in rows:
        if row["study_uid"]:
            key = row["study_uid"], subjects[row["subject"]]
            dates[key] = dates.get(key) or row["study_date"]
    found = numbers(connection, schema.studies, dates, ("study_uid", "subject"), {"date": None})
    table = schema.studies
    undated = [{"at": number, "known": dates[key]} for key, number in found.items() if dates[key]]
    if undated:
        connection.execute(
            update(table)
            .where(table.c.number == bindparam("at"), table.c.date.is_(None))
            .values(date=bindparam("known")),
            undated,
        )
    return found


def _count(connection: Connection, counts: Counter[tuple[int, int, int, int]]) -> None:
    table = schema.strata
    statement = upsert(connection, table)
    statement = statement.on_conflict_do_update(
        index_elements=[table.c.facet, table.c.day, table.c.subject, table.c.study],
        set_={"assets": table.c.assets + statement.excluded.assets},
    )
    names = ("facet", "day", "subject", "study")
    connection.execute(
        statement,
        [{**dict(zip(names, key, strict=True)), "assets": n} for key, n in sorted(counts.items())],
    )
    subjects: defaultdict[int, set[int]] = defaultdict(set)
    studies: defaultdict[int, set[int]] = defaultdict(set)
    totals: Counter[int] = Counter()
    for (facet, _, subject, study), count in counts.items():
        subjects[facet].add(subject)
        if study:
            studies[facet].add(study)
        totals[facet] += count
    # This also keeps another writer from the postings of these facets until we are done.
    for facet in sorted(totals):
        connection.execute(
            update(schema.facets)
            .where(schema.facets.c.number == facet)
            .values(assets=schema.facets.c.assets + totals[facet])
        )
    add_postings(connection, "subjects", subjects)
    add_postings(connection, "studies", studies)


def add_postings(connection: Connection, holds: Holds, members: dict[int, set[int]]) -> None:
    """Note which subjects (or studies) have assets of which facets."""
    table = schema.postings
    chunks: dict[tuple[int, int], set[int]] = defaultdict(set)
    for facet, some in members.items():
        for number in some:
            chunks[facet, number // schema.CHUNK_BITS].add(number % schema.CHUNK_BITS)
    statement = upsert(connection, table)
    statement = statement.on_conflict_do_update(
        index_elements=[table.c.facet, table.c.holds, table.c.chunk],
        set_={"bits": statement.excluded.bits},
    )
    for keys in batches(sorted(chunks), AT_ONCE):
        before = _bits(connection, holds, keys)
        rows = []
        for facet, chunk in keys:
            bits = bytearray(before.get((facet, chunk), bytes(schema.CHUNK_BITS // 8)))
            for at in chunks[facet, chunk]:
                bits[at >> 3] |= 1 << (at & 7)
            if bytes(bits) != before.get((facet, chunk)):
                key = {"facet": facet, "holds": holds, "chunk": chunk}
                rows.append({**key, "bits": packed(bits)})
        if rows:
            connection.execute(statement, rows)


def _bits(
    connection: Connection, holds: Holds, keys: Collection[tuple[int, int]]
) -> dict[tuple[int, int], bytes]:
    table = schema.postings
    found = connection.execute(
        select(table.c.facet, table.c.chunk, table.c.bits).where(
            table.c.holds == holds, tuple_(table.c.facet, table.c.chunk).in_(keys)
        )
    )
    return {(row.facet, row.chunk): unpacked(row.bits) for row in found}
