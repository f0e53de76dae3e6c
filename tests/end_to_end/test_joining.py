"""Invitations: used once, in time, by whom they are for, unchanged."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from foundation.invitations import Invitation
from tests.end_to_end.federation import Federation
from tests.end_to_end.processes import Done, eventually, run
from tests.examples import examples


def join(home: Path, invitation: Path, *more: str) -> Done:
    return run("wardgate-node", "join", invitation, "--home", home, *(more or ("--yes",)))


def changed(invitation: Path, **values: str) -> Path:
    """Return a copy of an invitation with some fields changed."""
    path = invitation.with_suffix(".changed")
    path.write_text(json.dumps(json.loads(invitation.read_text()) | values))
    return path


def test_an_invitation_is_good_for_one_joining(trio: Federation, tmp_path: Path) -> None:
    invitation = trio.invite("once")
    first = join(tmp_path / "first", invitation)
    assert (first.code, first.errors) == (0, [])
    join(tmp_path / "second", invitation).fails(4, "used already")


def test_an_expired_invitation_is_refused_also_by_the_coordinator(
    trio: Federation, tmp_path: Path
) -> None:
    path = tmp_path / "late.invitation"
    made = trio.at_coordinator("invite", "late", "--hours", "0.0002", "--output", path)
    assert made.code == 0, made.errors
    end = Invitation.read(path).expires_at
    eventually(lambda: datetime.now(UTC) > end, "the invitation expires")
    join(tmp_path / "late", path).fails(4, "expired")
    prolonged = changed(path, expires_at=(end + timedelta(days=1)).isoformat())
    done = join(tmp_path / "later", prolonged)
    assert done.code in (5, 10), done.errors  # TLS turns its certificate away
    assert len(done.errors) == 1, done.errors


@pytest.mark.slow
def test_a_changed_invitation_is_refused_and_the_true_one_stays_good(
    trio: Federation, tmp_path: Path
) -> None:
    invitation = trio.invite("true-site")
    other = Invitation.read(trio.invite("other-site"))
    swapped = {"certificate_pem": other.certificate_pem, "key_pem": other.key_pem}
    false = [{"token": "00" * 32}, {"name": "false-site"}, {"token": "not hexadecimal"}]
    for values in false[: examples(1, 3)]:
        join(tmp_path / "false", changed(invitation, **values)).fails(4, "")
    join(tmp_path / "false", changed(invitation, **swapped)).fails(4, "was changed")
    join(tmp_path / "false", changed(invitation, authority_pem="none")).fails(5, "")
    join(tmp_path / "false", changed(invitation, colour="green")).fails(4, "not an invitation")
    assert join(tmp_path / "true", invitation).code == 0


@pytest.mark.slow
def test_a_certificate_of_another_authority_is_turned_away(
    trio: Federation, tmp_path: Path
) -> None:
    from coordinator.commands import setup

    setup.init("elsewhere", trio.address, tmp_path / "elsewhere")
    foreign = tmp_path / "foreign.invitation"
    setup.invite("guest", False, None, foreign, tmp_path / "elsewhere")
    join(tmp_path / "guest", foreign).fails(5, "don't accept each other")
    theirs = Invitation.read(foreign)
    ours = trio.invite("guest")
    swapped = changed(ours, certificate_pem=theirs.certificate_pem, key_pem=theirs.key_pem)
    done = join(tmp_path / "guest", swapped)
    assert done.code in (5, 10), done.errors
    assert len(done.errors) == 1, done.errors


def test_another_fingerprint_than_the_one_told_sends_nothing(
    trio: Federation, tmp_path: Path
) -> None:
    invitation = trio.invite("careful")
    home = tmp_path / "careful"
    join(home, invitation, "--ca-fingerprint", "00" * 32).fails(5, "nothing was sent")
    assert not home.exists()
    told = Invitation.read(invitation).authority_fingerprint
    assert join(home, invitation, "--ca-fingerprint", told).code == 0


@pytest.mark.slow
def test_an_invitation_is_for_a_site_or_for_a_researcher(trio: Federation, tmp_path: Path) -> None:
    join(tmp_path / "a", trio.invite("carla", researcher=True)).fails(4, "use 'wardgate join'")
    run("wardgate", "join", trio.invite("east"), "--yes", "--home", tmp_path / "b").fails(
        4, "use 'wardgate-node join'"
    )


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        pytest.param(b"", 4, "not an invitation", id="empty", marks=pytest.mark.slow),
        pytest.param(b"\xff\xfe\x00", 4, "not an invitation", id="binary"),
        pytest.param(b"[" * 70_000, 11, "larger than", id="huge"),
        pytest.param(None, 14, "does not exist", id="absent", marks=pytest.mark.slow),
    ],
)
def test_a_file_that_is_no_invitation_is_named(
    tmp_path: Path, content: bytes | None, code: int, words: str
) -> None:
    path = tmp_path / "some.invitation"
    if content is not None:
        path.write_bytes(content)
    join(tmp_path / "home", path).fails(code, words)
