"""The reference that is written by hand: every exit code, policy key and setting, as it is."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from pydantic import BaseModel

from contract.errors import exit_codes
from coordinator.config import CoordinatorSettings
from foundation.defaults import default_text
from node.config import NodeSettings
from node.gate.policy import Policy, ProjectLimits
from tests.docs.reading import ROOT, table_below

REFERENCE = ROOT / "docs" / "reference"
PROFILES = ("strict", "standard", "open-research")


def flat(model: BaseModel) -> dict[str, Any]:
    """Return a model's values by dotted key."""
    found: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            found |= {f"{name}.{key}": inner for key, inner in flat(value).items()}
        else:
            found[name] = value
    return found


def shown(value: object) -> str:
    """Return a value as a table shows it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_every_exit_code_is_documented_under_its_name() -> None:
    rows = table_below((REFERENCE / "exit-codes.md").read_text(), "# Exit codes")
    documented = {int(row[0]): row[1] for row in rows}
    codes = {code: error.__name__ for code, error in exit_codes().items()}
    assert documented == codes | {0: "", 130: ""}


def test_every_policy_key_is_documented_with_its_value_in_each_profile() -> None:
    text = (REFERENCE / "policy.md").read_text()
    rows = {row[0]: row for row in table_below(text, "# Policy")}
    assert list(rows) == list(flat(Policy()))
    for column, profile in enumerate(PROFILES, 2):
        policy = Policy.model_validate(tomllib.loads(default_text(f"policy/{profile}.toml")))
        for key, value in flat(policy).items():
            assert rows[key][column] == shown(value), f"{key} of {profile}"
    for key in rows:
        section, _, name = key.rpartition(".")
        assert f"### {section or name}" in text
        assert not section or f"- `{name}`: " in text.split(f"### {section}")[1].split("###")[0]


def test_every_limit_of_a_project_is_documented() -> None:
    text = (REFERENCE / "policy.md").read_text()
    rows = table_below(text, "### projects")
    assert [row[0] for row in rows] == list(ProjectLimits.model_fields)


def test_the_standard_profile_is_the_default() -> None:
    assert Policy.model_validate(tomllib.loads(default_text("policy/standard.toml"))) == Policy()


@pytest.mark.parametrize(
    ("heading", "settings"),
    [("## Node", NodeSettings()), ("## Coordinator", CoordinatorSettings())],
)
def test_every_setting_is_documented_with_its_default(heading: str, settings: BaseModel) -> None:
    rows = table_below((REFERENCE / "settings.md").read_text(), heading)
    documented = {row[0]: row[1] for row in rows}
    defaults = {key: json.dumps(value) for key, value in flat(settings).items()}
    assert documented == defaults
