"""Blobs: taken up at every offset, called by their hash, and by nothing but their hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from contract.errors import DocumentError, NotFound
from foundation.blobs import BlobFolder, BlobReceiver
from foundation.transport import CHUNK_BYTES

DATA = bytes(range(97))
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobFolder:
    return BlobFolder(tmp_path / "blobs")


def receiver(blobs: BlobFolder, offset: int = 0, size: int = len(DATA)) -> BlobReceiver:
    return BlobReceiver(blobs, DIGEST, size, "kentucky", offset)


@pytest.mark.parametrize("stop", range(0, len(DATA) + 1, 8))
def test_a_blob_goes_on_from_wherever_it_stopped(blobs: BlobFolder, stop: int) -> None:
    first = receiver(blobs)
    first.write(DATA[:stop])
    first.close()
    assert not blobs.has(DIGEST)
    assert blobs.offset(DIGEST, len(DATA), "kentucky") == stop
    second = receiver(blobs, stop)
    second.write(DATA[stop:])
    second.finish()
    second.close()
    assert b"".join(blobs.read(DIGEST)) == DATA
    assert blobs.offset(DIGEST, len(DATA), "kentucky") == len(DATA)
    assert [p.name for p in blobs.folder.iterdir()] == [DIGEST]
    assert (blobs.folder / DIGEST).stat().st_mode & 0o777 == 0o600


def test_a_continuation_may_go_back_and_write_again(blobs: BlobFolder) -> None:
    first = receiver(blobs)
    first.write(DATA[:50] + b"wrong")
    first.close()
    second = receiver(blobs, 50)
    second.write(DATA[50:])
    second.finish()
    assert b"".join(blobs.read(DIGEST)) == DATA


@pytest.mark.parametrize("offset", [51, 97, 2**40])
def test_a_continuation_beyond_what_is_held_is_refused(blobs: BlobFolder, offset: int) -> None:
    first = receiver(blobs)
    first.write(DATA[:50])
    first.close()
    with pytest.raises(DocumentError, match="offset"):
        receiver(blobs, offset)
    assert blobs.offset(DIGEST, len(DATA), "kentucky") == 50


def test_a_blob_with_another_hash_gets_no_name_and_is_begun_anew(blobs: BlobFolder) -> None:
    wrong = receiver(blobs)
    wrong.write(DATA[:-1] + b"x")
    with pytest.raises(DocumentError, match="hash"):
        wrong.finish()
    wrong.close()
    assert not blobs.has(DIGEST)
    assert blobs.offset(DIGEST, len(DATA), "kentucky") == 0


def test_a_blob_never_grows_past_what_was_declared(blobs: BlobFolder) -> None:
    greedy = receiver(blobs, size=50)
    greedy.write(DATA[:50])
    with pytest.raises(DocumentError, match="larger"):
        greedy.write(b"x")
    greedy.close()
    assert blobs.part(DIGEST, "kentucky").stat().st_size == 50


def test_a_blob_that_is_too_short_is_not_finished(blobs: BlobFolder) -> None:
    short = receiver(blobs)
    short.write(DATA[:-1])
    with pytest.raises(DocumentError, match="shorter"):
        short.finish()


def test_two_senders_of_one_blob_do_not_write_into_each_others_part(blobs: BlobFolder) -> None:
    honest = BlobReceiver(blobs, DIGEST, len(DATA), "kentucky", 0)
    other = BlobReceiver(blobs, DIGEST, len(DATA), "mallory", 0)
    honest.write(DATA[:50])
    other.write(b"\0" * 97)
    with pytest.raises(DocumentError):
        other.finish()
    honest.write(DATA[50:])
    honest.finish()
    assert b"".join(blobs.read(DIGEST)) == DATA


def test_one_sender_over_two_streams_cannot_give_a_blob_another_content(blobs: BlobFolder) -> None:
    first = receiver(blobs)
    first.write(DATA[:50])
    second = receiver(blobs)  # begins the same part again while the first is still open
    second.write(b"\0" * 60)
    second.close()
    with pytest.raises(DocumentError):
        first.write(DATA[50:])
        first.finish()
    first.close()
    assert not blobs.has(DIGEST)


@pytest.mark.parametrize(
    "name",
    ["", "..", "../" * 5 + "etc/passwd", "/etc/passwd", DIGEST.upper(), DIGEST[:-1], DIGEST + "0",
     DIGEST + "\n", DIGEST[:-1] + "/", DIGEST + ".part", "é" * 64],
)  # fmt: skip
def test_a_name_that_is_no_digest_reaches_no_file(blobs: BlobFolder, name: str) -> None:
    for use in (
        lambda: blobs.path(name),
        lambda: blobs.has(name),
        lambda: blobs.offset(name, 1, "kentucky"),
        lambda: list(blobs.read(name)),
        lambda: BlobReceiver(blobs, name, 1, "kentucky", 0),
    ):
        with pytest.raises(DocumentError, match="SHA-256"):
            use()


def test_a_link_in_the_place_of_a_part_is_not_followed(blobs: BlobFolder, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"theirs")
    blobs.folder.mkdir()
    blobs.part(DIGEST, "kentucky").symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        receiver(blobs)
    assert target.read_bytes() == b"theirs"


def test_storing_and_reading_give_the_same_bytes_from_any_offset(blobs: BlobFolder) -> None:
    data = bytes(1000) + b"x" * CHUNK_BYTES
    digest = blobs.store(data)
    assert blobs.store(data) == digest == hashlib.sha256(data).hexdigest()
    for offset in (0, 1, 999, CHUNK_BYTES, len(data), len(data) + 5):
        assert b"".join(blobs.read(digest, offset)) == data[offset:]


def test_a_blob_that_is_not_here_is_not_found(blobs: BlobFolder) -> None:
    with pytest.raises(NotFound):
        list(blobs.read(DIGEST))


def test_a_part_longer_than_the_blob_is_begun_anew(blobs: BlobFolder) -> None:
    long = receiver(blobs)
    long.write(DATA)
    long.close()
    assert blobs.offset(DIGEST, 10, "kentucky") == 0
