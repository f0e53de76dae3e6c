"""What the ledger holds and the catalogue forgot: after a restored backup, for example.

Guarantee: a job of which something left is not worked on again, and a release that was summed with
some sites for good is summed with no others, also when the catalogue was turned back, as long as
the ledger was not (which the link notices). Assumption: an answer's entry is written after its job
is in the catalogue, so a job that is in neither never had an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Engine, insert, select, update

from node.catalog import prepared, schema
from node.catalog.partners import SumPartners
from node.gate.ledger import Entry, Ledger

MARK = "jobs"
_KINDS = ("answer", "held")


def remember(engine: Engine, ledger: Ledger) -> int:
    """Take up what the ledger says was answered and no table knows; return how many jobs.

    And with which sites a release was summed: the first entry's, unless the catalogue has some.
    """
    marks, forgotten, jobs = schema.ledger_marks, schema.forgotten_jobs, schema.jobs
    head = ledger.head
    with engine.begin() as connection:
        mark = connection.execute(select(marks).where(marks.c.name == MARK)).one_or_none()
    begin = 0
    if mark is not None and ledger.holds(mark.sequence, mark.hash):
        begin = mark.sequence + 1
    found = set()
    for entry in _answered(ledger, begin, head.sequence):
        found.add(str(entry.body["job"]))
        if partners := str(entry.body.get("partners", "")):
            at = datetime.fromisoformat(entry.time)
            SumPartners(engine).settle(str(entry.body["release"]), partners, at)
    with engine.begin() as connection:
        known = set(connection.execute(select(forgotten.c.digest)).scalars())
        if found:
            known |= set(connection.execute(select(jobs.c.digest)).scalars())
        missing = sorted(found - known)
        if missing:
            connection.execute(insert(forgotten), [{"digest": digest} for digest in missing])
        values = {"sequence": head.sequence, "hash": head.hash}
        done = connection.execute(update(marks).where(marks.c.name == MARK).values(**values))
        if done.rowcount == 0:
            connection.execute(insert(marks).values(name=MARK, **values))
    return len(missing)


def is_forgotten(engine: Engine, digest: str) -> bool:
    """Say whether a job was answered and forgotten."""
    return prepared.FORGOTTEN.row(engine, job=digest) is not None


def _answered(ledger: Ledger, begin: int, end: int) -> Iterator[Entry]:
    for sequence in range(begin, end + 1):
        line = ledger.line(sequence)
        if not any(f'"{kind}"'.encode() in line for kind in _KINDS):
            continue
        entry = ledger.entry(sequence)
        if entry.kind in _KINDS:
            yield entry
