"""Models as R writes them, parsed into a closed list of terms. Nothing is evaluated.

On the right: names, ``+ - : * / ^`` and brackets as Wilkinson and Rogers have them, ``0``, ``1``,
``log(x)`` and its like, ``I((x - 50)/10)``, ``I(x^2)``, ``poly(x, 3, raw = TRUE)``,
``ns(x, df = 4)``, ``bs(x, knots = c(1, 2))``, ``factor(arm)``, ``as.factor(arm)``,
``C(arm, ref = "placebo")``, ``relevel(arm, ref = "placebo")``, ``offset(log(x))``,
``strata(centre)``, ``(1 | site)``. On the left a name, ``log(y)``, ``Surv(time, event)`` or
``Surv(start, stop, event)``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from contract.errors import UsageError
from contract.models import Model
from contract.terms import Factor, Function, Polynomial, Power, Spline, Term, Transformed, Value

MAX_CHARACTERS = 10_000
_MOST_TERMS = 1000
_DEEPEST = 50
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<name>[A-Za-z_][A-Za-z0-9_.]*) | (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)
    | (?P<text>"[^"\n]*"|'[^'\n]*') | (?P<mark>\*\*|[~+\-:*/^(),=|])
    )""",
    re.VERBOSE,
)
_FUNCTIONS = get_args(Function)
_CODINGS = ("C", "factor", "as.factor", "relevel")

_Made = TypeVar("_Made")
_Product = tuple[Factor, ...]
"""A term in the making: factors in the order first named; the intercept is the empty one."""


def parse(
    formula: str,
    family: str,
    *,
    weights: str | None = None,
    ties: str = "efron",
    link: str | None = None,
    by_site: str | None = None,
    method: str = "reml",
    time_scale: str = "identity",
    robust: str | bool | None = None,
    numbers: Collection[str] = (),
) -> Model:
    """Return the model that a formula says. ``UsageError`` names what can't be read.

    ``weights`` names a variable; the other settings are a ``Model``'s, ``by_site`` its ``site``.
    ``robust`` True is HC0.
    ``numbers`` names the dictionary's numbers: none of them has levels for ``factor(x)`` to code.
    """
    parser = _Parser(_tokens(formula), numbers)
    values: dict[str, Any] = {"family": family, **parser.formula(), "weights": weights}
    if parser.by_site and by_site not in (None, "random"):
        raise UsageError(f"(1 | site) is a random intercept, and by_site is {by_site!r}.")
    values["site"] = "random" if parser.by_site else (by_site or "pooled")
    values |= {"ties": ties, "method": method, "time_scale": time_scale}
    values |= {"link": link} if link else {}
    values |= {"robust": "HC0" if robust is True else robust or None}
    return _made(lambda: Model.model_validate(values), f"The formula is no {family} model")


def _made(make: Callable[[], _Made], sentence: str) -> _Made:
    try:
        return make()
    except ValidationError as error:
        said = "; ".join(
            str(e["msg"]).removeprefix("Value error, ")
            if e["type"] == "value_error"
            else f"{'.'.join(map(str, e['loc'][:1]))}: {e['msg'][:1].lower()}{e['msg'][1:]}"
            for e in error.errors()[:5]
        )
        raise UsageError(f"{sentence}: {said}.") from None


def _tokens(formula: str) -> list[str]:
    if len(formula) > MAX_CHARACTERS:
        raise UsageError(f"A formula has at most {MAX_CHARACTERS} characters.")
    found, at, end = [], 0, len(formula.rstrip())
    while at < end:
        match = _TOKEN.match(formula, at)
        if match is None:
            raise UsageError(f"A formula can't hold {formula[at:].strip()[:1]!r}.")
        found.append(match.group(0).strip())
        at = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[str], numbers: Collection[str]) -> None:
        self._tokens = tokens
        self._without_levels = numbers
        self._at = 0
        self._depth = 0
        self._offsets: list[Factor] = []
        self._strata: list[str] = []
        self._left: dict[str, Any] = {}
        self.by_site = False
        """Whether there is ``(1 | site)``."""

    def formula(self) -> dict[str, Any]:
        """formula: left '~' sum"""
        left = self._outcome()
        self._expect("~")
        terms = self._sum(begin=[()])
        if self._peek() is not None:
            raise UsageError(f"A formula needs '+' before {self._peek()!r}.")
        # As R's terms() has them: lower orders first, and otherwise as they are written.
        ordered = sorted((t for t in terms if t), key=len)
        return {
            **left,
            "intercept": () in terms,
            "terms": [_term(t) for t in ordered],
            "offset": self._offsets,
            "strata": list(dict.fromkeys(self._strata)),
        }

    # ---- the left side -------------------------------------------------------------------------

    def _outcome(self) -> dict[str, Any]:
        """outcome: name | function '(' name ')' | 'Surv' '(' name ',' name [',' name] ')'"""
        name = self._name()
        if self._peek() != "(":
            return {"outcome": name}
        self._at += 1
        if name in _FUNCTIONS:
            inner = self._name()
            self._expect(")")
            return {"outcome": inner, "transform": name}
        if name != "Surv":
            raise UsageError(f"A formula can't explain {name}(...).")
        names = [self._name()]
        while self._peek() == "," and len(names) < 3:
            self._at += 1
            names.append(self._name())
        if len(names) < 2:
            self._expect(",")
        self._expect(")")
        if len(names) == 3:
            return {"entry": names[0], "outcome": names[1], "event": names[2]}
        return {"outcome": names[0], "event": names[1]}

    # ---- sums and products of terms ------------------------------------------------------------

    def _sum(self, begin: Sequence[_Product] = ()) -> list[_Product]:
        """sum: ['-'] cross (('+' | '-') cross)*"""
        self._deeper(1)
        terms = list(begin)
        sign = "+"
        if self._peek() in ("+", "-"):
            sign = self._next()
        while True:
            zero = self._peek() == "0"
            found = self._cross()
            if (sign == "-") != zero:
                gone = {_key(t) for t in ([()] if zero else found)}
                terms = [t for t in terms if _key(t) not in gone]
            else:
                terms = _union(terms, [()] if zero else found)
            if self._peek() not in ("+", "-"):
                self._deeper(-1)
                return terms
            sign = self._next()

    def _cross(self) -> list[_Product]:
        """cross: product (('*' | '/') product)*"""
        terms = self._interaction()
        while self._peek() in ("*", "/"):
            mark = self._next()
            other = self._interaction()
            if mark == "*":
                terms = _union(terms, other, _times(terms, other))
            else:
                whole = terms[0] if terms else ()
                for term in terms[1:]:
                    whole = _product(whole, term)
                terms = _union(terms, _times([whole], other))
        return terms

    def _interaction(self) -> list[_Product]:
        """interaction: power (':' power)*"""
        terms = self._power()
        while self._peek() == ":":
            self._at += 1
            terms = _times(terms, self._power())
        return terms

    def _power(self) -> list[_Product]:
        """power: atom [('^' | '**') number]"""
        terms = self._atom()
        if self._peek() in ("^", "**"):
            self._at += 1
            exponent = self._whole(1, 10)
            found = terms
            for _ in range(exponent - 1):
                found = _union(found, _times(found, terms))
            terms = found
        return terms

    def _atom(self) -> list[_Product]:
        """atom: '0' | '1' | '(' sum ')' | '(' '1' '|' 'site' ')' | name | call"""
        mark = self._peek()
        if mark in ("0", "1"):
            self._at += 1
            return [()]
        if mark == "(":
            self._at += 1
            if self._tokens[self._at : self._at + 4] == ["1", "|", "site", ")"]:
                self._at += 4
                self.by_site = True
                return []
            terms = self._sum()
            self._expect(")")
            return terms
        name = self._name()
        if self._peek() != "(":
            return [(Value(variable=name),)]
        self._at += 1
        found: list[_Product] = []
        if name == "offset":
            self._offsets.append(self._number_of())
        elif name == "strata":
            self._strata.append(self._name())
            while self._peek() == ",":
                self._at += 1
                self._strata.append(self._name())
        else:
            found = [(self._call(name),)]
        self._expect(")")
        return found

    # ---- what is done with one variable --------------------------------------------------------

    def _number_of(self) -> Factor:
        """Return a variable, or what is done with one, as an offset has it."""
        name = self._name()
        if self._peek() != "(":
            return Value(variable=name)
        self._at += 1
        factor = self._call(name)
        self._expect(")")
        return factor

    def _call(self, name: str) -> Factor:
        """Return the factor of a call, whose '(' is read and whose ')' isn't."""
        if name == "I":
            return self._arithmetic()
        if name not in (*_FUNCTIONS, *_CODINGS, "poly", "ns", "bs"):
            raise UsageError(f"A formula can't hold {name}(...).")
        variable = self._name()
        if name in _FUNCTIONS:
            return Transformed(variable=variable, function=name)
        if name in _CODINGS and variable in self._without_levels:
            raise UsageError(
                f"{name}({variable}): {variable} is a number in the dictionary. Derive a category "
                "of it by bins or recode, and put that into the formula."
            )
        given = self._arguments(name)
        sentence = f"{name}({variable}, ...) can't be"
        match name:
            case "C" | "factor" | "as.factor" | "relevel":
                return Value(variable=variable, reference=given.get("ref"))
            case "poly":
                values = {"variable": variable, "degree": given.get("degree", 1)}
                if not given.get("raw"):
                    raise UsageError(
                        f"R's poly({variable}, ...) is orthogonal, which depends on the data. "
                        f"Write poly({variable}, {values['degree']}, raw = TRUE): it fits the same."
                    )
                return _made(lambda: Polynomial.model_validate(values), sentence)
            case _:
                spline = {"variable": variable, "basis": name, **given}
                return _made(lambda: Spline.model_validate(spline), sentence)

    def _arguments(self, name: str) -> dict[str, Any]:
        """arguments: (',' [name '='] value)*"""
        every: dict[str, dict[str, Callable[[], Any]]] = {
            "C": {"ref": self._text},
            "factor": {},
            "as.factor": {},
            "relevel": {"ref": self._text},
            "poly": {"degree": lambda: self._whole(1, 10), "raw": self._truth},
            "ns": {
                "df": lambda: self._whole(1, 20),
                "knots": self._numbers,
                "Boundary.knots": self._numbers,
            },
            "bs": {
                "df": lambda: self._whole(1, 20),
                "knots": self._numbers,
                "degree": lambda: self._whole(1, 5),
                "Boundary.knots": self._numbers,
            },
        }
        allowed = every[name]
        found: dict[str, Any] = {}
        while self._peek() == ",":
            self._at += 1
            if self._tokens[self._at + 1 : self._at + 2] == ["="]:
                argument = self._name()
                self._at += 1
            else:
                argument = next(iter(a for a in allowed if a not in found), "")
            if argument not in allowed:
                raise UsageError(f"{name}(...) takes {', '.join(allowed) or 'one variable'}.")
            key = "boundary" if argument == "Boundary.knots" else argument
            if key in found:
                raise UsageError(f"{name}(...) is given {argument} twice.")
            found[key] = allowed[argument]()
        return found

    def _arithmetic(self) -> Factor:
        """arithmetic: affine [('^' | '**') number], a variable shifted, scaled and raised"""
        variable, shift, scale, power = self._affine()
        values = {"variable": variable, "shift": shift, "scale": scale, "power": power}
        return _made(lambda: Power.model_validate(values), "I(...) can't be")

    def _affine(self) -> tuple[str, float, float, int]:
        """affine: ('(' affine ')' | name) (('+' | '-' | '*' | '/' | '^') number)*"""
        self._deeper(1)
        if self._peek() == "(":
            self._at += 1
            variable, shift, scale, power = self._affine()
            self._expect(")")
        else:
            variable, shift, scale, power = self._name(), 0.0, 1.0, 1
        before = ""
        while self._peek() in ("+", "-", "*", "/", "^", "**"):
            mark = self._next()
            loose = before in ("+", "-") and mark not in ("+", "-")
            if power != 1 or loose or (before in ("*", "/") and mark in ("^", "**")):
                raise UsageError(
                    "I(...) is of one variable, shifted, scaled and raised to a power, in this "
                    'order; write brackets: "I(((x - 50)/10)^2)".'
                )
            if mark in ("^", "**"):
                power = self._whole(1, 10)
            elif mark in ("+", "-"):
                by = self._real() * scale
                shift += -by if mark == "+" else by
            else:
                by = self._real()
                if not by:
                    raise UsageError("I(...) can't be multiplied with or divided by zero.")
                scale = scale * by if mark == "/" else scale / by
            before = mark
        self._deeper(-1)
        return variable, shift, scale, power

    # ---- single tokens -------------------------------------------------------------------------

    def _name(self) -> str:
        token = self._peek()
        if token is None or not (token[0].isalpha() or token[0] == "_"):
            raise UsageError(f"A formula needs a variable before {token or 'its end'!r}.")
        self._at += 1
        return token

    def _real(self) -> float:
        sign = -1.0 if self._peek() == "-" else 1.0
        if self._peek() in ("-", "+"):
            self._at += 1
        token = self._peek()
        if token is None or not (token[0].isdigit() or token[0] == "."):
            raise UsageError(f"A formula needs a number before {token or 'its end'!r}.")
        self._at += 1
        return sign * float(token)

    def _whole(self, least: int, most: int) -> int:
        value = self._real()
        if value != int(value) or not least <= value <= most:
            raise UsageError(f"A formula needs a whole number from {least} to {most} there.")
        return int(value)

    def _numbers(self) -> tuple[float, ...]:
        """numbers: number | 'c' '(' number (',' number)* ')'"""
        if self._peek() != "c":
            return (self._real(),)
        self._at += 1
        self._expect("(")
        found = [self._real()]
        while self._peek() == ",":
            self._at += 1
            found.append(self._real())
        self._expect(")")
        return tuple(found)

    def _text(self) -> str:
        token = self._peek()
        if token is None or token[0] not in "\"'":
            raise UsageError(f"A formula needs a level in quotes before {token or 'its end'!r}.")
        self._at += 1
        return token[1:-1]

    def _truth(self) -> bool:
        token = self._name()
        if token not in ("TRUE", "FALSE", "T", "F"):
            raise UsageError(f"A formula needs TRUE or FALSE instead of {token!r}.")
        return token[0] == "T"

    def _expect(self, wanted: str) -> None:
        if self._peek() != wanted:
            raise UsageError(f"A formula needs {wanted!r} before {self._peek() or 'its end'!r}.")
        self._at += 1

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _deeper(self, by: int) -> None:
        self._depth += by
        if self._depth > _DEEPEST:
            raise UsageError("A formula's brackets are too deep.")


def _key(term: _Product) -> frozenset[str]:
    return frozenset(f.label for f in term)


def _product(a: _Product, b: _Product) -> _Product:
    held = {f.label: f for f in a}
    for factor in b:
        _check_same(held.setdefault(factor.label, factor), factor)
    return tuple(held.values())


def _times(a: Sequence[_Product], b: Sequence[_Product]) -> list[_Product]:
    return _union([_product(x, y) for x, y in itertools.product(a, b)])


def _union(*lists: Sequence[_Product]) -> list[_Product]:
    found: dict[frozenset[str], _Product] = {}
    for term in itertools.chain(*lists):
        ours = {f.label: f for f in found.setdefault(_key(term), term)}
        for factor in term:
            _check_same(ours[factor.label], factor)
    if len(found) > _MOST_TERMS:
        raise UsageError(f"A formula has at most {_MOST_TERMS} terms.")
    return list(found.values())


def _check_same(one: Factor, other: Factor) -> None:
    """Raise unless two factors of one label, so of one category, have one reference."""
    if one != other:
        raise UsageError(f"{one.variable} has two reference levels in one formula.")


def _term(factors: _Product) -> Term:
    label = ":".join(f.label for f in factors)
    return _made(lambda: Term(factors=factors), f"{label} can't be a term")
