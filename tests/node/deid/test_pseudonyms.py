"""Pseudonyms, UIDs and offsets."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from contract.errors import NotFound, StorageError
from node.deid.pseudonyms import Pseudonyms, load_key

ONE, OTHER = Pseudonyms(b"\1" * 32), Pseudonyms(b"\2" * 32)


@given(st.text(max_size=64))
def test_a_pseudonym_is_128_bits_of_hexadecimal_and_depends_on_the_key(identifier: str) -> None:
    made = ONE.subject(identifier)
    assert len(made) == 32
    assert set(made) <= set("0123456789abcdef")
    assert made == ONE.subject(identifier)
    assert made != OTHER.subject(identifier)


@given(st.text(alphabet="0123456789ABC-", min_size=1, max_size=20))
def test_padding_makes_no_other_subject(identifier: str) -> None:
    assert ONE.subject(identifier) == ONE.subject(f" {identifier}  ") == ONE.subject(identifier)


def test_two_ways_to_write_a_letter_are_one_subject() -> None:
    assert ONE.subject("M\u00fcller") == ONE.subject("Mu\u0308ller")


def test_a_subject_without_identifier_is_known_by_the_study_alone() -> None:
    assert ONE.unnamed_subject("1.2.3") != ONE.unnamed_subject("1.2.4")
    assert ONE.unnamed_subject("1.2.3") != ONE.subject("1.2.3")


@given(st.from_regex(r"[12]\.(0|[1-9][0-9]{0,5})(\.(0|[1-9][0-9]{0,5})){1,5}", fullmatch=True))
def test_a_replaced_uid_is_valid_and_distinct(uid: str) -> None:
    made = ONE.uid(uid)
    assert UID(made).is_valid
    assert made.startswith("2.25.")
    assert made != OTHER.uid(uid)


def test_uids_of_the_standard_are_kept() -> None:
    assert ONE.uid("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2"
    assert ONE.uid("1.2.840.100081.5") != "1.2.840.100081.5"


@given(st.text(max_size=32))
def test_dates_move_by_one_to_three_years(pseudonym: str) -> None:
    assert 366 <= ONE.days(pseudonym) <= 1095


@given(st.lists(st.binary(max_size=20), max_size=4))
def test_a_file_has_one_digest_however_it_is_cut(pieces: list[bytes]) -> None:
    assert ONE.source_of(pieces) == ONE.source_of([b"".join(pieces)])


def test_parts_count_with_their_lengths() -> None:
    assert ONE.source(b"ab", b"c") != ONE.source(b"a", b"bc")


def test_a_key_is_made_once_and_read_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(NotFound):
        load_key(path, create=False)
    key = load_key(path, create=True)
    assert len(key) == 32
    assert load_key(path, create=True) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with pytest.raises(StorageError, match="0600"):
        load_key(path, create=False)


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(StorageError, match="32 bytes"):
        load_key(path, create=False)
