"""Whose instance a file is, from its first bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.pull.part10 import HEAD_BYTES, instance_of, instances_of
from tests.node.pull.making import Study

STUDY = Study(1, ("CT",), 2)


def test_it_is_the_media_storage_instance() -> None:
    assert [instance_of(file) for file in STUDY.files()] == STUDY.instance_uids()
    assert [instance_of(file[:HEAD_BYTES]) for file in STUDY.files()] == STUDY.instance_uids()


@given(st.integers(0, 400))
def test_a_file_that_is_cut_off_has_it_or_none(size: int) -> None:
    found = instance_of(next(STUDY.files())[:size])
    assert found in ("", STUDY.instance_uids()[0])


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_have_one_or_none(data: bytes, begins: bool) -> None:
    head = bytes(128) + b"DICM" + data if begins else data
    assert len(instance_of(head)) <= len(data)


def test_without_the_prefix_there_is_none() -> None:
    file = next(STUDY.files())
    assert instance_of(file[132:]) == ""
    assert instance_of(bytes(128) + b"DICN" + file[132:]) == ""


def test_a_file_whose_data_set_has_another_instance_than_its_meta_goes_by_both() -> None:
    file = next(STUDY.files())
    uid = STUDY.instance_uids()[0]
    assert instances_of(file) == [uid]
    other = uid[:-1] + ("1" if uid[-1] != "1" else "2")
    at = file.index(uid.encode())
    changed = file[:at] + other.encode() + file[at + len(uid) :]
    assert instances_of(changed) == [other, uid]
    assert instances_of(file[132:]) == []
