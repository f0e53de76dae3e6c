"""The second table, and that nothing gets past it: no small cell, no canary, no hidden bytes."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import math
import os
import random
import re
import string
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract import records as codec
from contract import wire_pb2 as wire
from contract.errors import Refused, StorageError
from contract.receipts import Receipt
from contract.records import Arrays, Config, Metrics, Records
from contract.statistics.answers import Part, answer_locally
from contract.statistics.summaries import Counts, Moments
from contract.work import Statistic, StatisticsWork
from foundation import tensors
from node.gate import before_egress
from node.gate.before_egress import is_small, withhold_small
from node.gate.gate import Admission, Sealed
from node.gate.ledger import verify
from node.gate.policy import DisclosureSettings, JobLimits, LedgerSettings, Policy, TrainingSettings
from node.gate.rules import ModelOutput, Outbound, StatisticsOutput, TrainingOutput
from tests.contract.world import World
from tests.node.gate.conftest import GRANT, SITE, Hospital

LIMITS = DisclosureSettings(minimum_cohort=20, minimum_cell=10)
PROJECT = World().project()
ROOT = Path(__file__).resolve().parents[3]
ASK = (
    Statistic(kind="moments", variable="age"),
    Statistic(kind="levels", variable="arm"),
    Statistic(kind="histogram", variable="age", by="arm"),
    Statistic(kind="count", variable="age"),
)


def columns(ages: list[float], arms: list[int]) -> dict[str, Any]:
    return {"age": np.array(ages, dtype=np.float64), "arm": np.array(arms, dtype=np.int64)}


def parts_of(ages: list[float], arms: list[int]) -> list[Part]:
    return answer_locally(ASK, PROJECT, columns(ages, arms))


def admitted(hospital: Hospital, *, training: bool = False) -> Admission:
    release = hospital.release(200)
    make = (
        hospital.training if training else lambda r: hospital.job(r, work=StatisticsWork(ask=ASK))
    )
    return hospital.gate.admit(hospital.member, make(release))


# ---- small cells -------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "small"), [(0, False), (1, True), (9, True), (10, False)])
def test_a_cell_of_one_to_k_minus_one_is_small_and_none_or_k_is_not(
    count: int, small: bool
) -> None:
    for summary in (
        Counts((100, count)),
        Counts((100,), below=count),
        Counts((100,), above=count),
        Counts((100,), missing=count),
        Moments(100, count, 1.0, 1.0),
    ):
        assert is_small(Part({"": summary}), LIMITS) is small
    assert is_small(Part({"a": Counts((100,)), "b": Counts((100, count))}), LIMITS) is small


@pytest.mark.parametrize(("n", "small"), [(0, True), (1, True), (19, True), (20, False)])
def test_a_group_of_fewer_than_the_minimum_cohort_is_small(n: int, small: bool) -> None:
    assert is_small(Part({"": Moments(n, 0, 1.0, 1.0)}), LIMITS) is small
    assert is_small(Part({"": Counts((n, 0))}), LIMITS) is small
    assert is_small(Part({"A": Moments(50, 0, 1, 1), "B": Moments(n, 0, 1, 1)}), LIMITS) is small


@pytest.mark.parametrize(("left_over", "small"), [(0, False), (1, True), (19, True), (20, False)])
def test_groups_leave_only_if_what_they_leave_out_is_nobody_or_many(
    left_over: int, small: bool
) -> None:
    # The overall mean less the groups' would be the exact value of the few in no group.
    ages = [30.0 + i % 30 for i in range(80 + left_over)]
    arms = [i % 2 for i in range(80)] + [-1] * left_over
    ask = (Statistic(kind="moments", variable="age", by="arm"),)
    kept = withhold_small(answer_locally(ask, PROJECT, columns(ages, arms)), LIMITS)
    assert kept[0].withheld is small


@given(
    st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), min_size=1, max_size=3),
    st.lists(st.integers(0, 30), min_size=3, max_size=3),
)
def test_what_is_kept_has_no_small_cell_and_what_is_withheld_shows_nothing(
    table: list[list[int]], missing: list[int]
) -> None:
    parts = [
        Part({str(i): Counts(tuple(row), missing[i]) for i, row in enumerate(table)}),
        Part({"": Moments(sum(table[0]), missing[0], 4.0, 2.0)}),
    ]
    for kept, part in zip(withhold_small(parts, LIMITS), parts, strict=True):
        if kept.withheld:
            assert kept == Part({}, withheld=True)
            assert any(
                s.n < 20 or (isinstance(s, Counts) and any(0 < c < 10 for c in s.counts))
                for s in part.groups.values()
            )
            continue
        for level, summary in kept.groups.items():
            assert summary.n == part.groups[level].n >= 20
            assert summary.missing % 10 == 0
            assert 0 <= part.groups[level].missing - summary.missing < 10
            if isinstance(summary, Counts):
                assert not any(0 < c < 10 for c in summary.counts)


def test_missing_values_are_rounded_down_in_the_payload_itself(hospital: Hospital) -> None:
    ages = [40.0 + i % 20 for i in range(100)] + [math.nan] * 19
    admission = admitted(hospital)
    sealed = hospital.gate.answer_statistics(
        hospital.member, admission, parts_of(ages, [i % 2 for i in range(119)]), 0.1
    )
    answer = wire.StatisticsAnswer.FromString(sealed.message.reply.payload)
    assert answer.parts[0].groups[0].moments.missing == 10
    assert answer.parts[3].groups[0].counts.missing == 10


def test_every_withheld_part_has_the_same_bytes_whatever_was_small(hospital: Hospital) -> None:
    payloads = set()
    for ages in ([], [50.0], [50.0] * 19, [float(i) for i in range(19)]):
        parts = parts_of(ages, [0] * len(ages))
        sealed = hospital.gate.answer_statistics(hospital.member, admitted(hospital), parts, 0.1)
        payloads.add(sealed.message.reply.payload)
    assert len(payloads) == 1


def test_parts_that_reach_the_table_small_are_refused_there_too(hospital: Hospital) -> None:
    admission = admitted(hospital)
    small = parts_of([50.0] * 19, [0] * 19)
    with pytest.raises(Refused) as caught:
        before_egress.let_pass(
            Outbound(
                admission.job,
                admission.project,
                admission.release,
                hospital.policy,
                StatisticsOutput(small),
                10,
            )
        )
    assert caught.value.code == "small-cell"


def test_a_model_tells_of_enough_and_of_who_is_not_in_it_in_steps_of_a_cell(
    hospital: Hospital,
) -> None:
    admission = admitted(hospital)

    def passes(n: int, missing: int) -> bool:
        output = ModelOutput(wire.ModelPart(n=n, missing=missing), 2)
        terms = (admission.job, admission.project, admission.release, hospital.policy, output, 10)
        try:
            before_egress.MinimumCohort().check(Outbound(*terms))
        except Refused:
            return False
        return True

    found = [passes(n, missing) for n, missing in ((20, 0), (20, 30), (19, 0), (20, 1), (20, 29))]
    assert found == [True, True, False, False, False]


def test_an_answer_of_another_form_is_refused(hospital: Hospital) -> None:
    admission = admitted(hospital)
    good = parts_of([50.0 + i % 20 for i in range(100)], [i % 2 for i in range(100)])
    for wrong in (good[:-1], [*good, good[0]], [good[1], *good[1:]], [Part({}), *good[1:]]):
        with pytest.raises(Refused) as caught:
            hospital.gate.answer_statistics(hospital.member, admission, wrong, 0.1)
        assert caught.value.code == "undeclared-output"
    assert [e.body["code"] for e in hospital.entries("withheld")] == ["undeclared-output"] * 4
    assert hospital.entries("answer") == []


def test_an_answer_larger_than_the_policy_allows_is_refused(hospital: Hospital) -> None:
    hospital.policy = Policy(disclosure=LIMITS, jobs=JobLimits(max_answer_bytes=1024))
    ask = (Statistic(kind="histogram", variable="age"),) * 60
    release = hospital.release()
    job = hospital.job(release, work=StatisticsWork(ask=ask))
    admission = hospital.gate.admit(hospital.member, job)
    parts = answer_locally(ask, PROJECT, columns([50.0] * 100, [0] * 100))
    with pytest.raises(Refused) as caught:
        hospital.gate.answer_statistics(hospital.member, admission, parts, 0.1)
    assert caught.value.code == "too-large"


# ---- training ----------------------------------------------------------------------------------

RECEIVED = {"arrays": {"w": ("float32", (2, 3)), "b": ("float32", (3,))}}


def arrays(**changes: Any) -> Arrays:
    return Arrays({"w": np.ones((2, 3), "float32"), "b": np.ones(3, "float32")} | changes)


def metrics(**changes: Any) -> Metrics:
    return Metrics({"loss": 0.5, "num-examples": 100} | changes)


def reply(
    hospital: Hospital,
    content: Records,
    message_type: str = "train",
    message: wire.RecordDict | None = None,
    blob: bytes | None = None,
) -> Sealed:
    encoded = tensors.encode(content)
    message = encoded.message if message is None else message
    blob = encoded.blob if blob is None else blob
    # What the desk does: decode what the worker sent, then ask the gate.
    output = TrainingOutput(message_type, codec.decode(message, blob), RECEIVED, GRANT)
    admission = admitted(hospital, training=True)
    return hospital.gate.answer_task(hospital.member, admission, "1", output, message, blob, 0.1)


def code_of(hospital: Hospital, content: Records, **more: Any) -> str:
    with pytest.raises(Refused) as caught:
        reply(hospital, content, **more)
    assert hospital.entries("answer") == []
    assert hospital.entries("withheld")[-1].body["code"] == caught.value.code
    return caught.value.code


@pytest.mark.parametrize("message_type", ["train", "train.custom"])
def test_arrays_and_metrics_of_the_declared_form_leave(
    hospital: Hospital, message_type: str
) -> None:
    sealed = reply(hospital, {"arrays": arrays(), "metrics": metrics()}, message_type)
    message = wire.RecordDict.FromString(sealed.message.reply.payload)
    found = codec.decode(message, sealed.tensors)
    assert isinstance(found["metrics"], Metrics)
    assert found["metrics"].items == {"loss": 0.5, "num-examples": 100}


def test_an_examination_sends_metrics_and_no_arrays(hospital: Hospital) -> None:
    assert reply(hospital, {"metrics": metrics()}, "evaluate").tensors == b""
    content: Records = {"arrays": arrays(), "metrics": metrics()}
    for kind in ("evaluate", "query", "query.train"):
        assert code_of_one(hospital, content, kind) == "undeclared-arrays"


def code_of_one(hospital: Hospital, content: Records, kind: str) -> str:
    with pytest.raises(Refused) as caught:
        reply(hospital, content, kind)
    return caught.value.code


BAD: dict[str, tuple[Records, str]] = {
    "nan": ({"arrays": arrays(w=np.full((2, 3), np.nan, "float32"))}, "not-finite"),
    "infinite": ({"arrays": arrays(b=np.array([1, 2, np.inf], "float32"))}, "not-finite"),
    "nan metric": ({"metrics": metrics(loss=math.nan)}, "not-finite"),
    "infinite metric": ({"metrics": metrics(loss=math.inf)}, "not-finite"),
    "other shape": ({"arrays": arrays(w=np.ones((3, 2), "float32"))}, "undeclared-arrays"),
    "other dtype": ({"arrays": arrays(w=np.ones((2, 3), "float64"))}, "undeclared-arrays"),
    "one more": ({"arrays": arrays(x=np.ones(1, "float32"))}, "undeclared-arrays"),
    "one less": ({"arrays": Arrays({"w": np.ones((2, 3), "float32")})}, "undeclared-arrays"),
    "renamed": ({"arrays": Arrays({"x": np.ones((2, 3), "float32")})}, "undeclared-arrays"),
    "two groups": ({"arrays": arrays(), "more": arrays()}, "undeclared-output"),
    "two metrics": ({"metrics": metrics(), "m": metrics()}, "undeclared-output"),
    "config": ({"metrics": metrics(), "c": Config({"name": "x"})}, "undeclared-output"),
    "empty config": ({"c": Config()}, "undeclared-output"),
    "undeclared metric": ({"metrics": metrics(auc=0.5)}, "undeclared-metric"),
    "text": ({"metrics": metrics(loss="patient 17")}, "undeclared-metric"),
    "bytes": ({"metrics": metrics(loss=b"x")}, "undeclared-metric"),
    "bool": ({"metrics": metrics(loss=True)}, "undeclared-metric"),
    "list": ({"metrics": metrics(loss=[0.5])}, "undeclared-metric"),
    "few examples": ({"metrics": metrics(**{"num-examples": 19})}, "small-cell"),
    "negative examples": ({"metrics": metrics(**{"num-examples": -5})}, "small-cell"),
    "named for a patient": ({"Mary Smith 1961": metrics()}, "undeclared-output"),
    "arrays named for one": ({"Mary Smith 1961": arrays()}, "undeclared-output"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_reply_of_another_form_is_refused(hospital: Hospital, name: str) -> None:
    content, code = BAD[name]
    assert code_of(hospital, content) == code


@pytest.mark.parametrize("whose", ["policy", "project"])
def test_a_reply_larger_than_policy_or_project_allows_is_refused(
    hospital: Hospital, whose: str
) -> None:
    big = 2048
    received = {"arrays": {"w": ("float32", (big,))}}
    grant = GRANT
    if whose == "policy":
        training = TrainingSettings(minimum_subjects=20, max_reply_bytes=big)
        hospital.policy = Policy(disclosure=LIMITS, training=training)
    else:
        grant = GRANT.model_copy(update={"max_reply_bytes": big})
    encoded = tensors.encode({"arrays": Arrays({"w": np.ones(big, "float32")})})
    output = TrainingOutput("train", codec.decode(encoded.message, encoded.blob), received, grant)
    with pytest.raises(Refused) as caught:
        hospital.gate.answer_task(
            hospital.member, admitted(hospital, training=True), "1", output,
            encoded.message, encoded.blob, 0.1,
        )  # fmt: skip
    assert caught.value.code == "too-large"


# ---- bytes that a reply could carry beside its records -----------------------------------------

SECRET = "Mary Smith, born 1961-04-03"
PLAIN: Records = {"arrays": arrays(), "metrics": metrics()}


def with_unknown_field() -> tuple[wire.RecordDict, bytes]:
    encoded = tensors.encode(PLAIN)
    extra = wire.Scalar(text=SECRET).SerializeToString()  # field 3 is not one of a RecordDict's
    return wire.RecordDict.FromString(encoded.message.SerializeToString() + extra), encoded.blob


def with_entries_beside_arrays() -> tuple[wire.RecordDict, bytes]:
    encoded = tensors.encode(PLAIN)
    encoded.message.records[0].entries.add(key=SECRET).scalar.text = SECRET
    return encoded.message, encoded.blob


def with_array_specs_beside_metrics() -> tuple[wire.RecordDict, bytes]:
    encoded = tensors.encode(PLAIN)
    encoded.message.records[1].arrays.add(key=SECRET)
    return encoded.message, encoded.blob


def reblob(header: dict[str, Any], body: bytes) -> tuple[wire.RecordDict, bytes]:
    message = tensors.encode(PLAIN).message
    text = json.dumps(header).encode()
    blob = len(text).to_bytes(8, "little") + text + body
    message.tensors.size, message.tensors.digest = len(blob), hashlib.sha256(blob).hexdigest()
    return message, blob


def header_and_body() -> tuple[dict[str, Any], bytes]:
    blob = tensors.encode(PLAIN).blob
    size = int.from_bytes(blob[:8], "little")
    return json.loads(blob[8 : 8 + size]), blob[8 + size :]


def with_metadata() -> tuple[wire.RecordDict, bytes]:
    header, body = header_and_body()
    return reblob({"__metadata__": {"note": SECRET}} | header, body)


def with_another_order() -> tuple[wire.RecordDict, bytes]:
    header, body = header_and_body()
    return reblob(dict(reversed(header.items())), body)


def with_list_beside_a_scalar() -> tuple[wire.RecordDict, bytes]:
    encoded = tensors.encode(PLAIN)
    entry = encoded.message.records[1].entries[0]
    raw = entry.SerializeToString() + wire.ScalarList(texts=[SECRET]).SerializeToString()
    entry.ParseFromString(raw)
    return encoded.message, encoded.blob


@pytest.mark.parametrize(
    "make",
    [
        with_unknown_field,
        with_entries_beside_arrays,
        with_array_specs_beside_metrics,
        with_metadata,
        with_another_order,
        with_list_beside_a_scalar,
    ],
    ids=lambda make: make.__name__,
)
def test_bytes_that_decoding_passes_over_do_not_leave(hospital: Hospital, make: Any) -> None:
    message, blob = make()
    assert code_of(hospital, PLAIN, message=message, blob=blob) == "undeclared-output"


# ---- replies in Flower's older form ------------------------------------------------------------


def fitres(**changes: Any) -> Records:
    plain: Records = {
        "fitres.parameters": arrays(),
        "fitres.num_examples": Metrics({"num_examples": 100}),
        "fitres.metrics": Config({"loss": 0.5}),
        "fitres.status": Config({"code": 0, "message": "Success"}),
    }
    return plain | {f"fitres.{name}": record for name, record in changes.items()}


def evaluateres(**changes: Any) -> Records:
    plain: Records = {
        "evaluateres.loss": Metrics({"loss": 0.5}),
        "evaluateres.num_examples": Metrics({"num_examples": 100}),
        "evaluateres.metrics": Config({}),
        "evaluateres.status": Config({"code": 0, "message": ""}),
    }
    return plain | {f"evaluateres.{name}": record for name, record in changes.items()}


def test_replies_in_the_older_form_leave_under_the_same_rules(hospital: Hospital) -> None:
    assert reply(hospital, fitres()).tensors
    assert reply(hospital, evaluateres(), "evaluate").message.reply.payload


SMUGGLED = Arrays({SECRET: np.frombuffer(SECRET.encode(), np.uint8)})
OLDER: dict[str, tuple[Records, str]] = {
    "arrays as a loss": (evaluateres(loss=SMUGGLED), "evaluate"),
    "arrays as metrics": (evaluateres(metrics=SMUGGLED), "evaluate"),
    "arrays as a number of examples": (evaluateres(num_examples=SMUGGLED), "evaluate"),
    "arrays as metrics in training": (fitres(metrics=SMUGGLED), "train"),
    "arrays as a status": (fitres(status=SMUGGLED), "train"),
    "other arrays": (fitres(parameters=SMUGGLED), "train"),
    "no arrays": (fitres(parameters=Config({"x": SECRET})), "train"),
    "arrays in an examination": (fitres(), "evaluate"),
    "named examples": (fitres(num_examples=Metrics({SECRET: 100})), "train"),
    "named examples beside": (
        fitres(num_examples=Metrics({"num_examples": 100, SECRET: 1})), "train",
    ),
    "few examples": (fitres(num_examples=Metrics({"num_examples": 19})), "train"),
    "no examples": (fitres(num_examples=Metrics({})), "train"),
    "text as a metric": (fitres(metrics=Config({"loss": SECRET})), "train"),
    "undeclared metric": (fitres(metrics=Config({SECRET: 0.5})), "train"),
    "text as a status": (fitres(status=Config({"code": 0, "message": SECRET})), "train"),
    "more in the status": (
        fitres(status=Config({"code": 0, "message": "", SECRET: 1})), "train",
    ),
    "one record more": (fitres(more=Metrics({"loss": 0.5})), "train"),
    "a metric twice": (evaluateres(metrics=Config({"loss": 0.5})), "evaluate"),
}  # fmt: skip


@pytest.mark.parametrize("name", OLDER)
def test_the_older_form_is_no_way_around_the_rules(hospital: Hospital, name: str) -> None:
    content, kind = OLDER[name]
    assert code_of(hospital, content, message_type=kind) in (
        "undeclared-output",
        "undeclared-arrays",
        "undeclared-metric",
        "small-cell",
    )


def test_a_job_of_one_consortium_is_not_answered_to_another(hospital: Hospital) -> None:
    admission = admitted(hospital)
    other = hospital.member.__class__(
        "stroke", SITE, "", hospital.member.key, hospital.member.trusted
    )
    parts = parts_of([50.0 + i % 20 for i in range(100)], [i % 2 for i in range(100)])
    with pytest.raises(Refused):
        hospital.gate.answer_statistics(other, admission, parts, 0.1)
    assert hospital.entries("answer") == []


# ---- the seal and the ledger -------------------------------------------------------------------


def test_nobody_but_the_gate_can_seal() -> None:
    with pytest.raises(TypeError):
        Sealed(object(), wire.FromNode())
    with pytest.raises(TypeError):
        Sealed(None, wire.FromNode(), b"x")
    gate = ROOT / "node/gate"
    for path in (ROOT / "node").rglob("*.py"):
        text = path.read_text()
        if path != gate / "sealing.py":
            assert "_SEAL" not in text, path
            assert not re.search(r"\bSealed\(", text), path
        if path not in (gate / "sealing.py", gate / "announcing.py"):
            assert not re.search(r"\bFromNode\(", text), path


def test_what_left_is_on_the_ledger_to_the_byte_and_receipted(hospital: Hospital) -> None:
    admission = admitted(hospital)
    parts = parts_of([50.0 + i % 20 for i in range(100)], [i % 2 for i in range(100)])
    sent = hospital.gate.answer_statistics(hospital.member, admission, parts, 0.1).message.reply
    entry = hospital.entries("answer")[-1]
    ledger = hospital.gate.ledger
    assert ledger.payload(entry.body["payload"]) == sent.payload
    assert entry.body["bytes"] == len(sent.payload)
    assert entry.body["policy"] == hospital.policy.digest
    receipt = Receipt.verify(sent.receipt, hospital.world.roster())
    assert (receipt.ledger_sequence, receipt.ledger_head) == (entry.sequence, entry.hash)
    assert (receipt.job, receipt.payload) == (admission.digest, entry.body["payload"])
    assert verify(hospital.home.ledger) == ledger.head


def test_an_answer_that_passed_is_sent_again_as_the_same_bytes(hospital: Hospital) -> None:
    admission = admitted(hospital)
    parts = parts_of([50.0 + i % 20 for i in range(100)], [i % 2 for i in range(100)])
    first = hospital.gate.answer_statistics(hospital.member, admission, parts, 0.1)
    hospital.reopen()
    again = hospital.gate.again(admission.digest, "statistics")
    assert again is not None
    assert again.message.SerializeToString() == first.message.SerializeToString()
    assert len(hospital.entries("answer")) == 1
    assert hospital.gate.again(admission.digest, "other") is None


def test_large_payloads_are_kept_by_digest_alone(hospital: Hospital) -> None:
    hospital.policy = Policy(disclosure=LIMITS, ledger=LedgerSettings(keep_payload_bytes=0))
    parts = parts_of([50.0 + i % 20 for i in range(100)], [i % 2 for i in range(100)])
    hospital.gate.answer_statistics(hospital.member, admitted(hospital), parts, 0.1)
    entry = hospital.entries("answer")[-1]
    assert not (hospital.home.ledger / "payloads" / entry.body["payload"]).exists()


def test_nothing_is_sealed_when_the_ledgers_disk_is_full(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The fault is the disk's: everything above the system call is the real thing.
    admission = admitted(hospital)
    parts = parts_of([50.0 + i % 20 for i in range(100)], [i % 2 for i in range(100)])
    before = hospital.gate.ledger.head

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    for attempt in (
        lambda: hospital.gate.answer_statistics(hospital.member, admission, parts, 0.1),
        lambda: hospital.gate.decision(hospital.member, admission.digest, None),
        lambda: hospital.gate.failure(hospital.member, admission.digest, "t", "c", ""),
        lambda: hospital.gate.hello(hospital.member, "1", 1),
        lambda: hospital.gate.releases(hospital.member),
        lambda: hospital.gate.admit(hospital.member, hospital.job(hospital.release(300))),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(StorageError, match="full"):
                attempt()
    assert hospital.gate.again(admission.digest, "statistics") is None
    assert verify(hospital.home.ledger) == before
    assert hospital.gate.answer_statistics(hospital.member, admission, parts, 0.1).message.reply


# ---- canaries ----------------------------------------------------------------------------------


def inflated(data: bytes) -> list[bytes]:
    """Everything in ``data`` that is a zlib or raw deflate stream, from any place on."""
    found = []
    for start in range(len(data)):
        for window in (15, -15):
            try:
                out = zlib.decompressobj(window).decompress(data[start:], 10_000)
            except zlib.error:
                continue
            if len(out) > 8:
                found.append(out)
    return found


def readings(data: bytes) -> list[bytes]:
    """The bytes as they are, and under every disguise that is looked for."""
    found = [data, *inflated(data)]
    for run in re.findall(rb"[A-Za-z0-9+/_-]{8,}={0,2}", data):
        for skip in range(4):
            clean = run[skip:].replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
            clean = clean[: len(clean) - (len(clean) % 4 == 1)]
            found.append(base64.b64decode(clean + b"=" * (-len(clean) % 4)))
    for run in re.findall(rb"[0-9A-Fa-f]{8,}", data):
        found += [bytes.fromhex(run[s : s + (len(run) - s) // 2 * 2].decode()) for s in (0, 1)]
    return found


def disguises(text: str, number: float) -> list[bytes]:
    return [
        text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be"), text.lower().encode(),
        text.upper().encode(), text[::-1].encode(),
        repr(number).encode(), struct.pack("<d", number), struct.pack(">d", number),
        struct.pack("<f", number), struct.pack(">f", number),
    ]  # fmt: skip


def test_the_search_finds_what_it_is_meant_to_find() -> None:
    text, number = "CANARY-7f3a", 61.73940518
    for hidden in (
        text.encode(),
        text.encode("utf-16-le"),
        b"xx" + base64.b64encode(b"abc" + text.encode()) + b"!",
        text.encode().hex().encode(),
        b"\x00\x01" + zlib.compress(text.encode() * 2),
        struct.pack("<f", number),
        struct.pack(">d", number),
    ):
        found = readings(b"\x08\x01" + hidden + b"\x10")
        assert any(form in data for form in disguises(text, number) for data in found), hidden


TABLES = st.integers(0, 2**32).map(random.Random)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chance=TABLES)
def test_no_canary_is_in_anything_that_leaves(hospital: Hospital, chance: random.Random) -> None:
    word = "CNRY" + "".join(chance.choices(string.ascii_letters + string.digits, k=12))
    number = round(chance.uniform(40, 60), 9)
    subjects = chance.choice([0, 5, 19, 25, 60, 150])
    ages = [round(chance.gauss(50, 20), 6) for _ in range(subjects)]
    if ages:
        ages[chance.randrange(subjects)] = number
    hospital.release(subjects, name="trial", rows=subjects)
    asked = hospital.gate.admit(
        hospital.member, hospital.job(hospital.release(200), work=StatisticsWork(ask=ASK))
    )
    out = [
        hospital.gate.answer_statistics(
            hospital.member, asked, parts_of(ages, [chance.randint(-1, 1) for _ in ages]), 0.1
        ),
        hospital.gate.hello(hospital.member, "1", 1),
        hospital.gate.releases(hospital.member),
        hospital.gate.heartbeat(),
        hospital.gate.failure(hospital.member, asked.digest, "1", "exception", "app/task.py:3"),
    ]
    smuggled: list[Records] = [
        {"metrics": metrics(loss=word)},
        {"metrics": Metrics({word: 1.0})},
        {word: metrics()},
        {"metrics": metrics(), "config": Config({"x": word})},
        {"arrays": Arrays({word: np.ones(1, "float32")})},
        {"metrics": metrics()},
    ]
    for content in smuggled:
        try:
            out.append(reply(hospital, content))
        except Refused as refusal:
            out.append(hospital.gate.failure(hospital.member, asked.digest, "1", refusal.code, ""))
    for sealed in out:
        for data in (sealed.message.SerializeToString(), sealed.tensors):
            for found in readings(data):
                for form in disguises(word, number):
                    assert form not in found


def test_the_gate_lets_nothing_out_when_the_real_disk_refuses_to_grow(tmp_path: Path) -> None:
    # A process whose files may not grow past what the ledger has (RLIMIT_FSIZE): append raises,
    # and what was there still verifies.
    program = """
import resource, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from node.gate.ledger import Ledger, verify
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
ledger = Ledger(folder)
for number in range(5):
    ledger.append("notice", {"number": number}, datetime.now(UTC))
size = (folder / "ledger.jsonl").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, size + 40))
try:
    ledger.append("answer", {"number": 5}, datetime.now(UTC))
except Exception as error:
    print(type(error).__name__)
assert (folder / "ledger.jsonl").stat().st_size == size
print(verify(folder).sequence)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    kind, sequence = done.stdout.split()
    assert kind in ("OSError", "StorageError")
    assert sequence == "4"
