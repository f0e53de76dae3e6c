"""A model's history holds what was signed, whatever the coordinator says; its card says no more."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml

from contract import wire_pb2 as wire
from contract.envelope import Envelope
from contract.errors import (
    DocumentError,
    NotFound,
    SignatureError,
    UsageError,
    WardgateError,
)
from contract.records import encode_entry
from contract.work import SecureUpdates, TrainingWork
from foundation.bundle import Bundle
from researcher import cards
from researcher.registry import ModelHistory, RegisteredModel, check_history, choose
from tests.contract.world import NOW, RELEASE, World, sign
from tests.node.work.training.flower_apps import bundle

MODEL = "5a" * 32
ORIGIN = "77" * 32
WORK = TrainingWork(bundle="cd" * 32, parameters={"rounds": 2}, seed=9, start_from=ORIGIN)


def record_of(world: World, work: TrainingWork = WORK) -> wire.ModelRecord:
    """What an honest coordinator says of a model of two sites."""
    job = world.signed_job(work=work)
    digest = Envelope.parse(job).digest
    rounds = [
        wire.JobEvent(kind="round", round=n, text="train", metrics=[encode_entry("loss", 1.0 / n)])
        for n in (1, 2)
    ]
    return wire.ModelRecord(
        digest=MODEL, size=1000, job=digest, project="birth", project_version=1, researcher="ana",
        time=NOW.timestamp(), recipe="steps", bundle=work.bundle, bundle_name="tests/steps",
        bundle_version="1.0.0", strategy="FedAvg", start_from=work.start_from or "",
        answered=["kentucky", "minnesota"], signed_job=job, rounds=rounds,
        receipts=[
            world.receipt(site, digest, task=task, payload=f"{i}" * 64,
                          rules=("DeclaredSchema", "UpdateClipped"))
            for i, (site, task) in enumerate(
                [("kentucky", "000001"), ("kentucky", "000003"), ("minnesota", "000002")]
            )
        ],
    )  # fmt: skip


def history_of(world: World, work: TrainingWork = WORK) -> ModelHistory:
    return check_history([record_of(world, work)], world.settled())


def test_what_was_signed_is_believed() -> None:
    history = history_of(World())
    assert history.doubts == ()
    assert history.work == WORK
    [kentucky, minnesota] = history.shares()
    assert (kentucky.site, kentucky.release, kentucky.receipts) == ("kentucky", RELEASE, 2)
    assert kentucky.digests == ("0" * 64, "1" * 64)
    assert minnesota.rules == ("DeclaredSchema", "UpdateClipped")


def test_receipts_may_come_in_pieces() -> None:
    world = World()
    whole = record_of(world)
    first = wire.ModelRecord()
    first.CopyFrom(whole)
    del first.receipts[1:]
    rest = [wire.ModelRecord(receipts=[one]) for one in whole.receipts[1:]]
    assert len(check_history([first, *rest], world.settled()).receipts) == 3


def another_bundle(world: World, record: wire.ModelRecord) -> None:
    record.bundle = "ce" * 32


def no_origin(world: World, record: wire.ModelRecord) -> None:
    record.start_from = ""


def another_researcher(world: World, record: wire.ModelRecord) -> None:
    record.researcher = "ben"


def another_job(world: World, record: wire.ModelRecord) -> None:
    record.signed_job = world.signed_job(work=WORK)


def a_job_that_nobody_signed(world: World, record: wire.ModelRecord) -> None:
    record.signed_job = sign(world.job(work=WORK))
    record.job = Envelope.parse(record.signed_job).digest


def a_job_that_the_coordinator_signed(world: World, record: wire.ModelRecord) -> None:
    record.signed_job = sign(world.job(work=WORK), world.coordinator)
    record.job = Envelope.parse(record.signed_job).digest


def a_site_without_a_receipt(world: World, record: wire.ModelRecord) -> None:
    record.answered.append("mississippi")


def a_site_that_was_not_asked(world: World, record: wire.ModelRecord) -> None:
    record.answered.append("nowhere")


def a_receipt_of_another_job(world: World, record: wire.ModelRecord) -> None:
    record.receipts.append(world.receipt("kentucky", "99" * 32))


def a_receipt_of_another_release(world: World, record: wire.ModelRecord) -> None:
    record.receipts.append(world.receipt("kentucky", record.job, release="98" * 32))


def a_receipt_that_was_changed(world: World, record: wire.ModelRecord) -> None:
    forged = Envelope.parse(record.receipts[0])
    body = forged.body.replace(b'"payload_bytes":10', b'"payload_bytes":11')
    changed = Envelope.seal(forged.payloadType, body).with_signatures(forged.signatures)
    record.receipts[0] = changed.to_bytes()


def a_statistics_job(world: World, record: wire.ModelRecord) -> None:
    record.signed_job = world.signed_job()
    record.job = Envelope.parse(record.signed_job).digest


LIES = [
    another_bundle, no_origin, another_researcher, another_job, a_job_that_nobody_signed,
    a_job_that_the_coordinator_signed, a_site_without_a_receipt, a_site_that_was_not_asked,
    a_receipt_of_another_job, a_receipt_of_another_release, a_receipt_that_was_changed,
    a_statistics_job,
]  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_coordinator_that_lies_about_what_was_signed_is_not_believed(
    lie: Callable[[World, wire.ModelRecord], None],
) -> None:
    world = World()
    record = record_of(world)
    lie(world, record)
    with pytest.raises(WardgateError) as raised:
        check_history([record], world.settled())
    assert isinstance(raised.value, DocumentError | SignatureError)


def test_who_has_left_the_roster_is_a_doubt_and_no_error() -> None:
    world = World()
    record = record_of(world)
    del world.sites["minnesota"], world.researchers["ana"]
    view = world.view()
    view.update_roster(world.signed_roster(), NOW)
    history = check_history([record], view)
    assert len(history.receipts) == 2
    told = " ".join(history.doubts)
    assert "minnesota" in told
    assert "ana left the roster" in told


def test_texts_of_the_coordinator_are_fit_to_be_printed() -> None:
    record = wire.ModelRecord(recipe="x\x1b[2J\n" * 900, strategy="\r", time=1e300)
    model = RegisteredModel.of(record)
    assert "\x1b" not in model.recipe
    assert len(model.recipe) <= 200
    assert model.strategy == "?"


def test_a_model_is_chosen_by_the_beginning_of_its_name() -> None:
    models = [
        RegisteredModel.of(wire.ModelRecord(digest=d * 64, job=j * 64))
        for d, j in (("a", "1"), ("b", "2"), ("a", "3"))
    ]
    assert choose(models, "aaaaaa").job == "1" * 64
    assert choose(models, "222222").digest == "b" * 64
    for name, error in (("aaa", UsageError), ("cccccc", NotFound), ("", UsageError)):
        with pytest.raises(error):
            choose(models, name)


# ---- cards ---------------------------------------------------------------------------------------

SECTIONS = (
    "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data",
    "Quantitative analyses", "Ethical considerations", "Caveats and recommendations",
)  # fmt: skip
"""Mitchell et al. 2019, figure 1."""


def test_a_card_has_the_papers_sections_in_order_and_invents_nothing() -> None:
    world = World()
    history = history_of(world)
    text = cards.card(history, world.project(), {}, parents=[ORIGIN, "88" * 32])
    places = [text.index(f"## {section}\n") for section in SECTIONS]
    assert places == sorted(places)
    for name in ("primary intended uses", "license", "contact", "task"):
        assert f"| {name} | not given |" in text
    assert "Number of patients: not given." in text
    assert all(receipt.payload in text for receipt in history.receipts)
    assert f"| started from | `{ORIGIN}` ← `{'88' * 32}` |" in text
    assert "kentucky: updates were clipped" in text
    assert "privacy accounts: no noise by the sites' gates" in text
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "unknown"
    assert front["base_model"] == ORIGIN


def test_a_card_says_of_privacy_what_was_signed_or_that_it_is_not_told() -> None:
    world = World()
    secure = SecureUpdates(clip_norm=2.5, noise_multiplier=0.75)
    told = "\n".join(cards.privacy(history_of(world, TrainingWork(bundle="c" * 64, secure=secure))))
    assert "L2 norm of 2.5" in told
    assert "0.75" in told
    assert "as each site's policy; not told" in told
    record = record_of(world)
    digest = record.job
    record.receipts.append(world.receipt("kentucky", digest, rules=("UpdateNoised",)))
    told = "\n".join(cards.privacy(check_history([record], world.settled())))
    assert "as each site's policy; not told" in told


def test_a_card_says_what_privacy_each_site_spent_where_it_tells() -> None:
    world = World()
    record = record_of(world)
    for task in range(100):
        record.receipts.append(
            world.receipt(
                "kentucky", record.job, task=f"{task}", noise=(2.0,), rules=("UpdateNoised",)
            )
        )
    history = check_history([record], world.settled())
    [share] = [share for share in history.shares() if share.site == "kentucky"]
    # dp_accounting's figure for 100 Gaussian releases with multiplier 2.
    assert share.spent.epsilon == pytest.approx(33.1, abs=0.05)
    told = "\n".join(cards.privacy(history))
    assert "Privacy spent: epsilon 33.1" in told
    assert "at delta 1e-05 (100 Gaussian releases" in told
    assert "an epsilon of 33.1" in told


def test_what_a_recipe_tells_is_text_and_nothing_more() -> None:
    parsed = Bundle.parse(bundle())
    told = cards.told_by(parsed)
    assert told == {"task": "mean of a column", "license": "Apache-2.0"}
    more = parsed.files["pyproject.toml"] + (
        b'[tool.wardgate.card]\nintended_use = "a | b\\n# [x](javascript:1) <script>"\n'
        b'caveats = 7\nowner = "me"\n'
    )
    hostile = cards.told_by(
        Bundle(**{**vars(parsed), "files": {**parsed.files, "pyproject.toml": more}})
    )
    assert set(hostile) == {"task", "license", "intended_use"}
    assert hostile["intended_use"] == r"a \| b \# \[x\](javascript:1) \<script\>"
    world = World()
    text = cards.card(history_of(world), None, hostile)
    assert "<script>" not in text
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "apache-2.0"
