"""Statements that are rendered once and given to a database's driver as they are.

What is asked with every question is asked this way: for a look-up by key, SQLAlchemy's own work
takes ten times as long as SQLite's. Only what needs no processing comes back: texts, whole numbers
and bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Engine
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

Convert = Callable[[Any], Any]
Row = tuple[Any, ...]


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
    connection: PoolProxiedConnection


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

    def rows(self, engine: Engine, **values: Any) -> list[Row]:
        """Return the rows of a query, which is a transaction of its own."""
        with _connection(engine) as connection:
            cursor = self.execute(Transaction(engine, connection), **values)
            return [tuple(row) for row in cursor.fetchall()]

    def execute(self, within: Transaction, **values: Any) -> DBAPICursor:
        """Execute in a transaction; return the cursor."""
        rendered = self._for(within.engine)
        cursor = within.connection.cursor()
        cursor.execute(rendered.text, rendered.parameters(values))
        return cursor

    def _for(self, engine: Engine) -> _Rendered:
        kind = f"{engine.dialect.name}+{engine.dialect.driver}"
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
    with _connection(engine) as connection:
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


@contextmanager
def _connection(engine: Engine) -> Iterator[PoolProxiedConnection]:
    """Give a connection of the pool's, which rolls back what is open at its end."""
    errors = engine.dialect.loaded_dbapi.Error
    connection = engine.raw_connection()
    try:
        yield connection
    except errors as error:
        raise DBAPIError.instance(
            None, None, error, errors, hide_parameters=True, dialect=engine.dialect
        ) from None
    finally:
        connection.close()
