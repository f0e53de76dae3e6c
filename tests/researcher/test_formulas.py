"""A formula is parsed as R reads it, or refused with what is wrong."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import formulaic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import DocumentError, UsageError
from contract.models import Model
from contract.terms import Power, Term, Value
from researcher.formulas import parse
from researcher.questions import count, question


def labels(formula: str, family: str = "linear", **settings: Any) -> list[str]:
    """Return a formula's terms as R would write them."""
    return [term.label for term in parse(formula, family, **settings).terms]


def test_formulas_are_read_as_r_reads_them() -> None:
    model = parse("outcome ~ age + arm:sex", "poisson")
    assert model.outcome == "outcome"
    assert model.terms == (Term.of("age"), Term.of("arm", "sex"))
    assert labels("y ~ a*b") == ["a", "b", "a:b"]
    assert labels("y~a*b*c") == ["a", "b", "c", "a:b", "a:c", "b:c", "a:b:c"]
    assert labels("y ~ a:b + c") == ["c", "a:b"]  # lower orders first
    assert labels("y ~ (a + b + c)^2 - a:b") == ["a", "b", "c", "a:c", "b:c"]
    assert labels("y ~ a/b") == ["a", "a:b"]
    assert labels("y ~ 1") == []
    for without in ("y ~ 0 + a", "y ~ a - 1", "y ~ a + 0", "y ~ -1 + a"):
        assert not parse(without, "linear").intercept
        assert labels(without) == ["a"]
    assert parse("y ~ a", "linear").intercept


def test_survival_is_read_as_r_reads_it() -> None:
    cox = parse("Surv(days, died) ~ arm", "cox")
    assert (cox.outcome, cox.event, cox.entry) == ("days", "died", None)
    cox = parse("Surv(start, stop, died) ~ arm + strata(clinic, sex)", "cox", ties="breslow")
    assert (cox.entry, cox.outcome, cox.event) == ("start", "stop", "died")
    assert cox.strata == ("clinic", "sex")
    assert cox.ties == "breslow"
    assert [t.label for t in cox.terms] == ["arm"]


def test_what_is_done_with_a_variable_is_one_of_a_closed_list() -> None:
    assert labels(
        "y ~ log(a) + I(b^2) + I((c - 50)/10) + I(((d + 1) * 2)**3) + poly(e, 3, raw = TRUE)"
        " + ns(f, df=4) + bs(g, knots = c(1, 2.5), degree = 2, Boundary.knots = c(0, 9))"
    ) == [
        "log(a)", "I(b^2)", "I((c - 50)/10)", "I(((d + 1)/0.5)^3)", "poly(e, 3, raw=TRUE)",
        "ns(f, df=4)",
        "bs(g, knots=c(1, 2.5), degree=2, Boundary.knots=c(0, 9))",
    ]  # fmt: skip
    [term] = parse("y ~ I(a/10 - 5)", "linear").terms
    assert term.factors == (Power(variable="a", shift=50, scale=10),)
    [term] = parse("y ~ C(arm, ref = 'placebo')", "linear").terms
    assert term.factors == (Value(variable="arm", reference="placebo"),)
    assert labels("y ~ factor(arm) + as.factor(sex) + a", numbers="a") == ["arm", "sex", "a"]
    model = parse("log(y) ~ a + offset(log(t)) + offset(u)", "linear", weights="w")
    assert (model.transform, model.weights) == ("log", "w")
    assert [factor.label for factor in model.offset] == ["log(t)", "u"]
    assert parse("y ~ a + (1 | site)", "linear").site == "random"
    assert parse("y ~ a", "logistic", by_site="fixed").site == "fixed"


FORMULAS = [
    "y ~ a + b",
    "y ~ a*b + c",
    "y ~ a:b + c",
    "y ~ a + a*b",
    "y ~ (a+b+c)^2",
    "y ~ (a+b+c)^3 - a:b:c",
    "y ~ a*b*c - a",
    "y ~ a/b",
    "y ~ (a + b)/c",
    "y ~ a*(b + c)",
    "y ~ a:(b + c) - 1",
    "y ~ 0 + a:b",
    "y ~ (a + b):(b + c)",
    "y ~ a + (b - a)",
    "y ~ a - (b + a) + c",
    "y ~ (a*b)^2",
    "y ~ a**2 + b",
]


def terms_of_formulaic(formula: str) -> set[frozenset[str]]:
    """Return the terms of another parser; the intercept is the empty one."""
    found = formulaic.Formula(formula).rhs
    return {frozenset(str(f) for f in term.factors if str(f) != "1") for term in found}


def terms_of_ours(formula: str) -> set[frozenset[str]]:
    model = parse(formula, "linear")
    return {frozenset(t.variables) for t in model.terms} | (
        {frozenset()} if model.intercept else set()
    )


@pytest.mark.parametrize("formula", FORMULAS)
def test_terms_are_those_of_another_parser(formula: str) -> None:
    assert terms_of_ours(formula) == terms_of_formulaic(formula)


@st.composite
def sums(draw: st.DrawFn, depth: int = 2) -> str:
    """Write a right side at random."""
    if depth == 0:
        return draw(st.sampled_from("abc"))
    inside = sums(depth - 1)
    form = draw(st.sampled_from(["{}", "{} + {}", "{}*{}", "{}:{}", "({} + {})^2", "({})"]))
    return form.format(*(f"({draw(inside)})" for _ in range(form.count("{}"))))


@given(sums())
def test_any_formula_has_the_terms_of_another_parser(right: str) -> None:
    """Of those without a product of three: there are no longer ones here."""
    formula = f"y ~ {right}"
    expected = terms_of_formulaic(formula)
    if max(map(len, expected)) <= 3:
        assert terms_of_ours(formula) == expected


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        ("y", "'~'"),
        ("~ a", "variable"),
        ("y ~", "variable"),
        ("y ~ a +", "variable"),
        ("y ~ a b", "'+'"),
        ("y ~ I(a**0.5)", "whole number"),
        ("y ~ I(a + b)", "a number before 'b'"),
        ("y ~ I(a + 5*2)", "in this order"),
        ("y ~ I(a/0)", "zero"),
        ("y ~ exp(a)", "can't hold exp"),
        ("y ~ ns(a)", "df or knots"),
        ("y ~ ns(a, df=3, knots=1)", "df or knots"),
        ("y ~ ns(a, df=3, df=4)", "twice"),
        ("y ~ ns(a, f=3)", "takes df"),
        ("y ~ bs(a, knots=c(2, 1))", "rise"),
        ("y ~ bs(a, df=2)", "at least its degree"),
        ("y ~ poly(a, 2, raw=FALSE)", "depends on the data"),
        ("y ~ poly(a, 2)", "raw = TRUE"),
        ("y ~ C(a, ref=b)", "quotes"),
        ("y ~ a:log(a)", "twice"),
        ("y ~ (a + b", "')'"),
        ("y ~ a)", "'+'"),
        ("y ~ " + "(" * 200 + "a" + ")" * 200, "too deep"),
        ("y ~ (a+b+c+d+e+f+g+h)^9", "can't be a term"),
        ("y ~ (1 | arm)", "')'"),
        ("y ~ a + strata(b)", "a Cox model's"),
        ("log(y) ~ a + offset(y)", "explain itself"),
        ("exp(y) ~ a", "can't explain"),
        ("y ~ __import__('os')", "can't hold __import__"),
        ("y ~ a; b", "can't hold ';'"),
        ("y ~ y", "explain itself"),
        ("Surv(t, e) ~ a", "what a Cox model explains"),
        ("y ~ C(a, ref='1') + relevel(a, ref='2')", "a has two reference levels"),
        ("y ~ a + b*relevel(a, ref='2')", "a has two reference levels"),
        ("y ~ b:C(a, ref='1'):relevel(a, ref='2')", "a has two reference levels"),
        ("y ~ factor(x)", "x is a number in the dictionary"),
        ("y ~ a + b:as.factor(x)", "x is a number in the dictionary"),
        ("y ~ C(x)", "Derive a category"),
        ("y ~ relevel(x, ref='1')", "x is a number in the dictionary"),
    ],
)
def test_what_is_no_formula_is_refused(formula: str, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        parse(formula, "linear", numbers=("x",))


@given(st.text(max_size=60), st.sampled_from(["linear", "cox"]))
def test_any_text_is_a_model_or_refused(text: str, family: str) -> None:
    with contextlib.suppress(UsageError):
        assert isinstance(parse(text, family), Model)


def test_a_secure_sum_with_noise_is_refused_and_not_turned_into_another_question() -> None:
    with pytest.raises(DocumentError, match="can't have noise"):
        question([count("age")], lane="dp", secure=True)
    assert question([count("age")], secure=True).lane == "exact"
