"""The journal gives the answers of before, notices another course, and outlives a torn line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import wire_pb2 as wire
from contract.errors import DocumentError
from coordinator.work.training.exchange import Exchange
from coordinator.work.training.journal import Diverged, Journal


def test_a_second_life_hears_what_the_first_was_told(tmp_path):
    first = Journal(tmp_path / "j", "job")
    for entry in ({"nodes": ["a"]}, {"task": "000001"}, {"answers": {"000001": ""}}):
        assert first.recall("nodes") is None
        first.append(entry)
    first.close()
    second = Journal(tmp_path / "j", "job")
    assert second.recall("nodes") == {"nodes": ["a"]}
    assert second.replaying
    with pytest.raises(Diverged, match="not deterministic"):
        second.recall("answers")
    second.rewind()
    assert second.recall("nodes") == {"nodes": ["a"]}


def test_a_journal_of_another_job_is_not_used(tmp_path):
    Journal(tmp_path / "j", "one").close()
    with pytest.raises(DocumentError, match="another job"):
        Journal(tmp_path / "j", "other")


@given(cut=st.integers(0, 200))
def test_a_line_that_a_crash_cut_is_dropped(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("j") / "j"
    journal = Journal(path, "job")
    for n in range(5):
        journal.append({"round": n})
    journal.close()
    data = path.read_bytes()
    path.write_bytes(data[: max(0, len(data) - cut)])
    again = Journal(path, "job")
    kept = len(again.entries)
    assert again.entries == [{"round": n} for n in range(kept)]
    assert kept >= 5 - cut // 8 - 1
    again.append({"round": "new"})
    again.close()
    assert Journal(path, "job").entries[-1] == {"round": "new"}


def test_a_damaged_journal_is_refused(tmp_path):
    Journal(tmp_path / "j", "job").close()
    with (tmp_path / "j").open("ab") as file:
        file.write(b"garbage\n")
    with pytest.raises(DocumentError, match="damaged"):
        Journal(tmp_path / "j", "job")


def task(number, payload=b"x"):
    return wire.Task(task=f"{number:06d}", message_type="train", payload=payload, ttl_seconds=9)


def test_only_unanswered_tasks_go_out_again(tmp_path):
    first = Exchange(tmp_path, "job", ["a", "b"])
    first.sites_changed({"a", "b"})
    assert first.nodes() == ["a", "b"]
    sent = [("a", task(1)), ("b", task(2))]
    assert first.push(sent) == sent
    assert first.deliver("a", wire.Reply(task="000001", payload=b"r"))
    assert not first.deliver("a", wire.Reply(task="000001", payload=b"again"))
    assert not first.deliver("a", wire.Reply(task="000002"))
    second = Exchange(tmp_path, "job", ["a", "b"])
    assert second.nodes() == ["a", "b"]
    assert not second.deliver("a", wire.Reply(task="000001", payload=b"again"))
    assert second.push(sent) == [("b", task(2))]
    assert second.pending("a") == []
    assert second.fail("b", "000002", "Bad code\n")
    answers = second.wait(["000001", "000002"], 1)
    assert answers == [("000001", ""), ("000002", "failed")]
    assert wire.Reply.FromString(second.reply("000001")).payload == b"r"
    for other in ("000003", "../journal", ""):
        with pytest.raises(DocumentError):
            second.reply(other)


def test_a_reply_that_came_before_the_serverapp_was_back_is_kept(tmp_path):
    first = Exchange(tmp_path, "job", ["a"])
    first.push([("a", task(1))])
    second = Exchange(tmp_path, "job", ["a"])
    assert second.deliver("a", wire.Reply(task="000001", payload=b"early"))
    assert second.push([("a", task(1))]) == []
    assert second.wait(["000001"], 1) == [("000001", "")]
    assert wire.Reply.FromString(second.reply("000001")).payload == b"early"


def test_another_message_than_before_is_noticed(tmp_path):
    Exchange(tmp_path, "job", ["a"]).push([("a", task(1))])
    with pytest.raises(Diverged, match="message 000001 to a"):
        Exchange(tmp_path, "job", ["a"]).push([("a", task(1, b"y"))])


def test_a_late_reply_is_not_taken_after_its_round(tmp_path):
    one = Exchange(tmp_path, "job", ["a"])
    one.push([("a", task(1))])
    assert one.wait(["000001"], 0.01) == [("000001", "timeout")]
    assert not one.deliver("a", wire.Reply(task="000001"))
    again = Exchange(tmp_path, "job", ["a"])
    assert not again.deliver("a", wire.Reply(task="000001"))
    again.push([("a", task(1))])
    assert again.wait(["000001"], 1) == [("000001", "timeout")]
