"""Associations with real senders, and with bytes that no sender should send."""

from __future__ import annotations

import io
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, _config, build_role, evt

from node.intake.landing import Landing
from node.receive import association, command, commitment
from node.receive import pdu as wire
from node.receive.association import TABLE, Action, State
from node.receive.commitment import Address
from node.receive.negotiation import (
    STORAGE_COMMITMENT,
    Callers,
    Context,
    Rejection,
    Request,
    decode,
    is_storage,
    negotiate,
)
from node.receive.pdu import Broken, PduType
from node.receive.room import Limits, Room
from tests.node.certificates import Authority
from tests.node.receive.conftest import DATA, Listener, as_file, instance
from tests.ports import free_port

Run = Callable[..., "subprocess.CompletedProcess[str]"]
CT = "1.2.840.10008.5.1.4.1.1.2"


def files_with_every_syntax() -> list[Path]:
    """Return a file of the pydicom package for each transfer syntax that it has."""
    found: dict[str, Path] = {}
    for path in sorted(DATA.glob("*.dcm")):
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            syntax = dataset.file_meta.TransferSyntaxUID
            # DCMTK refuses to send what has no SOP UIDs, and converts the deflated syntax.
            if dataset.SOPClassUID and dataset.SOPInstanceUID and is_storage(dataset.SOPClassUID):
                found.setdefault(syntax, path)
        except Exception:
            continue
    return list(found.values())


def test_echoscu_is_answered(listener: Listener, dcmtk: Run) -> None:
    assert dcmtk("echoscu", "-aec", "W", "127.0.0.1", listener.port).returncode == 0
    assert listener.ended().ended == "released"


def test_storescu_s_data_set_lands_byte_for_byte(
    listener: Listener, landing: Landing, dcmtk: Run, tmp_path: Path
) -> None:
    sent = instance(1)
    (tmp_path / "a.dcm").write_bytes(as_file(sent))
    done = dcmtk("storescu", "-aec", "W", "127.0.0.1", listener.port, tmp_path / "a.dcm")
    assert done.returncode == 0, done.stderr
    (entry,) = landing.entries()
    data = landing.read(entry)
    got = pydicom.dcmread(io.BytesIO(data))
    del sent[0xFFFCFFFC]  # DCMTK sends no trailing padding
    assert got == sent
    assert data[:128] == bytes(128)
    meta = got.file_meta
    assert meta.MediaStorageSOPInstanceUID == "1.2.3.4.1"
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.SourceApplicationEntityTitle == "STORESCU"
    assert data[144 + meta.FileMetaInformationGroupLength :][:4] == b"\x08\0\x05\0"
    assert landing.held(["1.2.3.4.1", "1.2.3.4.2"]) == {"1.2.3.4.1"}
    assert listener.ended().stored == 1


def test_every_transfer_syntax_is_taken_as_it_is(
    listener: Listener, landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The sender sends the file's bytes, and doesn't make them anew.
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)
    paths = files_with_every_syntax()
    assert len(paths) >= 10
    for path in paths:
        dataset = pydicom.dcmread(path)
        entity = AE()
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        sender = entity.associate("127.0.0.1", listener.port, ae_title="W")
        assert sender.is_established, path.name
        assert sender.send_c_store(path).Status == 0, path.name
        sender.release()
    syntaxes = set()
    for entry, path in zip(landing.entries(), paths, strict=True):
        whole = path.read_bytes()
        meta = pydicom.filereader.read_file_meta_info(path)
        syntaxes.add(meta.TransferSyntaxUID)
        start = 144 + meta.FileMetaInformationGroupLength
        assert landing.read(entry).endswith(whole[start:]), path.name
    assert len(syntaxes) == len(paths)


@pytest.mark.parametrize(
    ("called", "calling", "reason"),
    [
        ("X", "STORESCU", "Called AE Title Not Recognized"),
        ("W", "STRANGER", "Calling AE Title Not Recognized"),
    ],
)
def test_titles_that_are_not_ours_or_not_listed_are_rejected(
    listener: Listener, dcmtk: Run, called: str, calling: str, reason: str
) -> None:
    done = dcmtk("echoscu", "-aec", called, "-aet", calling, "127.0.0.1", listener.port)
    assert done.returncode != 0
    assert reason in done.stderr
    assert listener.ended().ended.startswith("rejected")


def test_a_title_with_an_address_is_believed_from_there_only() -> None:
    callers = Callers.of("W", ["A@10.0.0.7", "A@10.0.0.8", "B", "C@::1"])
    request = Request(1, "W", "A", "1.2.840.10008.3.1.1.1", ())
    assert callers.judge(request, "10.0.0.8", room=True) is None
    assert callers.judge(request, "::ffff:10.0.0.7", room=True) is None
    assert callers.judge(request, "10.0.0.9", room=True) is Rejection.CALLING_TITLE
    full = callers.judge(request, "10.0.0.7", room=False)
    assert full is Rejection.FOR_NOW
    assert callers.judge(request, "10.0.0.9", room=False) is Rejection.CALLING_TITLE


def test_without_room_for_an_association_it_is_rejected_for_now(
    listener: Listener, dcmtk: Run
) -> None:
    listener.welcome = False
    done = dcmtk("echoscu", "-aec", "W", "127.0.0.1", listener.port)
    assert done.returncode != 0 and "Local Limit Exceeded" in done.stderr


def test_without_room_for_an_instance_it_is_refused_and_nothing_lands(
    listener: Listener, landing: Landing, dcmtk: Run, tmp_path: Path
) -> None:
    (tmp_path / "a.dcm").write_bytes(as_file(instance(1)))
    listener.change(room=Room(landing, Limits(2**62, 9, 2**30), time.monotonic))
    done = dcmtk("storescu", "-v", "-aec", "W", "127.0.0.1", listener.port, tmp_path / "a.dcm")
    assert "Refused: OutOfResources" in done.stderr + done.stdout
    listener.change(room=Room(landing, Limits(0, 0, 2**30), time.monotonic))
    done = dcmtk("storescu", "-v", "-aec", "W", "127.0.0.1", listener.port, tmp_path / "a.dcm")
    assert "Refused: OutOfResources" in done.stderr + done.stdout
    assert landing.count() == 0
    assert listener.ended(2).refused == 1


def test_an_instance_that_is_too_large_is_refused_and_the_next_one_stored(
    listener: Listener, landing: Landing
) -> None:
    listener.change(room=Room(landing, Limits(0, 9, 100_000), time.monotonic))
    with_many = AE()
    with_many.add_requested_context(CT, "1.2.840.10008.1.2.1")
    sender = with_many.associate("127.0.0.1", listener.port, ae_title="W")
    assert sender.send_c_store(instance(1, rows=512)).Status == command.OUT_OF_RESOURCES
    assert sender.send_c_store(instance(2)).Status == command.SUCCESS
    sender.release()
    assert landing.held(["1.2.3.4.1", "1.2.3.4.2"]) == {"1.2.3.4.2"}
    assert [path.name[0] for path in landing.folder.iterdir()] != ["."]


def test_an_association_that_breaks_inside_an_instance_leaves_nothing(
    listener: Listener, landing: Landing
) -> None:
    with open_association(listener.port) as connection:
        connection.sendall(store_command("1.2.3"))
        connection.sendall(data_fragment(b"x" * 1000, last=False))
        time.sleep(0.2)
    assert listener.ended().ended == "closed by the peer"
    assert list(landing.folder.iterdir()) == []


# ---- storage commitment ------------------------------------------------------------------------


def commit_request(*uids: str) -> Dataset:
    request = Dataset()
    request.TransactionUID = generate_uid()
    items = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, uid
        items.append(item)
    request.ReferencedSOPSequence = items
    return request


def put(landing: Landing, *uids: str) -> None:
    for uid in uids:
        with landing.writer("cstore", uid) as writer:
            writer.write(b"x")
            writer.commit()


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
def test_commitment_is_reported_on_the_same_association(
    listener: Listener, landing: Landing, syntax: str
) -> None:
    put(landing, "1.1", "1.2")
    landing.done(next(landing.entries()))
    reports: list[tuple[int, Dataset]] = []

    def report(event: evt.Event) -> tuple[int, None]:
        reports.append((event.request.EventTypeID, event.event_information))
        return 0, None

    entity = AE()
    entity.add_requested_context(STORAGE_COMMITMENT, syntax)
    sender = entity.associate(
        "127.0.0.1", listener.port, ae_title="W", evt_handlers=[(evt.EVT_N_EVENT_REPORT, report)]
    )
    for uids in (["1.1", "1.2"], ["1.1", "1.9"]):
        asked = commit_request(*uids)
        status, _ = sender.send_n_action(
            asked, 1, STORAGE_COMMITMENT, commitment.WELL_KNOWN_INSTANCE
        )
        assert status.Status == 0
        until = time.monotonic() + 120
        while len(reports) < (1 if uids[1] == "1.2" else 2) and time.monotonic() < until:
            time.sleep(0.01)
        assert reports[-1][1].TransactionUID == asked.TransactionUID
    status, _ = sender.send_n_action(
        commit_request("1.1"), 2, STORAGE_COMMITMENT, commitment.WELL_KNOWN_INSTANCE
    )
    assert status.Status == command.NO_SUCH_ACTION
    sender.release()
    (first, safe), (second, mixed) = reports
    assert (first, second) == (commitment.ALL_SAFE, commitment.FAILURES_EXIST)
    held = [item.ReferencedSOPInstanceUID for item in safe.ReferencedSOPSequence]
    assert held == ["1.1", "1.2"] and "FailedSOPSequence" not in safe
    (failed,) = mixed.FailedSOPSequence
    assert failed.ReferencedSOPInstanceUID == "1.9"
    assert failed.FailureReason == commitment.NO_SUCH_INSTANCE


def test_commitment_is_reported_on_an_association_of_our_own() -> None:
    reports: list[Dataset] = []

    def report(event: evt.Event) -> tuple[int, None]:
        reports.append(event.event_information)
        return 0, None

    entity = AE("PACS")
    entity.add_supported_context(STORAGE_COMMITMENT, scu_role=True, scp_role=True)
    port = free_port()
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, report)]
    )
    try:
        request = commitment.CommitmentRequest("1.2.3", ((CT, "1.1"), (CT, "1.2")))
        places = {"ours": "W", "theirs": "PACS", "address": Address("127.0.0.1", port)}
        assert commitment.send(request, {"1.1"}, **places)
        assert not commitment.send(
            request, set(), **{**places, "address": Address("127.0.0.1", free_port())}
        )
    finally:
        server.shutdown()
    (one,) = reports
    assert [item.ReferencedSOPInstanceUID for item in one.ReferencedSOPSequence] == ["1.1"]
    assert [item.ReferencedSOPInstanceUID for item in one.FailedSOPSequence] == ["1.2"]


# ---- TLS ---------------------------------------------------------------------------------------


def test_over_tls_only_who_shows_a_certificate_of_the_authority_gets_in(
    listener: Listener, landing: Landing, tmp_path: Path, dcmtk: Run
) -> None:
    from node.config import ReceiveSettings
    from node.receive.listening import dicom_tls

    ours, other = Authority(tmp_path, "hospital"), Authority(tmp_path, "other")
    server = ours.certify("server")
    client, stranger = ours.certify("client"), other.certify("stranger")
    context = dicom_tls(
        ReceiveSettings(
            tls_certificate=str(server[0]),
            tls_key=str(server[1]),
            tls_authority=str(ours.file),
        )
    )
    assert context is not None
    listener.wrap = lambda connection: context.wrap_socket(connection, server_side=True)
    (tmp_path / "a.dcm").write_bytes(as_file(instance(1)))
    outcomes = []
    for pair in (client, stranger):
        done = dcmtk(
            "storescu", "+tls", pair[1], pair[0], "+cf", ours.file, "-aec", "W",
            "127.0.0.1", listener.port, tmp_path / "a.dcm",
        )  # fmt: skip
        outcomes.append(done.returncode == 0)
    assert outcomes == [True, False]
    assert landing.count() == 1
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


# ---- what no sender should send ----------------------------------------------------------------


def item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def associate_request(abstract: str = CT, syntax: str = "1.2.840.10008.1.2.1") -> bytes:
    context = bytes((1, 0, 0, 0)) + item(0x30, abstract.encode()) + item(0x40, syntax.encode())
    body = b"\0\1\0\0" + b"W".ljust(16) + b"STORESCU".ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context)
    body += item(0x50, item(0x51, struct.pack(">I", 16384)))
    return wire.pdu(PduType.ASSOCIATE_RQ, body)


def open_association(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=120)
    connection.sendall(associate_request())
    assert connection.recv(65536)[0] == PduType.ASSOCIATE_AC
    return connection


def store_command(uid: str) -> bytes:
    asked = command.encode(
        {
            "AffectedSOPClassUID": CT,
            "CommandField": command.C_STORE_RQ,
            "MessageID": 1,
            "CommandDataSetType": 1,
            "AffectedSOPInstanceUID": uid,
        }
    )
    return b"".join(wire.data_pdus(1, asked, None, 0))


def echo_command() -> bytes:
    asked = command.encode(
        {
            "AffectedSOPClassUID": "1.2.840.10008.1.1",
            "CommandField": command.C_ECHO_RQ,
            "MessageID": 1,
            "CommandDataSetType": command.NO_DATA_SET,
        }
    )
    return b"".join(wire.data_pdus(1, asked, None, 0))


def data_fragment(data: bytes, *, last: bool, context: int = 1) -> bytes:
    header = wire.PDV_HEADER.pack(len(data) + 2, context, 2 if last else 0)
    return wire.pdu(PduType.P_DATA, header + data)


@pytest.mark.parametrize(
    "bytes_sent",
    [
        wire.HEADER.pack(4, 2**32 - 1),
        wire.HEADER.pack(4, 131073),
        wire.HEADER.pack(9, 4),
        wire.pdu(PduType.P_DATA, b"\0\0\0\1\1\0"),
        wire.pdu(PduType.P_DATA, b"\xff\xff\xff\xff\1\0"),
        data_fragment(b"x", last=False),
        data_fragment(b"x", last=True, context=3),
        store_command("1.2") + store_command("1.3"),
        associate_request(),
        wire.pdu(PduType.RELEASE_RP, b"\0\0\0\0"),
    ],
)
def test_an_established_association_that_breaks_the_rules_is_aborted(
    listener: Listener, landing: Landing, bytes_sent: bytes
) -> None:
    with open_association(listener.port) as connection:
        connection.sendall(bytes_sent)
        answer = b""
        while len(answer) < 10 and (part := connection.recv(64)):
            answer += part
        assert answer[0] == PduType.ABORT
    assert listener.ended().ended.startswith("aborted")
    assert landing.count() == 0


def test_who_asks_for_nothing_in_time_is_cut_off_however_slowly_it_sends(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(association, "REQUEST_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", listener.port), timeout=120) as connection:
        with suppress(OSError):
            for byte in associate_request():
                connection.sendall(bytes((byte,)))
                time.sleep(0.02)
        assert listener.ended().ended == "aborted: nothing came in time"


@pytest.mark.parametrize("stores", [True, False])
def test_who_sends_slowly_without_end_is_put_out(
    listener: Listener, landing: Landing, stores: bool
) -> None:
    listener.change(idle_seconds=0.5, least_bytes_per_second=1e7)
    trickle = data_fragment(bytes(1000), last=False) if stores else echo_command()
    with open_association(listener.port) as connection, suppress(OSError):
        if stores:
            connection.sendall(store_command("1.2.3"))
        for _ in range(1000):
            connection.sendall(trickle)
            time.sleep(0.02)
            if listener.tallies:
                break
    assert listener.ended().ended == "aborted: nothing came in time"
    assert landing.count() == 0


def test_who_finishes_an_instance_now_and_then_stays(
    listener: Listener, landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    skipped = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + skipped[0])
    monkeypatch.setattr(wire, "time", clock)
    listener.change(idle_seconds=60, least_bytes_per_second=1e7)
    with open_association(listener.port) as connection:
        for number in range(6):
            connection.sendall(store_command(f"1.2.{number}") + data_fragment(b"x" * 9, last=True))
            assert connection.recv(4096)[0] == PduType.P_DATA
            time.sleep(0.05)  # so that the skipped time is one that it waits
            skipped[0] += 40
    assert landing.count() == 6
    assert listener.ended().ended == "closed by the peer"


def test_uids_that_are_none_are_refused(listener: Listener, landing: Landing) -> None:
    with open_association(listener.port) as connection:
        connection.sendall(store_command("../../etc/passwd") + data_fragment(b"x", last=True))
        reply = connection.recv(4096)
    assert command.decode(reply[12:])["Status"] == command.INVALID_OBJECT_INSTANCE
    assert landing.count() == 0


def test_the_table_has_a_line_for_every_state_and_pdu() -> None:
    assert set(TABLE) == {(state, kind) for state in State for kind in PduType}
    # PS3.8 Table 9-10: the acceptor's rows.
    assert TABLE[State.AWAITING_REQUEST, PduType.P_DATA].value == "AA-1"
    assert TABLE[State.ESTABLISHED, PduType.ASSOCIATE_AC].value == "AA-8"
    assert TABLE[State.AWAITING_CLOSE, PduType.P_DATA].value == "AA-6"
    assert TABLE[State.AWAITING_CLOSE, PduType.ABORT] is Action.END


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_bytes_are_a_request_or_broken(data: st.DataObject) -> None:
    whole = bytearray(associate_request()[6:])
    for _ in range(data.draw(st.integers(0, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))]) + data.draw(st.binary(max_size=40))
    try:
        request = decode(memoryview(cut))
    except Broken:
        return
    agreed, results = negotiate(request.contexts)
    assert set(agreed) <= set(results)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_set_or_broken(data: bytes) -> None:
    with suppress(Broken):
        assert isinstance(command.decode(data)["CommandField"], int)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_commitment_request_or_broken(data: bytes, implicit: bool) -> None:
    syntax = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
    with suppress(Broken):
        assert commitment.read_request(data, syntax).references


@given(
    st.dictionaries(st.sampled_from(sorted(command.ELEMENTS)), st.integers(0, 0xFFFF), min_size=1),
)
def test_a_command_set_is_decoded_as_it_was_encoded(numbers: dict[str, int]) -> None:
    said = {
        name: value if command.ELEMENTS[name][1] == "US" else f"1.2.{value}"
        for name, value in numbers.items()
    } | {"CommandField": 1}
    encoded = command.encode(said)
    assert command.decode(encoded) == said
    # pydicom reads it the same way: the encoding is the standard's.
    read = pydicom.filereader.read_dataset(io.BytesIO(encoded), True, True)
    assert {element.keyword: element.value for element in read if element.tag.elem} == said


def test_syntaxes_are_chosen_in_the_sender_s_order_but_swapped_and_implicit_last() -> None:
    implicit, explicit, big = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
    lossless, jpip = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.94"
    for proposed, chosen in (
        ((implicit, explicit), explicit),
        ((big, implicit), implicit),
        ((big,), big),
        ((jpip, implicit, lossless, explicit), lossless),
        ((jpip, "1.2.3"), None),
    ):
        agreed, results = negotiate([Context(1, CT, proposed)])
        assert (agreed[1].transfer_syntax if 1 in agreed else None) == chosen
        assert results[1] == (0 if chosen else 4)
    find = "1.2.840.10008.5.1.4.1.2.2.1"
    assert negotiate([Context(3, find, (implicit,))]) == ({}, {3: 3})


def test_the_role_of_a_requestor_that_also_wants_to_receive_is_user_only(
    listener: Listener,
) -> None:
    entity = AE()
    entity.add_requested_context(CT)
    role = build_role(CT, scu_role=True, scp_role=True)
    sender = entity.associate("127.0.0.1", listener.port, ae_title="W", ext_neg=[role])
    (context,) = sender.accepted_contexts
    assert context.as_scu and not context.as_scp
    sender.release()
