"""Whose instance a file is, from its first bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.pull.part10 import HEAD_BYTES, instance_of
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
