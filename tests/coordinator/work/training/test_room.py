"""A round begins when its replies have room on the disk, and says what it waits for."""

from pathlib import Path

from contract import wire_pb2 as wire
from coordinator.work.training import room
from coordinator.work.training.room import Room, replies_bytes


def tasks(*kinds: str, size: int = 1_000_000) -> list[wire.Task]:
    blob = wire.BlobReference(digest="ab" * 32, size=size)
    return [wire.Task(message_type=kind, tensors=blob) for kind in kinds]


def test_models_that_come_back_take_room_and_other_answers_don_t() -> None:
    assert replies_bytes(tasks("train", "train.second", "evaluate", "query.x")) == 2_000_000


def test_what_a_round_takes_is_told_once(tmp_path: Path) -> None:
    said: list[str] = []
    here = Room(tmp_path, 1_000_000, lambda _: 7_500_000, said.append)
    assert here.make(tasks("evaluate"))
    assert not said
    assert here.make(tasks("train", "train"))
    assert here.make(tasks("train", "train"))
    assert said == [
        "each round keeps 2 MB on the coordinator's disk until the job ends; 8 MB are free there, "
        "enough for 3 rounds"
    ]


def test_a_round_waits_until_there_is_room(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.001)
    said: list[str] = []
    free = iter([10_000_000, 2_500_000, 2_500_000, 3_000_000])
    here = Room(tmp_path, 1_000_000, lambda _: next(free), said.append)
    assert here.make(tasks("train", "train"))
    assert said[1:] == [
        "waits: the coordinator's disk has 2 MB left, and the round's replies need 2 MB beside "
        "the 1 MB that stay free"
    ]


def test_a_wait_for_room_ends_when_the_job_is_cancelled(tmp_path: Path) -> None:
    here = Room(tmp_path, 0, lambda _: 0, lambda _: here.cancel())
    assert not here.make(tasks("train"))
