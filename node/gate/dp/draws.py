"""Answers with noise, kept for ever: a question that was answered gets the same answer again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, delete, insert, select

from foundation.database import reading
from node.catalog import schema


@dataclass(frozen=True)
class Kept:
    """An answer's bytes and the epsilon that it was drawn with."""

    epsilon: float
    answer: bytes


@dataclass(frozen=True)
class Draws:
    """The answers with noise that this node has given."""

    engine: Engine

    def find(self, question: str) -> Kept | None:
        """Return the answer to a question, or None."""
        table = schema.privacy_draws
        with reading(self.engine) as connection:
            row = connection.execute(
                select(table.c.epsilon, table.c.answer).where(table.c.question == question)
            ).one_or_none()
        return None if row is None else Kept(row.epsilon, row.answer)

    def keep(self, found: dict[str, Kept], now: datetime) -> None:
        """Keep answers durably, each in place of one that was drawn with less epsilon."""
        table = schema.privacy_draws
        with self.engine.begin() as connection:
            for question, kept in found.items():
                connection.execute(delete(table).where(table.c.question == question))
                connection.execute(
                    insert(table).values(
                        question=question, epsilon=kept.epsilon, answer=kept.answer, drawn_at=now
                    )
                )
