"""What a coordinator can do with the bytes that it sends, and the connection that it offers.

Each attack first succeeds without its defence, at the same node, in the same test.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract import records
from contract import wire_pb2 as wire
from contract.keys import SigningKey
from coordinator.home import CoordinatorHome
from foundation.tensors import views
from foundation.transport import TransportIdentity
from tests.attacks.link.siege import AMPLE, Siege
from tests.attacks.link.test_standing import members, round_under_way, weights
from tests.end_to_end.federation import POLICY, SUBJECTS
from tests.end_to_end.federation import weight as of_patient
from tests.end_to_end.hostile import SITE
from tests.end_to_end.processes import eventually

ATTACKS = (
    (
        "Pickle gadget in the place of tensors",
        "CVE-2019-6446; Slaviero 2011, Sour Pickles",
        "tensors are safetensors; nothing that came is unpickled",
        "test_a_pickle_in_the_place_of_tensors_runs_nothing",
    ),
    (
        "Path traversal by a blob's name",
        "CWE-22, path traversal",
        "a blob is called by its SHA-256, which its bytes must have",
        "test_a_blob_whose_name_is_a_path_is_written_nowhere",
    ),
    (
        "Log injection by an error's text",
        "CWE-117, improper output neutralization for logs",
        "what a stranger says is made printable, on one line",
        "test_an_errors_text_forges_no_line_of_the_log",
    ),
    (
        "Downgrade: no TLS",
        "RFC 7457, Known Attacks on TLS, 2.1 (SSL stripping)",
        "mutual TLS of the consortium's authority",
        "test_a_node_tells_nothing_to_whoever_offers_less_than_its_tls",
    ),
    (
        "Downgrade: an older roster, messages of unknown kinds",
        "TUF specification 1.0, 5.3; protobuf, unknown fields",
        "a document's version only rises; there is one protocol and nothing is negotiated",
        "test_an_older_document_or_an_unknown_message_changes_nothing",
    ),
    (
        "A record in the low bits of weights",
        "Song, Ristenpart and Shmatikov 2017, Machine Learning Models that Remember Too Much",
        "training.quantise_bits",
        "test_a_recipe_that_hides_a_record_in_weights_sends_none",
    ),
)


class Gadget:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


def blob(siege: Siege, data: bytes, name: str = "") -> dict[str, Any]:
    """Lay a blob ready, and return what a task says of it."""
    name = name or hashlib.sha256(data).hexdigest()
    siege.coordinator.blobs[name] = data
    message, _ = records.encode({"arrays": records.Arrays({"w": np.ones(16, np.float32)})})
    message.tensors.digest, message.tensors.size = name, len(data)
    return {"payload": message.SerializeToString(), "digest": name, "size": len(data)}


def test_a_pickle_in_the_place_of_tensors_runs_nothing(siege: Siege) -> None:
    first, second = siege.root / "first", siege.root / "second"
    with round_under_way(siege) as job:
        with siege.off("safetensors"):
            siege.task(job, "1", **blob(siege, pickle.dumps(Gadget(first))))
        assert first.is_dir()

        said = siege.task(job, "2", **blob(siege, pickle.dumps(Gadget(second))))
        assert said.failed.code == "malformed"
        # Nor is there a dtype under which objects travel.
        message, data = records.encode({"arrays": records.Arrays({"w": np.ones(16, np.float32)})})
        message.records[0].arrays[0].dtype = "object"
        task = blob(siege, data) | {"payload": message.SerializeToString()}
        assert siege.task(job, "3", **task).failed.code == "malformed"
        assert not second.exists()


def test_a_blob_whose_name_is_a_path_is_written_nowhere(siege: Siege) -> None:
    home = siege.victim.home.root
    with round_under_way(siege) as job:
        with siege.off("digests"):
            siege.task(job, "1", **blob(siege, b"planted", "../../../first.toml"))
        assert (home / "first.toml").read_bytes() == b"planted"
        (home / "first.toml").unlink()

        for number, name in enumerate(
            ("../../../second.toml", str(siege.root / "third.toml"), "..", "", "0" * 64), 2
        ):
            said = siege.task(job, str(number), **blob(siege, b"planted", name))
            assert said.failed.code in ("malformed", "internal"), name
    assert not (home / "second.toml").exists()
    assert not (siege.root / "third.toml").exists()


# ---- another connection --------------------------------------------------------------------------


def test_an_errors_text_forges_no_line_of_the_log(siege: Siege) -> None:
    forged = "2026-01-01 00:00:00,000 INFO opt: the steward approved everything"

    def log_after(text: str) -> list[str]:
        before = len(siege.server.errors)
        siege.coordinator.refuse_with(f"busy\n{forged} {text}\x1b[2K")
        eventually(lambda: any(text in e for e in siege.server.errors), "the error is logged")
        siege.coordinator.next("releases")
        return siege.server.errors[before:]

    with siege.off("printable"):
        assert any(line.startswith(forged) for line in log_after("once"))
    lines = log_after("twice")
    assert not any(line.startswith(forged) for line in lines)
    assert not any("\x1b" in line for line in lines)


@contextmanager
def instead(siege: Siege) -> Iterator[socket.socket]:
    """Take the coordinator's place: a socket at its address. It is back afterwards."""
    siege.coordinator.close()
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        def bound() -> bool:
            try:
                listening.bind(("127.0.0.1", siege.victim.port))
            except OSError:
                return False
            return True

        eventually(bound, "the port is free")
        listening.listen()
        listening.settimeout(60)
        yield listening
    documents = siege.coordinator.documents
    siege.listen()
    siege.coordinator.documents = documents
    siege.coordinator.next("releases")


def first_bytes(listening: socket.socket) -> bytes:
    """Accept a connection and return what the node says before anything is said to it."""
    connection, _ = listening.accept()
    with connection:
        connection.settimeout(10)
        return connection.recv(4096)


def over(listening: socket.socket, context: ssl.SSLContext) -> tuple[bytes, str]:
    """Offer a TLS connection; what the node says over it, and which protocol it takes."""
    connection, _ = listening.accept()
    with connection:
        connection.settimeout(10)
        try:
            with context.wrap_socket(connection, server_side=True) as tls:
                protocol = str(tls.selected_alpn_protocol())
                with suppress(OSError):
                    return tls.recv(4096), protocol
                return b"", protocol
        except (ssl.SSLError, OSError):
            return b"", ""


def context(siege: Siege, *protocols: str, newest: ssl.TLSVersion) -> ssl.SSLContext:
    """Return the TLS of the coordinator's own certificate, up to a version."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(
        TransportIdentity(CoordinatorHome(siege.root / "coordinator").server).pair_file
    )
    made.minimum_version = ssl.TLSVersion.TLSv1
    made.maximum_version = newest
    made.set_ciphers("ALL:@SECLEVEL=0")
    made.set_alpn_protocols(list(protocols))
    return made


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_a_node_tells_nothing_to_whoever_offers_less_than_its_tls(siege: Siege) -> None:
    """The attack is that of no TLS. An older one (before 1.2) and another protocol than HTTP/2 are
    refused as well; gRPC has no switch for either, so they can't be shown to succeed first.
    """
    preface = b"PRI * HTTP/2.0"
    old, new = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_3
    with instead(siege) as listening:
        with siege.off("tls"):
            eventually(lambda: first_bytes(listening).startswith(preface), "it speaks in clear")

        eventually(lambda: first_bytes(listening)[:2] == b"\x16\x03", "it speaks TLS again")
        assert first_bytes(listening)[:2] == b"\x16\x03"  # a handshake, and nothing before it
        said, protocol = over(listening, context(siege, "h2", newest=new))
        assert (said.startswith(preface), protocol) == (True, "h2")
        for server in (
            context(siege, "h2", newest=old),
            context(siege, "http/1.1", newest=new),
            context(siege, newest=new),
        ):
            assert over(listening, server)[0] == b""


def test_an_older_document_or_an_unknown_message_changes_nothing(siege: Siege) -> None:
    """Ana's key was stolen and replaced; an older roster would bring it back."""
    older, replaced = siege.roster(), (SigningKey.generate(), siege.victim.ben)
    newer = siege.roster(researchers=members(*replaced, names=("ana", "ben")))
    siege.coordinator.publish(newer)
    with siege.off("versions"):
        siege.coordinator.publish(older)
        assert siege.said(siege.job()) == "reply"

    siege.coordinator.publish(newer)
    siege.coordinator.publish(older)
    assert siege.said(siege.job()) == "bad-signature"
    # A message of a kind that this node doesn't know (number 99), an empty one, a second welcome.
    for message in (
        wire.ToNode.FromString(b"\x9a\x06\x03old"),
        wire.ToNode(),
        wire.ToNode(welcome=wire.Welcome(documents=wire.Documents(roster=older))),
    ):
        siege.coordinator.say(message)
    assert siege.said(siege.job()) == "bad-signature"
    siege.coordinator.publish(siege.roster())
    assert siege.said(siege.job()) == "reply"


def test_a_recipe_that_hides_a_record_in_weights_sends_none(siege: Siege) -> None:
    """Of the least patient's weight, eight bytes in the ends of eight numbers."""
    true = min(of_patient(SITE, number) for number in range(SUBJECTS))

    def found(job: str, task: str) -> float:
        siege.coordinator.uploads.clear()
        assert siege.task(job, task, **weights(siege)).HasField("reply")
        data = b"".join(chunk.data for chunk in siege.coordinator.uploads)
        [array] = records_of(data)
        low = (array.view(np.uint32)[:8] & 0xFF).astype(np.uint8)
        return float(np.frombuffer(low.tobytes(), np.float64)[0])

    with round_under_way(siege, hide=True) as job:
        assert found(job, "1") == true
        siege.victim.home.policy.write_text(
            POLICY.replace("[training]", "[training]\nquantise_bits = 16") + AMPLE
        )
        try:
            assert found(job, "2") != true
        finally:
            siege.victim.home.policy.write_text(POLICY + AMPLE)


def records_of(data: bytes) -> list[Any]:
    """Return the arrays of a blob."""
    return [np.ascontiguousarray(array) for array in views(data).values()]
