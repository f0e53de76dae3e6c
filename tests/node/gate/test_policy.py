"""The policy: a hard floor, and nothing from outside that widens it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from contract.errors import ConfigurationError, NotFound, WardgateError
from node.commands.policy import use
from node.gate.ledger import read_entries
from node.gate.policy import (
    HARD_MINIMUM,
    DisclosureSettings,
    Policy,
    ProjectLimits,
    changes,
    load_policy,
)
from node.home import NodeHome
from node.link.server import PolicyFile


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "[disclosure]\nminimum_cohort = 2\nminimum_cell = 2",
        "[disclosure]\nminimum_cohort = 20\nminimum_cell = 2",
        "[disclosure]\nminimum_cohort = 0\nminimum_cell = 0",
        "[disclosure]\nminimum_cell = -5",
        "[disclosure]\nminimum_cohort = true\nminimum_cell = true",
        "[disclosure]\nminimum_cohort = 2.9\nminimum_cell = 2.9",
        "[disclosure]\nminimum_cell = 30",
        "[training]\nminimum_subjects = 2",
        "[jobs]\nper_hour = 0",
    ],
)
def test_no_file_goes_below_the_hard_minimum(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError):
        load_policy(written(tmp_path, text))


def test_the_hard_minimum_itself_may_be_chosen(tmp_path: Path) -> None:
    assert HARD_MINIMUM == 3
    text = "[disclosure]\nminimum_cohort = 3\nminimum_cell = 3"
    found = load_policy(written(tmp_path, text)).disclosure
    assert found == DisclosureSettings(minimum_cohort=3, minimum_cell=3)


def test_the_environment_widens_no_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for prefix in ("WARDGATE_NODE", "WARDGATE_POLICY", "WARDGATE_NO_OVERRIDE", "WARDGATE"):
        monkeypatch.setenv(f"{prefix}_DISCLOSURE__MINIMUM_COHORT", "3")
        monkeypatch.setenv(f"{prefix}_DISCLOSURE__MINIMUM_CELL", "3")
    assert load_policy(written(tmp_path, "")) == Policy()


def test_a_policys_digest_follows_its_values_and_nothing_else(tmp_path: Path) -> None:
    plain = load_policy(written(tmp_path, "# a remark\n[disclosure]\nminimum_cohort = 20\n"))
    assert plain.digest == Policy().digest
    other = load_policy(written(tmp_path, "[disclosure]\nminimum_cohort = 21\n"))
    assert other.digest != plain.digest


def test_a_changed_policy_file_holds_from_the_next_question_on(tmp_path: Path) -> None:
    home = NodeHome(tmp_path).create()
    home.policy.write_text("[disclosure]\nminimum_cohort = 20\n")
    policy = PolicyFile(home)
    assert policy().disclosure.minimum_cohort == 20
    home.policy.write_text("[disclosure]\nminimum_cohort = 500\n")
    assert policy().disclosure.minimum_cohort == 500


@pytest.mark.parametrize("how", ["gone", "not TOML", "unknown key", "too low"])
def test_a_policy_that_cannot_be_read_stops_all_work(tmp_path: Path, how: str) -> None:
    home = NodeHome(tmp_path).create()
    home.policy.write_text("")
    policy = PolicyFile(home)
    texts = {
        "not TOML": "[[[",
        "unknown key": "minimum_cohort = 3",
        "too low": "[disclosure]\nminimum_cell = 1",
    }
    if how == "gone":
        home.policy.unlink()
    else:
        home.policy.write_text(texts[how])
    for _ in range(2):  # and goes on doing so: the former policy isn't used
        with pytest.raises(WardgateError) as caught:
            policy()
        assert isinstance(caught.value, NotFound | ConfigurationError)


def test_a_policy_with_the_same_time_and_size_is_read_again_when_its_file_was_replaced(
    tmp_path: Path,
) -> None:
    home = NodeHome(tmp_path).create()
    home.policy.write_text("[disclosure]\nminimum_cohort = 20\n")
    stamp = home.policy.stat()
    policy = PolicyFile(home)
    replacement = tmp_path / "new"
    replacement.write_text("[disclosure]\nminimum_cohort = 90\n")
    os.utime(replacement, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    replacement.replace(home.policy)
    assert policy().disclosure.minimum_cohort == 90


def test_what_differs_between_policies_is_named_key_by_key() -> None:
    new = Policy(
        disclosure=DisclosureSettings(minimum_cohort=50),
        projects={"birth": ProjectLimits(researchers=["ana"])},
    )
    found = changes(Policy(), new)
    assert found["disclosure.minimum_cohort"] == (20, 50)
    assert found["projects.birth.researchers"] == (None, ["ana"])
    assert set(found) - {f"projects.birth.{key}" for key in ProjectLimits.model_fields} == {
        "disclosure.minimum_cohort"
    }
    assert changes(new, new) == {}


def test_policy_use_shows_what_changes_and_the_ledger_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "node"
    use("standard", home)
    capsys.readouterr()
    use("strict", home)
    out = capsys.readouterr().out
    assert "disclosure.minimum_cohort: 20 -> 50" in out
    assert 'profile: "standard" -> "strict"' in out
    entry = list(read_entries(home / "ledger"))[-1]
    assert entry.kind == "policy"
    assert entry.body["changed"]["disclosure.minimum_cohort"] == [20, 50]
    assert "disclosure.minimum_cell" not in entry.body["changed"]
    # A former policy that can't be read keeps nobody from putting a good one in force.
    (home / "policy.toml").write_text("[[[")
    use("standard", home)
    assert "changed" not in list(read_entries(home / "ledger"))[-1].body
