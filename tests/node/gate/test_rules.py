"""The rules as a security officer reads them: what each promises, and on what that rests."""

from __future__ import annotations

import inspect
import re

import pytest

from node.gate.before_egress import BEFORE_EGRESS
from node.gate.before_work import BEFORE_WORK, SignerOnTheRoster
from node.gate.rules import BeforeEgress, BeforeWork
from tests.docs.reading import ROOT

RULES: tuple[BeforeWork | BeforeEgress, ...] = (*BEFORE_WORK, SignerOnTheRoster(), *BEFORE_EGRESS)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_rule_states_guarantee_assumption_and_source_in_this_order(
    rule: BeforeWork | BeforeEgress,
) -> None:
    text = inspect.getdoc(type(rule)) or ""
    places = [text.find(word) for word in ("Guarantee: ", "Assumption: ", "Source: ")]
    assert -1 not in places and places == sorted(places), places


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_document_that_a_rule_names_as_its_source_is_there(
    rule: BeforeWork | BeforeEgress,
) -> None:
    for path in re.findall(r"``(docs/[\w./-]+)``", inspect.getdoc(type(rule)) or ""):
        assert (ROOT / path).is_file(), path
