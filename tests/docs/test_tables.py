"""The reference of tables: its examples are read, its lists are whole."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from contract.dictionary import Variable
from node.catalog.dictionary import parse_dictionary
from node.catalog.mapping.file import parse_mapping
from node.catalog.mapping.reading import OPERATIONS
from node.intake.fhir.export import KINDS
from node.intake.quality import RULES
from node.intake.schema import parse_schema
from tests.docs.reading import ROOT, code_spans, table_below

TEXT = (ROOT / "docs" / "reference" / "tables.md").read_text()


def example(name: str) -> Mapping[str, Any]:
    """Return the example of a kind of file."""
    found = re.search(rf"```toml {name}\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    return tomllib.loads(found[1])


def test_the_examples_are_read() -> None:
    assert parse_schema(example("schema"), "test").table == "visits"
    dictionary = parse_dictionary(example("dictionary"), "test")
    mapping = parse_mapping(example("mapping"), "test")
    assert mapping.dictionary == dictionary.name
    assert set(mapping.variables) == {variable.name for variable in dictionary.variables}


def test_every_quality_rule_is_listed_with_its_meaning() -> None:
    rows = table_below(TEXT, "## Quality rules")
    assert {row[0]: row[1].replace("`", "") for row in rows} == {
        rule: meaning.replace("`", "") for rule, meaning in RULES.items()
    }


def test_every_operation_variable_key_and_resource_is_listed() -> None:
    spans = set(code_spans(TEXT))
    assert set(OPERATIONS) <= spans
    assert set(Variable.model_fields) <= spans
    assert {row[0] for row in table_below(TEXT, "## FHIR R4")} == set(KINDS)
