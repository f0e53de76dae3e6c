"""Pulls as they are kept: what was asked, what was found, what came. A small SQLite file.

Numbers and UIDs name patients. They are kept sealed (``node.intake.sealed``, under the landing's
key) and known again by keyed digests; what is done with is deleted, and the rest after 30 days.
Every method is one transaction that survives a power cut, and may be called from any thread.
"""

from __future__ import annotations

import fcntl
import hmac
import io
import os
import secrets
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from contract.errors import ConfigurationError, NotFound, StorageError, Unavailable
from foundation.files import SECRET_MODE, private_folder, storage_errors
from node.deid.pseudonyms import load_key
from node.home import NodeHome
from node.intake import sealed
from node.pull.archive import FoundStudy
from node.pull.question import Question
from node.pull.states import JOB, REQUEST, STUDY, JobState, RequestState, StudyState

VERSION = 1
KEPT = timedelta(days=30)
BUSY_SECONDS = 10
_CONTEXT = b"pull"
_TABLES = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, archive TEXT NOT NULL, profile TEXT NOT NULL, created REAL NOT NULL,
    state TEXT NOT NULL, most_studies INTEGER NOT NULL, unfit INTEGER NOT NULL,
    filters BLOB NOT NULL
);
CREATE TABLE requests (
    job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, number INTEGER NOT NULL,
    state TEXT NOT NULL, question BLOB NOT NULL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;
CREATE TABLE studies (
    job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, number INTEGER NOT NULL,
    digest TEXT NOT NULL, state TEXT NOT NULL, uid BLOB NOT NULL,
    series INTEGER NOT NULL, instances INTEGER NOT NULL,
    arrived INTEGER NOT NULL DEFAULT 0, held INTEGER NOT NULL DEFAULT 0,
    missing INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job, number), UNIQUE (job, digest)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class JobRow:
    """One pull."""

    id: str
    archive: str
    profile: str
    created_at: datetime
    state: JobState
    most_studies: int
    """More matches than this end the search; 0: any number."""
    unfit: int
    """Lines of the list that were no number."""


@dataclass(frozen=True)
class PendingStudy:
    """A study that is still to be fetched."""

    number: int
    uid: str
    instances: int
    """0: the archive didn't say."""


@dataclass(frozen=True)
class Fetched:
    """What became of a study's instances in one run."""

    arrived: int = 0
    held: int = 0
    """Here before."""
    missing: int = 0
    reason: str = ""
    """Why some are missing, in a few words without any name or number."""


@dataclass
class Counts:
    """A pull by outcome."""

    requests: Counter[RequestState] = field(default_factory=Counter)
    studies: Counter[StudyState] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    series: int = 0
    instances: int = 0
    """What the archive says that the studies have."""
    arrived: int = 0
    held: int = 0
    missing: int = 0


class Jobs:
    """The pulls of one node."""

    def __init__(self, home: NodeHome) -> None:
        self._home = home
        self._folder = private_folder(home.pulls)
        self._key = load_key(home.landing_key, create=True)
        self._digest_key = hmac.digest(self._key, b"wardgate pull digest", "sha256")
        self._lock = threading.RLock()
        path = self._folder / "pulls.db"
        with storage_errors(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, SECRET_MODE))
        try:
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            # What is deleted is overwritten, though it was sealed.
            self._connection.execute("PRAGMA secure_delete=ON")
            self._prepare()
        except sqlite3.DatabaseError:
            raise StorageError(f"{path} can't be opened; is it ours?") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @contextmanager
    def alone(self, archive: str) -> Iterator[None]:
        """Be the only process that fetches from this archive; ``Unavailable`` otherwise."""
        path = self._folder / f"{archive}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, SECRET_MODE)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Unavailable(f"Another pull from {archive} is under way.") from None
            yield
        finally:
            os.close(descriptor)

    # ---- pulls ---------------------------------------------------------------------------------

    def create(
        self,
        archive: str,
        profile: str,
        filters: Question,
        numbers: Sequence[Question],
        now: datetime,
        *,
        most_studies: int,
        unfit: int = 0,
    ) -> JobRow:
        """Keep a new pull: ``numbers`` are asked one by one, each with the ``filters``."""
        name = f"{now:%Y%m%d}-{secrets.token_hex(3)}"
        questions = [*numbers] or [filters]
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(name, archive, profile, now.timestamp(), JobState.FINDING),
                    *(most_studies, unfit, self._seal(filters.model_dump_json())),
                ),
            )
            connection.executemany(
                "INSERT INTO requests VALUES (?, ?, ?, ?)",
                (
                    (name, number, RequestState.PENDING, self._seal(question.model_dump_json()))
                    for number, question in enumerate(questions)
                ),
            )
        return self.get(name)

    def all(self) -> list[JobRow]:
        """Return every pull, newest first."""
        rows = self._rows(
            "SELECT id, archive, profile, created, state, most_studies, unfit FROM jobs "
            "ORDER BY created DESC, id"
        )
        return [_job(row) for row in rows]

    def get(self, name: str) -> JobRow:
        """Return the pull called ``name``; ``NotFound`` without it."""
        rows = self._rows(
            "SELECT id, archive, profile, created, state, most_studies, unfit FROM jobs "
            "WHERE id = ?",
            name,
        )
        if not rows:
            raise NotFound("There is no such pull; `pull list` shows them.")
        return _job(rows[0])

    def filters(self, name: str) -> Question:
        """Return the criteria that hold for every request of a pull."""
        rows = self._rows("SELECT filters FROM jobs WHERE id = ?", name)
        return Question.model_validate_json(self._unseal(rows[0][0]))

    def forget(self, name: str) -> None:
        """Delete everything about a pull; what it fetched stays."""
        self.get(name)
        with self._transaction() as connection:
            connection.execute("DELETE FROM jobs WHERE id = ?", (name,))

    def forget_old(self, now: datetime) -> None:
        """Delete the pulls that began longer than 30 days ago."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM jobs WHERE created < ?", ((now - KEPT).timestamp(),))

    def step(self, name: str, event: str) -> None:
        """Take the pull to its next state; ``resumed`` tries what was incomplete again."""
        state = JOB[self.get(name).state, event]
        with self._transaction() as connection:
            connection.execute("UPDATE jobs SET state = ? WHERE id = ?", (state, name))
            if event == "resumed":
                connection.execute(
                    "UPDATE studies SET state = ?, missing = 0, reason = '' "
                    "WHERE job = ? AND state = ?",
                    (STUDY[StudyState.INCOMPLETE, event], name, StudyState.INCOMPLETE),
                )

    def counts(self, name: str) -> Counts:
        """Return a pull by outcome."""
        counts = Counts()
        for state, number in self._rows(
            "SELECT state, count(*) FROM requests WHERE job = ? GROUP BY state", name
        ):
            counts.requests[RequestState(state)] = number
        for state, *numbers in self._rows(
            "SELECT state, count(*), sum(series), sum(instances), sum(arrived), sum(held), "
            "sum(missing) FROM studies WHERE job = ? GROUP BY state",
            name,
        ):
            counts.studies[StudyState(state)] = numbers[0]
            counts.series += numbers[1]
            counts.instances += numbers[2]
            counts.arrived += numbers[3]
            counts.held += numbers[4]
            counts.missing += numbers[5]
        for reason, number in self._rows(
            "SELECT reason, count(*) FROM studies WHERE job = ? AND reason <> '' GROUP BY reason",
            name,
        ):
            counts.reasons[reason] = number
        return counts

    # ---- requests ------------------------------------------------------------------------------

    def pending_requests(self, name: str) -> list[tuple[int, Question]]:
        """Return the questions that were not asked yet."""
        return self._questions(name, RequestState.PENDING)

    def unmatched(self, name: str) -> list[Question]:
        """Return the questions that the archive had nothing for."""
        return [question for _, question in self._questions(name, RequestState.NOT_FOUND)]

    def answered(self, name: str, number: int, found: Sequence[FoundStudy]) -> int:
        """Keep what a question found, and return how many studies no other had found before."""
        state = REQUEST[RequestState.PENDING, "matched" if found else "unmatched"]
        with self._transaction() as connection:
            (last,) = connection.execute(
                "SELECT coalesce(max(number), -1) FROM studies WHERE job = ?", (name,)
            ).fetchone()
            before = connection.total_changes
            connection.executemany(
                "INSERT INTO studies (job, number, digest, state, uid, series, instances) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job, digest) DO NOTHING",
                (
                    (
                        *(name, last + place, self._digest(study.uid), StudyState.PENDING),
                        *(self._seal(study.uid), study.series, study.instances),
                    )
                    for place, study in enumerate(found, 1)
                ),
            )
            new = connection.total_changes - before
            connection.execute(
                "UPDATE requests SET state = ?, question = CASE WHEN ? THEN x'' ELSE question END "
                "WHERE job = ? AND number = ?",
                (state, bool(found), name, number),
            )
        return new

    def refused(self, name: str, number: int) -> None:
        """Keep that the archive can't answer a question."""
        state = REQUEST[RequestState.PENDING, "refused"]
        with self._transaction() as connection:
            connection.execute(
                "UPDATE requests SET state = ? WHERE job = ? AND number = ?", (state, name, number)
            )

    # ---- studies -------------------------------------------------------------------------------

    def pending_studies(self, name: str) -> list[PendingStudy]:
        """Return the studies that are still to be fetched, in the order they were found."""
        return [
            PendingStudy(number, self._unseal(uid), instances)
            for number, uid, instances in self._rows(
                "SELECT number, uid, instances FROM studies WHERE job = ? AND state = ? "
                "ORDER BY number",
                name,
                StudyState.PENDING,
            )
        ]

    def fetched(self, name: str, number: int, event: str, result: Fetched) -> None:
        """Keep what became of a study; the UID of one that is done with is deleted."""
        state = STUDY[StudyState.PENDING, event]
        with self._transaction() as connection:
            connection.execute(
                "UPDATE studies SET state = ?, arrived = arrived + ?, held = ?, missing = ?, "
                "reason = ?, uid = CASE WHEN ? THEN x'' ELSE uid END "
                "WHERE job = ? AND number = ?",
                (
                    *(state, result.arrived, result.held, result.missing, result.reason),
                    *(state is not StudyState.INCOMPLETE, name, number),
                ),
            )

    # ---- the file ------------------------------------------------------------------------------

    def _prepare(self) -> None:
        with self._transaction() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise ConfigurationError("The pulls were kept by a newer Wardgate; update this.")
            if version == 0:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.OperationalError:
                raise StorageError(
                    "The state of the pulls can't be written (is the disk full?); "
                    "resume the pull later."
                ) from None

    def _rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return list(self._connection.execute(query, parameters))

    def _questions(self, name: str, state: RequestState) -> list[tuple[int, Question]]:
        return [
            (number, Question.model_validate_json(self._unseal(question)))
            for number, question in self._rows(
                "SELECT number, question FROM requests WHERE job = ? AND state = ? ORDER BY number",
                name,
                state,
            )
        ]

    def _digest(self, uid: str) -> str:
        return hmac.digest(self._digest_key, uid.encode(), "sha256")[:16].hex()

    def _seal(self, text: str) -> bytes:
        file = io.BytesIO()
        sealer = sealed.Sealer(file, self._key, _CONTEXT)
        sealer.write(text.encode())
        sealer.finish()
        return file.getvalue()

    def _unseal(self, data: bytes) -> str:
        return b"".join(sealed.unsealed(io.BytesIO(data), self._key, _CONTEXT)).decode()


def _job(row: Sequence[Any]) -> JobRow:
    name, archive, profile, created, state, most, unfit = row
    return JobRow(
        *(name, archive, profile),
        datetime.fromtimestamp(created, UTC),
        JobState(state),
        *(most, unfit),
    )
