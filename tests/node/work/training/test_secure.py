"""A round at its site: what is sealed in, what it costs, what a restart leaves of it."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from contract.errors import JobFailed
from contract.records import Arrays, Metrics, Records
from contract.work import SecureUpdates
from node.gate.account import Limits, Payer
from node.gate.account.events import GaussianRelease
from tests.attacks.secure_aggregation.rounds import START, WORK, Hospitals, Question, without
from tests.contract.world import SITES
from tests.node.gate.conftest import new_catalogue

__all__ = ["new_catalogue"]  # a fixture

Make = Callable[[SecureUpdates], Hospitals]


@pytest.fixture
def make(tmp_path: Path, new_catalogue: Path) -> Iterator[Make]:
    made: list[Hospitals] = []

    def hospitals(work: SecureUpdates = WORK) -> Hospitals:
        made.append(Hospitals(tmp_path / "four", new_catalogue, work))
        return made[-1]

    yield hospitals
    for one in made:
        one.close()


def change(hospitals: Hospitals, part: str, **values: object) -> None:
    """Change every hospital's policy."""
    for site in hospitals.sites.values():
        policy = site.hospital.policy
        changed = getattr(policy, part).model_copy(update=values)
        site.hospital.policy = policy.model_copy(update={part: changed})


def update_in(reply: Records) -> np.ndarray:
    arrays = reply["arrays"]
    assert isinstance(arrays, Arrays)
    return np.concatenate([(arrays.items[k].astype(float) - START[k]).ravel() for k in START])


def test_what_is_sealed_in_is_the_owners_alone_and_goes_when_it_is_summed(make: Make) -> None:
    hospitals = make(WORK)
    seen: list[int] = []

    def look(question: Question, kind: str) -> Question:
        if kind == "shares":
            folder = hospitals.sites[question.site].folder / "sums"
            [sealed] = folder.glob("*.sealed")
            seen.append(stat.S_IMODE(sealed.stat().st_mode))
        return question

    hospitals.lie = look
    hospitals.round()
    assert seen == [0o600] * len(SITES)
    assert not [s for site in hospitals.sites.values() for s in site.folder.rglob("*.sealed")]


def test_the_ledger_has_the_digests_of_the_clear_part_and_of_the_masked_one(make: Make) -> None:
    hospitals = make(WORK)
    hospitals.round()
    for site in hospitals.sites.values():
        sealed, *steps = site.hospital.entries("answer")
        [masked] = [entry for entry in steps if entry.body["tensors"]]
        assert sealed.body["bytes"] == 0
        assert sealed.body["rules"] == ["DeclaredSchema", "DeclaredSize", "MinimumCohort"]
        assert masked.body["masked"] == sealed.body["masked"] != masked.body["tensors"]
        assert all("masked" not in entry.body for entry in steps if entry is not masked)


def test_the_gates_treatment_comes_before_the_sum(make: Make) -> None:
    hospitals = make(WORK)
    change(hospitals, "training", clip_norm=0.01)
    clipped = update_in(hospitals.round())
    # The weighted mean of four updates that are each at most 0.01 long.
    assert 0.001 < float(np.linalg.norm(clipped)) <= 0.01 + 1e-6
    entry = next(iter(hospitals.sites.values())).hospital.entries("answer")[0]
    assert entry.body["treatment"]["clip_norm"] == 0.01
    assert "UpdateClipped" in entry.body["rules"]


def test_what_the_gate_refuses_is_in_no_sum(make: Make) -> None:
    hospitals = make(WORK)
    victim = hospitals.sites["minnesota"]
    policy = victim.hospital.policy
    strict = policy.disclosure.model_copy(update={"minimum_cohort": 400})
    victim.hospital.policy = policy.model_copy(update={"disclosure": strict})
    assert hospitals.is_mean_of(hospitals.round(), *(s for s in SITES if s != "minnesota"))
    assert ("minnesota", "small-cell") in hospitals.refusals
    assert victim.hospital.entries("withheld")[-1].body["code"] == "small-cell"


def test_a_site_that_looks_at_its_answers_is_in_no_sum(make: Make) -> None:
    hospitals = make(WORK)
    change(hospitals, "approval", hold_outputs=["training"])
    with pytest.raises(JobFailed):
        hospitals.round()
    assert {code for _, code in hospitals.refusals} == {"held"}


# ---- noise ---------------------------------------------------------------------------------------

NOISY = WORK.model_copy(update={"noise_multiplier": 2.0, "clip_norm": 1.0})


def limits(site: object) -> Limits:
    return Limits.of(site.hospital.policy, "birth")  # type: ignore[attr-defined]


def test_a_sum_with_noise_is_charged_to_each_sites_account(make: Make) -> None:
    hospitals = make(NOISY)
    change(hospitals, "privacy", epsilon_project=50.0, epsilon_subject_year=50.0)
    reply = hospitals.round()
    metrics = reply["metrics"]
    assert isinstance(metrics, Metrics)
    # Each weighs by the published number of its subjects, which is 100 here.
    assert metrics.items["num-examples"] == 100 * len(SITES)
    for site in hospitals.sites.values():
        masked = [e for e in site.hospital.entries("answer") if e.body["tensors"]]
        assert [entry.body["noise"] for entry in masked] == [[1.0, 1.0]]
        spent = site.hospital.gate.account.spends()
        assert [row.event for row in spent] == [GaussianRelease(1.0)] * 2
        payer = Payer(site.hospital.world.consortium, "birth")
        standing = site.hospital.gate.account.standing(payer, limits(site), site.hospital.now)
        assert standing.epsilon_project > 1


def test_a_sums_noise_is_there_and_is_another_in_each_round(make: Make) -> None:
    hospitals = make(NOISY)
    change(hospitals, "privacy", epsilon_project=100.0, epsilon_subject_year=100.0)
    first, second = update_in(hospitals.round()), update_in(hospitals.round())
    # Two of four are counted on: the sum's deviation is sqrt(4 / 2) clip norms times 2, and the
    # mean's that times most_examples over all examples. Half of the difference of two rounds has it
    # without what the sites have trained, which is the same in both.
    expected = 2.0 * np.sqrt(2) * NOISY.most_examples / 400
    found = float(np.std((first - second) / np.sqrt(2)))
    assert expected / 1.6 < found < expected * 1.6  # 43 numbers


def test_a_site_whose_account_is_empty_is_in_no_sum(make: Make) -> None:
    hospitals = make(NOISY)
    change(hospitals, "privacy", epsilon_question=0.1, epsilon_project=0.1)
    with pytest.raises(JobFailed):
        hospitals.round()
    assert ("kentucky", "privacy-budget") in hospitals.refusals
    assert hospitals.masked == {}


def test_two_attempts_over_the_same_sites_have_the_same_noise_under_other_masks(
    make: Make,
) -> None:
    hospitals = make(NOISY)
    change(hospitals, "privacy", epsilon_project=100.0, epsilon_subject_year=100.0)
    words: dict[str, list[bytes]] = {}
    lost = {"minnesota", "new-york"}

    def lose(question: Question, kind: str) -> Question | None:
        attempt = hospitals.sites[question.site].rounds._attempts
        for one in attempt.values():
            known = hospitals.sites[question.site].rounds
            if kind == "shares":
                [held] = [r for p in known._folder.glob("*.json") if (r := known._round(p.stem))]
                found = known._words(one.words, held, known._sealed(held))
                words.setdefault(question.site, []).append(found.tobytes())
        if kind == "survivors" and question.site in lost:
            lost.discard(question.site)
            return None
        return question

    hospitals.lie = lose
    hospitals.round()
    assert all(len(found) == 2 and found[0] == found[1] for found in words.values())
    first, second = hospitals.masked.values()
    assert all(not np.array_equal(first[site], second[site]) for site in SITES)


def test_a_restarted_site_still_has_what_it_sealed_in(make: Make) -> None:
    hospitals = make(WORK)
    done: set[str] = set()

    def restart(question: Question, kind: str) -> Question:
        if kind == "terms" and question.site not in done:
            done.add(question.site)
            hospitals.sites[question.site].restart()
        return question

    hospitals.lie = restart
    assert hospitals.is_mean_of(hospitals.round())
    assert len({name for name, _ in hospitals.masked}) == 1


def test_a_site_without_an_update_is_in_no_sum(make: Make) -> None:
    hospitals = make(WORK)
    hospitals.lie = without(("new-york", "train"))
    assert hospitals.is_mean_of(hospitals.round(), *(s for s in SITES if s != "new-york"))
    [participants] = {frozenset(found) for found in hospitals.masked.values()}
    assert "new-york" not in participants
