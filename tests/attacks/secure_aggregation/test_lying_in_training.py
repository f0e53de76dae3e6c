"""A coordinator that lies to learn one hospital's update out of a round of training."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract import records
from contract import wire_pb2 as wire
from contract.errors import JobFailed, Refused
from contract.records import Arrays, Metrics
from contract.secure_aggregation import encoding
from coordinator.work.training import secure as leading
from foundation import tensors
from node.gate import sealing
from node.gate.ledger import Entry, read_entries
from node.gate.ledger.entries import format_line
from node.gate.summed_sites import SummedSites
from node.work.training import secure
from tests.attacks.secure_aggregation.rounds import (
    KINDS,
    START,
    Hospitals,
    Question,
    told,
    without,
)
from tests.contract.secure_aggregation.simulation import both_shared
from tests.contract.world import SITES
from tests.node.gate.conftest import new_catalogue

__all__ = ["new_catalogue"]  # a fixture

ATTACKS = (
    (
        "Another model for one hospital",
        "Pasquini et al., Eluding secure aggregation by model inconsistency, CCS 2022",
        "keys are signed together with the digest of the message that a site trained by",
        "test_a_hospital_that_was_sent_another_model_is_in_no_sum",
    ),
    (
        "Two sums of one round",
        "Bonawitz et al., CCS 2017, section 6.2; differencing",
        "who gave shares in a sum is in no other of the round; off with it: that a node sums the "
        "same over one set of sites only",
        "test_no_second_sum_of_a_round_is_learned",
    ),
    (
        "A round asked again without one hospital",
        "Differencing of sums; So et al., Securing secure aggregation, AAAI 2023",
        "a node counts over which sites a job's sums are, and sums the same over one set only",
        "test_a_round_asked_again_without_one_hospital_is_not_summed",
    ),
    (
        "A model that differs in a digit, asked without one hospital",
        "Differencing of sums of nearly the same; So et al., AAAI 2023",
        "a policy that wants always the same sites (training.sum_site_sets = 1)",
        "test_where_sites_are_always_the_same_nothing_is_asked_without_one_hospital",
    ),
    (
        "Another function of the app for one hospital",
        "Pasquini et al., CCS 2022, by the message's type",
        "keys are signed together with the type of the message too",
        "test_a_hospital_that_was_told_another_function_is_in_no_sum",
    ),
    (
        "A task's name that is a path",
        "CWE-22",
        "a round's task is called by digits",
        "test_a_task_s_name_is_no_way_out_of_the_job_s_folder",
    ),
    (
        "What was masked, tried out against the ledger's head",
        "Dictionary attack on a hash; RFC 6962 heads",
        "an entry of what was masked has a salt that doesn't leave",
        "test_what_was_masked_can_t_be_tried_out_against_the_head",
    ),
)
VICTIM = "minnesota"
OTHERS = tuple(site for site in SITES if site != VICTIM)
NEARLY = {key: (array + np.float32(1e-6)).astype("f") for key, array in START.items()}
"""The same model but for the last digits."""


@pytest.fixture
def hospitals(tmp_path: Path, new_catalogue: Path) -> Iterator[Hospitals]:
    made = Hospitals(tmp_path / "four", new_catalogue)
    yield made
    made.close()


def test_a_round_gives_the_mean_of_all_and_every_number_in_it_once(hospitals: Hospitals) -> None:
    reply = hospitals.round()
    assert hospitals.is_mean_of(reply)
    metrics = reply["metrics"]
    assert isinstance(metrics, Metrics)
    losses = [site.number * site.examples for site in hospitals.sites.values()]
    mean = sum(losses) / sum(site.examples for site in hospitals.sites.values())
    assert metrics.items["loss"] == pytest.approx(mean, abs=1e-5)
    # A second round is of the same sites again, and of the model that it is sent.
    arrays = reply["arrays"]
    assert isinstance(arrays, Arrays)
    again = hospitals.round(arrays.items)["arrays"]  # type: ignore[arg-type]
    assert isinstance(again, Arrays)
    right = {k: 2 * hospitals.mean()[k] - START[k] for k in START}
    assert all(np.max(np.abs(again.items[k] - right[k])) < 1e-5 for k in START)


@pytest.mark.parametrize("kind", KINDS)
def test_one_site_of_four_may_drop_out_at_any_step(hospitals: Hospitals, kind: str) -> None:
    hospitals.lie = without((VICTIM, kind))
    reply = hospitals.round()
    counted = SITES if kind in ("survivors", "confirmations") else OTHERS
    assert hospitals.is_mean_of(reply, *counted)
    assert len(hospitals.learned()) == 1


@pytest.mark.parametrize("kind", ["keys", "shares", "confirmations"])
def test_two_sites_of_four_may_not(hospitals: Hospitals, kind: str) -> None:
    hospitals.lie = without((VICTIM, kind), ("new-york", kind))
    with pytest.raises(JobFailed, match="Fewer than a third") as said:
        hospitals.round()
    assert hospitals.learned() == []
    assert "answered the step of the" in str(said.value)
    # Of the last attempt: after confirmations, those that gave shares are in no further one.
    named = "summed" if kind == "confirmations" else VICTIM
    assert named in str(said.value)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_site_that_is_killed_in_a_sum_is_in_the_next_attempt(
    hospitals: Hospitals, kind: str
) -> None:
    killed = {VICTIM, "new-york"}

    def lie(question: Question, step: str) -> Question:
        if step == kind and question.site in killed:
            killed.discard(question.site)
            hospitals.sites[question.site].restart()
        return question

    hospitals.lie = lie
    reply = hospitals.round()
    assert hospitals.is_mean_of(reply)
    # No vector was masked twice under the same keys: the masks of two attempts differ.
    for site in SITES:
        words = [found[site].tobytes() for found in hospitals.masked.values() if site in found]
        assert len(set(words)) == len(words)


def test_a_site_killed_when_the_others_gave_shares_costs_another_training(
    hospitals: Hospitals,
) -> None:
    lost = [(VICTIM, "confirmations"), ("new-york", "confirmations")]

    def lie(question: Question, kind: str) -> Question | None:
        if (question.site, kind) in lost:
            lost.remove((question.site, kind))
            hospitals.sites[question.site].restart()
        return question

    hospitals.lie = lie
    assert hospitals.is_mean_of(hospitals.round())
    assert len(hospitals.learned()) == 1
    assert len({name for name, _ in hospitals.masked}) == 2


# ---- other models --------------------------------------------------------------------------------


def other_model(hospitals: Hospitals, *, to: str = VICTIM) -> Callable[[Question, str], Question]:
    """Send one site the same model in another message."""

    def lie(question: Question, kind: str) -> Question:
        if kind != "train" or question.site != to:
            return question
        message = wire.RecordDict.FromString(question.payload)
        message.records.add(name="config", kind=wire.Record.CONFIG)
        return replace(question, payload=message.SerializeToString(deterministic=True))

    return lie


def test_a_hospital_that_was_sent_another_model_is_in_no_sum(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospitals.lie = other_model(hospitals)
    with monkeypatch.context() as off:
        for module in (secure, leading):
            terms = module.terms
            off.setattr(module, "terms", lambda t=terms, **n: t(**{**n, "message": ""}))
        assert hospitals.is_mean_of(hospitals.round())
    hospitals.revealed.clear()
    # The other three stay above the threshold; the victim's keys don't fit, so it is left out.
    with pytest.raises(JobFailed):
        hospitals.round()  # which the three were asked with the victim before
    reply = hospitals.round(NEARLY)
    assert hospitals.is_mean_of(reply, *OTHERS)
    assert not any(
        site == VICTIM for found in list(hospitals.masked.values())[1:] for site in found
    )


# ---- two sums of one round -----------------------------------------------------------------------


def second_sum(hospitals: Hospitals, sites: tuple[str, ...], **changes: int) -> object:
    """Lead another attempt at the round that was just summed, over these sites."""
    task_of = {name: f"{number + 1:06d}" for number, name in enumerate(hospitals.sites)}
    received = {"arrays": Arrays(dict(START))}
    one = leading._Sum(hospitals.leader, task_of, hospitals_message(hospitals), received)
    one._first = changes.get("first", 3)
    return one.lead(sorted(sites), changes.get("attempt", 2))


def hospitals_message(hospitals: Hospitals) -> str:
    said = json.loads((hospitals.sites[VICTIM].folder / "sums" / "000002.json").read_text())
    return str(said["message"])


def forget(hospitals: Hospitals, kept: dict[str, bytes]) -> None:
    """Turn the defences off: a site forgets that it gave shares, and over which sites."""
    for number, site in enumerate(hospitals.sites.values()):
        (site.folder / "sums" / "sets").unlink()
        path = site.folder / "sums" / f"{number + 1:06d}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"revealed": False}))
        (site.folder / "sums" / f"{number + 1:06d}.sealed").write_bytes(kept[site.name])


def test_no_second_sum_of_a_round_is_learned(hospitals: Hospitals) -> None:
    """Off are two defences: that who gave shares is in no other sum of the round, and that the same
    is summed over one set of sites only (``SummedSites``), which would refuse the second as well.
    """
    kept: dict[str, bytes] = {}

    def keep(question: Question, kind: str) -> Question:
        if kind == "terms":
            [path] = (hospitals.sites[question.site].folder / "sums").glob("*.sealed")
            kept[question.site] = path.read_bytes()
        return question

    hospitals.lie = keep
    whole = hospitals.round()
    hospitals.lie = lambda question, kind: question
    forget(hospitals, kept)
    fewer = second_sum(hospitals, OTHERS)
    # What the victim's training added is the difference of two sums.
    every, some = (
        {k: (r["arrays"].items[k] - START[k]) * r["metrics"].items["num-examples"] for k in START}
        for r in (whole, fewer)  # type: ignore[attr-defined,index]
    )
    victim = hospitals.sites[VICTIM]
    for key in START:
        found = (every[key] - some[key]) / victim.examples
        assert np.max(np.abs(found - victim.update[key])) < 1e-4

    hospitals.refusals.clear()
    hospitals.revealed.clear()
    hospitals.masked.clear()
    for number, sites in enumerate((OTHERS, SITES), 3):
        with pytest.raises(Refused, match="Too few"):
            second_sum(hospitals, sites, attempt=number)
    assert {code for _, code in hospitals.refusals} == {"summed"}
    assert hospitals.learned() == []


def test_a_later_attempt_is_over_the_firsts_sites_and_threshold_only(
    hospitals: Hospitals,
) -> None:
    first: list[str] = []

    def lie(question: Question, kind: str) -> Question | None:
        if kind == "train":
            return question if question.site != "new-york" else None
        if kind == "shares":
            first.append(question.site)
            return None  # nobody gets that far
        return question

    hospitals.lie = lie
    with pytest.raises(JobFailed):
        hospitals.round()
    tried = dict.fromkeys(OTHERS, 0)
    hospitals.refusals.clear()

    def terms_for(sites: list[str], group: str) -> list[str]:
        step = wire.SumStep(terms=wire.SumTerms(sites=sites, minimum=3))
        codes = []
        for number, site in enumerate(hospitals.sites):
            if site in sites and site != "new-york":
                own = sorted(p.stem for p in (hospitals.sites[site].folder / "sums").glob("*.json"))
                question = Question(site, "sum", f"{own[-1]}.{group}", b"")
                tried[site] = number
                codes.append(hospitals.ask(told(question, step), "900001")[0])
        return codes

    three = [site for site in SITES if site != "new-york"]
    assert set(terms_for(list(SITES), "000001.4.3")) == {"other-sites"}
    assert set(terms_for(three, "000001.4.2")) == {"other-sites"}
    assert set(terms_for(three, "000001.1.3")) == {"out-of-order"}
    assert set(terms_for(three, "000001.9.3")) == {"out-of-order"}


# ---- the same sites in all rounds ----------------------------------------------------------------


def added(reply: records.Records, model: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the sum of what the sites' training added, times their examples."""
    arrays, metrics = reply["arrays"], reply["metrics"]
    assert isinstance(arrays, Arrays)
    assert isinstance(metrics, Metrics)
    examples = metrics.items["num-examples"]
    assert isinstance(examples, int)
    return {k: (arrays.items[k].astype(float) - model[k]) * examples for k in model}


def victims(
    hospitals: Hospitals, whole: records.Records, fewer: records.Records
) -> dict[str, np.ndarray]:
    """Return what a coordinator takes the victim's update to be, from two rounds."""
    every, some = added(whole, START), added(fewer, NEARLY)
    return {k: (every[k] - some[k]) / hospitals.sites[VICTIM].examples for k in START}


def limit(hospitals: Hospitals, sets: int) -> None:
    for site in hospitals.sites.values():
        policy = site.hospital.policy
        training = policy.training.model_copy(update={"sum_site_sets": sets})
        site.hospital.policy = policy.model_copy(update={"training": training})


def test_a_round_asked_again_without_one_hospital_is_not_summed(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as off:
        off.setattr(SummedSites, "join", lambda known, *_: known)
        whole = hospitals.round()
        hospitals.lie = without((VICTIM, "survivors"), (VICTIM, "shares"))
        fewer = hospitals.round()
        found = victims(hospitals, whole, fewer)
        for key, right in hospitals.sites[VICTIM].update.items():
            assert np.max(np.abs(found[key] - right)) < 1e-4

    hospitals.lie = lambda question, kind: question
    hospitals.revealed.clear()
    hospitals.refusals.clear()
    hospitals.round()
    hospitals.lie = without((VICTIM, "train"))
    with pytest.raises(JobFailed):
        hospitals.round()
    assert {code for _, code in hospitals.refusals} == {"other-sites"}
    assert len(hospitals.learned()) == 1
    hospitals.lie = lambda question, kind: question
    assert hospitals.is_mean_of(hospitals.round())  # over the same sites it tells nothing more


def test_where_sites_are_always_the_same_nothing_is_asked_without_one_hospital(
    hospitals: Hospitals,
) -> None:
    # Where a second set is allowed, its sum tells the victim's update but for rounding.
    limit(hospitals, 2)
    whole = hospitals.round()
    hospitals.lie = without((VICTIM, "train"))
    found = victims(hospitals, whole, hospitals.round(NEARLY))
    for key, right in hospitals.sites[VICTIM].update.items():
        assert np.max(np.abs(found[key] - right)) < 1e-3
    hospitals.lie = without(("new-york", "train"))
    with pytest.raises(JobFailed):
        hospitals.round(NEARLY)

    limit(hospitals, 1)
    for site in hospitals.sites.values():  # as in a job of its own
        (site.folder / "sums" / "sets").unlink()
    hospitals.lie = lambda question, kind: question
    hospitals.revealed.clear()
    hospitals.refusals.clear()
    hospitals.round()
    for left_out in ("train", "terms", "keys", "shares"):
        hospitals.lie = without((VICTIM, left_out))
        with pytest.raises(JobFailed):
            hospitals.round(NEARLY)
    assert len(hospitals.learned()) == 1
    assert {code for _, code in hospitals.refusals} <= {"other-sites", "restarted"}


def test_what_was_summed_is_remembered_over_a_restart(hospitals: Hospitals) -> None:
    limit(hospitals, 1)
    hospitals.round()
    for site in hospitals.sites.values():
        site.restart()
    hospitals.lie = without((VICTIM, "train"))
    with pytest.raises(JobFailed):
        hospitals.round(NEARLY)
    assert len(hospitals.learned()) == 1


def test_confirmations_of_a_list_that_a_site_refused_get_no_share_of_it(
    hospitals: Hospitals,
) -> None:
    limit(hospitals, 1)
    hospitals.round()
    given = len(hospitals.revealed)
    confirmations = wire.SumStep(confirmations=wire.SumConfirmations())
    refused: set[str] = set()

    def lie(question: Question, kind: str) -> Question | None:
        if question.site == VICTIM and kind == "train":
            return None
        if kind == "survivors" and question.site not in refused:
            refused.add(question.site)
            hospitals.ask(question, f"{900_000 + hospitals.count}")
            return told(question, confirmations)
        return question

    hospitals.lie = lie
    with pytest.raises(JobFailed):
        hospitals.round(NEARLY)
    assert len(hospitals.revealed) == given
    assert {code for _, code in hospitals.refusals} <= {"other-sites", "out-of-order", "restarted"}


# ---- lists, keys, repetitions --------------------------------------------------------------------


def test_two_lists_of_survivors_unmask_nothing(hospitals: Hospitals) -> None:
    def lie(question: Question, kind: str) -> Question:
        if kind != "survivors":
            return question
        members = list(encoding.step(question.payload).survivors.members)
        place = sorted(SITES).index(question.site)
        if place % 2:
            members.remove(next(m for m in members if m != place))
        return told(question, wire.SumStep(survivors=wire.SumSurvivors(members=members)))

    hospitals.lie = lie
    with pytest.raises(JobFailed):
        hospitals.round()
    assert hospitals.learned() == []
    assert all(not both_shared(said) for said in hospitals.revealed.values())


def test_keys_of_the_coordinators_own_are_refused(hospitals: Hospitals) -> None:
    def lie(question: Question, kind: str) -> Question:
        if kind != "keys":
            return question
        step = encoding.step(question.payload)
        for keys in step.keys.keys:
            if sorted(SITES)[keys.sender] != question.site:
                keys.mask_key = random.Random(1).randbytes(32)
        return told(question, step)

    hospitals.lie = lie
    with pytest.raises(JobFailed):
        hospitals.round()
    assert {code for _, code in hospitals.refusals} == {"keys", "restarted"} or {
        code for _, code in hospitals.refusals
    } == {"keys"}
    assert hospitals.masked == {}


def test_a_step_that_comes_twice_ends_the_sum_there(hospitals: Hospitals) -> None:
    twice: list[str] = []

    def lie(question: Question, kind: str) -> Question:
        if kind == "confirmations" and question.site == VICTIM and not twice:
            twice.append(kind)
            fewer = wire.SumSurvivors(members=[0, 1, 2])
            hospitals.ask(told(question, wire.SumStep(survivors=fewer)), "900001")
        return question

    hospitals.lie = lie
    reply = hospitals.round()  # the other three are enough to unmask it
    assert hospitals.is_mean_of(reply)
    assert (VICTIM, "out-of-order") in hospitals.refusals
    assert all(
        sorted(SITES)[one.sender] != VICTIM for one in next(iter(hospitals.revealed.values()))
    )


# ---- chance --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_lost_delayed_killed_or_changed_the_sum_is_exact_or_nothing(
    hospitals: Hospitals, seed: int
) -> None:
    chance = random.Random(seed)
    earlier: dict[tuple[str, str], Question] = {}

    def lie(question: Question, kind: str) -> Question | None:
        before = earlier.setdefault((question.site, kind), question)
        match chance.randrange(14):
            case 0:
                return None
            case 1:
                hospitals.sites[question.site].restart()
            case 2 if kind != "train":
                return before  # a replay of what was said in an earlier attempt
            case 3 if kind == "survivors":
                members = list(encoding.step(question.payload).survivors.members)
                members.remove(chance.choice(members))
                return told(question, wire.SumStep(survivors=wire.SumSurvivors(members=members)))
            case 4 if kind == "keys":
                step = encoding.step(question.payload)
                chance.choice(step.keys.keys).mask_key = chance.randbytes(32)
                return told(question, step)
            case 5 if kind == "shares":
                step = encoding.step(question.payload)
                if step.shares.shares:
                    chance.choice(step.shares.shares).ciphertext = chance.randbytes(82)
                return told(question, step)
        return question

    hospitals.lie = lie
    hospitals.hear = lambda site, kind, code: "timeout" if chance.randrange(25) == 0 else code
    try:
        reply = hospitals.round()
    except JobFailed:
        pass
    else:
        subsets = [SITES, *(tuple(s for s in SITES if s != gone) for gone in SITES)]
        assert any(hospitals.is_mean_of(reply, *subset) for subset in subsets)
    by_round: dict[str, int] = {}
    for name, _ in hospitals.learned():
        by_round[name] = by_round.get(name, 0) + 1
    assert all(count == 1 for count in by_round.values())
    assert all(not both_shared(said) for said in hospitals.revealed.values())
    for site in hospitals.sites.values():
        entries = site.hospital.entries("answer")
        sealed = {e.body["masked"] for e in entries if "masked" in e.body and not e.body["tensors"]}
        masked = {e.body["masked"] for e in entries if e.body["tensors"]}
        assert masked <= sealed


def untyped(message_type: str, payload: bytes) -> str:
    """``digest_of_message`` without the message's type."""
    del message_type
    return hashlib.sha256(payload).hexdigest()


def test_a_hospital_that_was_told_another_function_is_in_no_sum(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lie(question: Question, kind: str) -> Question | None:
        other = kind == "train" and question.site == VICTIM
        return replace(question, message_type="train.other") if other else question

    hospitals.lie = lie
    with monkeypatch.context() as off:
        for module in (secure, leading):
            off.setattr(module, "digest_of_message", untyped)
        assert hospitals.is_mean_of(hospitals.round())
    reply = hospitals.round(NEARLY)
    assert hospitals.is_mean_of(reply, *OTHERS)
    assert not hospitals.is_mean_of(reply)


def test_a_task_s_name_is_no_way_out_of_the_job_s_folder(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = hospitals.sites[VICTIM]
    root = site.hospital.home.root
    received: records.Records = {"arrays": Arrays(dict(START))}
    payload = tensors.encode(received).message.SerializeToString(deterministic=True)

    def seal_in(name: str) -> None:
        task = wire.Task(job=hospitals.job, task=name, message_type="train", payload=payload)
        site.rounds.seal_in(task, site.output(received), 0.0)

    with monkeypatch.context() as off:
        off.setattr(secure, "_TASK", re.compile(".*", re.DOTALL))
        seal_in("../../../planted")
    planted = [root / "planted.json", root / "planted.sealed"]
    assert sorted(root.rglob("planted*")) == planted
    for path in planted:
        path.unlink()

    for name in ("../../../planted", "..", "1/2", "1\n2", ""):
        with pytest.raises(Refused):
            seal_in(name)
    assert not list(root.rglob("planted*"))


def candidates(hospitals: Hospitals) -> dict[str, str]:
    """By site: the digest of what would be masked, were its training's outcome the victim's."""
    victim, found = hospitals.sites[VICTIM], {}
    for name, site in hospitals.sites.items():
        output = site.output({"arrays": Arrays(dict(START))})
        encoded = tensors.encode(victim.rounds._summed(output.records, output))
        head = encoded.message.SerializeToString(deterministic=True)
        data = b"".join([len(head).to_bytes(8, "big"), head, *encoded.pieces])
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def masked_entries(hospitals: Hospitals) -> list[Entry]:
    """The victim's entries of what it masked."""
    entries = read_entries(hospitals.sites[VICTIM].hospital.home.ledger)
    return [e for e in entries if e.kind == "answer" and "masked" in e.body]


def tried_out(hospitals: Hospitals, entries: Sequence[Entry], *salts: str) -> set[str]:
    """Whose candidates fit the heads of these entries, with one of these salts.

    Of the entries, the coordinator knows all but the salt and what was masked.
    """
    trials = itertools.product(entries, salts, candidates(hospitals).items())
    return {
        name
        for entry, salt, (name, digest) in trials
        if hashed(entry, entry.body | {"salt": salt, "masked": digest}) == entry.hash
    }


def hashed(entry: Entry, body: dict[str, Any]) -> str:
    """What a ledger's entry would have for a head, with another body."""
    time = datetime.fromisoformat(entry.time)
    line = format_line(entry.sequence, time, entry.kind, body, entry.previous)
    return hashlib.sha256(line).hexdigest()


def test_what_was_masked_can_t_be_tried_out_against_the_head(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = "00" * 16
    with monkeypatch.context() as off:
        off.setattr(sealing.secrets, "token_hex", lambda _: known)
        hospitals.round()
    unsalted = masked_entries(hospitals)
    assert tried_out(hospitals, unsalted, known) == {VICTIM}

    hospitals.round()
    salted = masked_entries(hospitals)[len(unsalted) :]
    salts = [str(entry.body["salt"]) for entry in salted]
    assert len(set(salts)) == len(salts) > 0
    assert all(len(bytes.fromhex(salt)) == 16 for salt in salts)
    assert tried_out(hospitals, salted, known) == set()
    assert tried_out(hospitals, salted, *salts) == {VICTIM}  # so it is the salt that hides it
