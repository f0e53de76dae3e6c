"""Models as R writes them: ``outcome ~ a + b:c``, parsed into a closed list of terms.

Names, ``+``, ``:`` (a product), ``*`` (both and their product), and
``Surv(time, event)`` on the left. Nothing is evaluated.
"""

from __future__ import annotations

import itertools
import re

from pydantic import ValidationError

from contract.documents import Model
from contract.errors import UsageError

MAX_CHARACTERS = 10_000
_TOKEN = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.]*|[~+:*(),])")


def parse(formula: str, family: str) -> Model:
    """Return the model that a formula says. ``UsageError`` names what can't be read."""
    outcome, event, terms = _Parser(_tokens(formula)).formula()
    try:
        return Model.model_validate(
            {"family": family, "outcome": outcome, "event": event, "terms": terms}
        )
    except ValidationError as error:
        said = "; ".join(str(e["msg"]).removeprefix("Value error, ") for e in error.errors())
        raise UsageError(f"The formula is no {family} model: {said}.") from None


def _tokens(formula: str) -> list[str]:
    if len(formula) > MAX_CHARACTERS:
        raise UsageError(f"A formula has at most {MAX_CHARACTERS} characters.")
    found, at = [], 0
    while at < len(formula.rstrip()):
        match = _TOKEN.match(formula, at)
        if match is None:
            raise UsageError(f"A formula can't hold {formula[at:].strip()[:1]!r}.")
        found.append(match.group(1))
        at = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def formula(self) -> tuple[str, str | None, list[tuple[str, ...]]]:
        """formula: left '~' term ('+' term)*"""
        outcome, event = self._left()
        self._expect("~")
        terms: list[tuple[str, ...]] = []
        while True:
            terms += [t for t in self._product() if t not in terms]
            if self._peek() is None:
                return outcome, event, terms
            self._expect("+")

    def _left(self) -> tuple[str, str | None]:
        """left: name | 'Surv' '(' name ',' name ')'"""
        name = self._name()
        if name != "Surv" or self._peek() != "(":
            return name, None
        self._at += 1
        time = self._name()
        self._expect(",")
        event = self._name()
        self._expect(")")
        return time, event

    def _product(self) -> list[tuple[str, ...]]:
        """term: name ((':' | '*') name)*"""
        names, crossed = [self._name()], []
        while self._peek() in (":", "*"):
            crossed.append(self._tokens[self._at])
            self._at += 1
            names.append(self._name())
        if "*" not in crossed:
            return [tuple(names)]
        if ":" in crossed:
            raise UsageError("A formula's term has either ':' or '*'.")
        sizes = range(1, len(names) + 1)
        return [c for size in sizes for c in itertools.combinations(names, size)]

    def _name(self) -> str:
        token = self._peek()
        if token is None or not (token[0].isalpha() or token[0] == "_"):
            raise UsageError(f"A formula needs a variable before {token or 'its end'!r}.")
        self._at += 1
        return token

    def _expect(self, wanted: str) -> None:
        if self._peek() != wanted:
            raise UsageError(f"A formula needs {wanted!r} before {self._peek() or 'its end'!r}.")
        self._at += 1

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None
