"""The reference of derived variables: its examples are read, its lists are whole."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

from contract.derivations import OPERATIONS
from contract.holdings import ImagingParameter
from node.catalog.dictionary import parse_dictionary
from researcher.reference import read_reference
from tests.docs.reading import ROOT, code_spans

TEXT = (ROOT / "docs" / "reference" / "derived.md").read_text()
SOURCES = """
[[variables]]
name = "weight"
kind = "number"
[[variables]]
name = "height"
kind = "number"
[[variables]]
name = "age"
kind = "number"
[[variables]]
name = "sex"
kind = "category"
levels = ["F", "M"]
[[variables]]
name = "arm"
kind = "category"
levels = ["A", "B"]
"""


def examples() -> list[str]:
    """Return the examples in TOML."""
    return re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)


def test_the_examples_are_one_dictionary_and_a_reference(tmp_path: Path) -> None:
    dictionary = [text for text in examples() if "[[variables]]" in text]
    values = tomllib.loads('name = "d"\n' + SOURCES + "\n".join(dictionary))
    names = [v.name for v in parse_dictionary(values, "test").variables]
    assert {"bmi", "age_group", "arm_known", "bmi_full.5", "ct.kvp", "ct.b59"} <= set(names)
    (reference,) = [text for text in examples() if "[[variables]]" not in text]
    path = tmp_path / "census.toml"
    path.write_text(reference)
    assert set(read_reference(path).numbers) == {"age"}


def test_every_operation_and_parameter_is_listed() -> None:
    spans = set(code_spans(TEXT))
    assert set(OPERATIONS) <= spans
    assert set(get_args(ImagingParameter)) <= spans
