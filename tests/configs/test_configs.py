"""Every default file is loaded, and says what the models say."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from contract.errors import ConfigurationError
from coordinator.config import CoordinatorSettings
from foundation import settings
from foundation.defaults import CONFIGS, default_text
from node.config import NodeSettings, create_home, load_settings
from node.deid.profile import load_profile
from node.gate.policy import Policy, load_policy
from node.home import NodeHome

SETTINGS: dict[str, type[settings.Settings]] = {
    "node.toml": NodeSettings,
    "coordinator.toml": CoordinatorSettings,
}
POLICIES = {"strict": (50, 10), "standard": (20, 10), "open-research": (5, 5)}


def leaves(model: BaseModel, at: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            found |= leaves(value, f"{at}{name}.")
        elif value != {}:  # sections that a hospital names itself
            found[at + name] = value
    return found


def written(table: dict[str, Any], at: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in table.items():
        found |= written(value, f"{at}{name}.") if isinstance(value, dict) else {at + name: value}
    return found


def test_every_file_is_of_a_kind_that_these_tests_load() -> None:
    names = {str(p.relative_to(CONFIGS)) for p in CONFIGS.rglob("*") if p.is_file()}
    loaded = {*SETTINGS, *(f"policy/{name}.toml" for name in POLICIES)}
    profiles = {name for name in names if name.startswith("deid/")}
    assert names == loaded | profiles
    assert profiles


@pytest.mark.parametrize("name", SETTINGS)
def test_a_settings_file_names_every_setting_with_its_default(name: str) -> None:
    model = SETTINGS[name]
    assert settings.load(model, CONFIGS / name, "NOTHING", {}) == model()
    assert written(tomllib.loads(default_text(name))) == leaves(model())


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_profile_names_every_key_and_has_its_cohort_and_cell(name: str) -> None:
    path = CONFIGS / "policy" / f"{name}.toml"
    policy = load_policy(path)
    assert policy.profile == name
    found = (policy.disclosure.minimum_cohort, policy.disclosure.minimum_cell)
    assert found == POLICIES[name]
    assert written(tomllib.loads(path.read_text())) == leaves(policy)


def test_the_standard_profile_is_the_models_own() -> None:
    assert load_policy(CONFIGS / "policy" / "standard.toml") == Policy()


def test_a_narrower_profile_is_narrower_in_everything() -> None:
    strict, standard, open_ = (
        load_policy(CONFIGS / "policy" / f"{name}.toml") for name in POLICIES
    )
    for one, other in ((strict, standard), (standard, open_)):
        assert one.disclosure.minimum_cohort >= other.disclosure.minimum_cohort
        assert one.disclosure.minimum_cell >= other.disclosure.minimum_cell
        assert one.training.minimum_subjects >= other.training.minimum_subjects
        assert one.jobs.per_hour <= other.jobs.per_hour


@pytest.mark.parametrize("path", sorted((CONFIGS / "deid").iterdir()), ids=lambda p: p.stem)
def test_a_profile_of_de_identification_loads(path: Path) -> None:
    assert load_profile(str(path)) is not None


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_described(name: str) -> None:
    def undescribed(model: type[BaseModel], at: str = "") -> list[str]:
        found = []
        for key, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                found += undescribed(inner, f"{at}{key}.")
            elif not field.description:
                found.append(at + key)
        return found

    assert undescribed(SETTINGS[name]) == []


def test_a_new_nodes_home_holds_the_default_files(tmp_path: Path) -> None:
    home = create_home(NodeHome(tmp_path / "node"))
    assert load_settings(home) == NodeSettings()
    assert load_policy(home.policy) == Policy()
    home.policy.write_text('profile = "strict"\n')
    create_home(home)
    assert home.policy.read_text() == 'profile = "strict"\n'


def test_the_environment_overrides_a_nodes_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDGATE_NODE_WORK__THREADS", "2")
    monkeypatch.setenv("WARDGATE_NODE_HOME", str(tmp_path))
    assert load_settings(NodeHome(tmp_path)).work.threads == 2


def test_a_hospital_tells_apps_texts_numbers_and_whether(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"table-name": "trial", "limit": 5, "share": 0.5, "quick": True}
    home = create_home(NodeHome(tmp_path / "node"))
    text = home.settings.read_text().replace(
        "node_config = {}",
        'node_config = { table-name = "trial", limit = 5, share = 0.5, quick = true }',
    )
    home.settings.write_text(text)
    found = load_settings(home).training.node_config
    assert found == told and [type(v) for v in found.values()] == [str, int, float, bool]
    monkeypatch.setenv("WARDGATE_NODE_TRAINING__NODE_CONFIG", 'table-name = "other", limit = 6')
    assert load_settings(home).training.node_config == {"table-name": "other", "limit": 6}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        *(
            (f'{key} = "/etc"', f"the node itself sets {key}")
            for key in ("data-path", "dataset-path", "partition-id", "num-partitions")
        ),
        ("a = [1]", "a is no text, number, true or false"),
        ("a = { b = 1 }", "a is no text, number, true or false"),
        ("a = 2020-01-01", "a is no text, number, true or false"),
        (", ".join(f"k{i} = 1" for i in range(101)), "more than 100 keys"),
        ("a = ", "Invalid value"),
    ],
)
def test_a_hospital_tells_apps_nothing_else_and_nothing_over_what_the_node_tells(
    told: str, words: str
) -> None:
    variable = {"W_TRAINING__NODE_CONFIG": told}
    with pytest.raises(ConfigurationError, match=words):
        settings.load(NodeSettings, None, "W", variable)
