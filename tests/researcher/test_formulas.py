"""A formula is parsed as R reads it, or refused with what is wrong."""

from __future__ import annotations

import contextlib
import re

import formulaic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.documents import Model
from contract.errors import DocumentError, UsageError
from researcher.formulas import parse
from researcher.questions import count, question


def test_formulas_are_read_as_r_reads_them() -> None:
    model = parse("outcome ~ age + arm:sex", "poisson")
    assert model.outcome == "outcome"
    assert model.terms == (("age",), ("arm", "sex"))
    assert parse("y ~ a*b", "linear").terms == (("a",), ("b",), ("a", "b"))
    assert parse("y~a*b*c", "linear").terms == (
        ("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c"),
    )  # fmt: skip
    cox = parse("Surv(days, died) ~ arm", "cox")
    assert (cox.outcome, cox.event, cox.terms) == ("days", "died", (("arm",),))


@pytest.mark.parametrize("formula", ["y ~ a + b", "y ~ a*b + c", "y ~ a:b + c", "y ~ a + a*b"])
def test_terms_are_those_of_another_parser(formula: str) -> None:
    found = {frozenset(term) for term in parse(formula, "linear").terms}
    expected = {
        frozenset(str(factor) for factor in term.factors)
        for term in formulaic.Formula(formula).rhs
        if str(term) != "1"
    }
    assert found == expected


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        ("y", "'~'"),
        ("~ a", "variable"),
        ("y ~", "variable"),
        ("y ~ a +", "variable"),
        ("y ~ a b", "'+'"),
        ("y ~ I(a**2)", "'2'"),
        ("y ~ __import__('os')", "can't hold"),
        ("y ~ a - b", "can't hold"),
        ("y ~ a:b*c", "either"),
        ("y ~ offset(a)", "'+'"),
        ("y ~ y", "explain itself"),
        ("Surv(t, e) ~ a", "what a Cox model explains"),
    ],
)
def test_what_is_no_formula_is_refused(formula: str, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        parse(formula, "linear")


@given(st.text(max_size=60), st.sampled_from(["linear", "cox"]))
def test_any_text_is_a_model_or_refused(text: str, family: str) -> None:
    with contextlib.suppress(UsageError):
        assert isinstance(parse(text, family), Model)


def test_a_secure_sum_with_noise_is_refused_and_not_turned_into_another_question() -> None:
    with pytest.raises(DocumentError, match="can't have noise"):
        question([count("age")], lane="dp", secure=True)
    assert question([count("age")], secure=True).lane == "exact"
