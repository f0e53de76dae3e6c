"""Statements that are rendered once and given to a database's driver as they are.

What is asked with every question is asked this way: for a look-up by key, SQLAlchemy's own work
takes ten times as long as SQLite's. Only what needs no processing comes back: texts, whole numbers
and bytes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import BindParameter, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import Pool
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

Convert = Callable[[Any], Any]
Row = tuple[Any, ...]

MAX_KEPT = 8


@dataclass(frozen=True)
class _Rendered:
    text: str
    names: tuple[str, ...] | None
    """The parameters in their order; None where the driver takes them by name."""
    convert: Mapping[str, Convert]
    constants: Mapping[str, Any]

    def parameters(self, values: Mapping[str, Any]) -> Any:
        given = dict(self.constants)
        for name, value in values.items():
            convert = self.convert.get(name)
            given[name] = value if convert is None else convert(value)
        return given if self.names is None else [given[name] for name in self.names]


@dataclass(frozen=True)
class Transaction:
    """A transaction under way, for ``Prepared.execute``."""

    engine: Engine
    connection: DBAPIConnection


class Prepared:
    """A statement with bound parameters, rendered once for each kind of database.

    Errors are SQLAlchemy's, as if it had executed the statement.
    """

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._rendered: dict[str, _Rendered] = {}

    def row(self, engine: Engine, **values: Any) -> Row | None:
        """Return the first row of a query, or None. The query is a transaction of its own."""
        found = self.rows(engine, **values)
        return found[0] if found else None

    def rows(self, engine: Engine, **values: Any) -> Sequence[Row]:
        """Return the rows of a query, which is a transaction of its own."""
        with _Borrowed(engine) as connection:
            return self.execute(Transaction(engine, connection), **values).fetchall()

    def execute(self, within: Transaction, **values: Any) -> DBAPICursor:
        """Execute in a transaction; return the cursor."""
        rendered = self._for(within.engine)
        cursor = within.connection.cursor()
        cursor.execute(rendered.text, rendered.parameters(values))
        return cursor

    def _for(self, engine: Engine) -> _Rendered:
        kind = engine.dialect.name
        rendered = self._rendered.get(kind)
        if rendered is None:
            rendered = self._rendered[kind] = self._render(engine)
        return rendered

    def _render(self, engine: Engine) -> _Rendered:
        compiled = self._statement.compile(engine)
        assert isinstance(compiled, SQLCompiler)
        convert, constants = {}, {}
        for name, bound in compiled.binds.items():
            assert isinstance(bound, BindParameter)
            if not bound.required:
                constants[name] = bound.effective_value
            found = bound.type.dialect_impl(engine.dialect).bind_processor(engine.dialect)
            if found is not None:
                convert[name] = found
        names = None if compiled.positiontup is None else tuple(compiled.positiontup)
        return _Rendered(str(compiled), names, convert, constants)


@contextmanager
def transaction(engine: Engine, *, durable: bool = True) -> Iterator[Transaction]:
    """Give a transaction that may write; it is committed at the end, or rolled back by an error.

    Without ``durable``, what was written outlives the process's end at any moment, but a power cut
    only once a later transaction is durable.
    """
    is_sqlite = engine.dialect.name == "sqlite"
    with _Borrowed(engine) as connection:
        if is_sqlite:
            if not durable:
                connection.cursor().execute("PRAGMA synchronous=NORMAL")
            connection.cursor().execute("BEGIN IMMEDIATE")
        elif not durable:
            connection.cursor().execute("SET LOCAL synchronous_commit TO off")
        try:
            yield Transaction(engine, connection)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        finally:
            if is_sqlite and not durable:
                connection.cursor().execute("PRAGMA synchronous=FULL")


class _Borrowed:
    """A connection for a while; what an error leaves open is rolled back at its end.

    Those of SQLite are kept at hand: to give one back to SQLAlchemy's pool and to take it out again
    takes longer than a query.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept = _kept_of(engine) if engine.dialect.name == "sqlite" else None

    def __enter__(self) -> DBAPIConnection:
        if self._kept is None:
            self._connection: DBAPIConnection = self._engine.raw_connection()
        else:
            try:
                self._connection = self._kept.pop()
            except IndexError:
                self._connection = _detached(self._engine)
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None and self._kept is not None and len(self._kept) < MAX_KEPT:
            self._kept.append(self._connection)
            return
        self._connection.close()
        errors = self._engine.dialect.loaded_dbapi.Error
        if isinstance(error, errors):
            raise DBAPIError.instance(
                None, None, error, errors, hide_parameters=True, dialect=self._engine.dialect
            ) from None


_kept: WeakKeyDictionary[Pool, list[DBAPIConnection]] = WeakKeyDictionary()
_of_the_parent: list[DBAPIConnection] = []
"""Neither used nor closed in a process that was forked: SQLite's locks are its parent's."""
_lock = threading.Lock()


def _kept_of(engine: Engine) -> list[DBAPIConnection]:
    """Return the connections that are at hand for all engines of a pool."""
    kept = _kept.get(engine.pool)
    if kept is None:
        with _lock:
            kept = _kept.setdefault(engine.pool, [])
        event.listen(engine, "engine_disposed", lambda _: _close(kept))
    return kept


def _detached(engine: Engine) -> DBAPIConnection:
    """Return a connection made as the engine makes them, but not its pool's any more."""
    connection = engine.raw_connection()
    made = connection.dbapi_connection
    connection.detach()
    assert made is not None
    return made


def _leave_to_the_parent() -> None:
    for kept in _kept.values():
        _of_the_parent.extend(kept)
        kept.clear()


os.register_at_fork(after_in_child=_leave_to_the_parent)


def _close(kept: list[DBAPIConnection]) -> None:
    while kept:
        kept.pop().close()
