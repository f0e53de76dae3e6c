"""DICOMweb servers that are hostile, old or merely odd."""

from __future__ import annotations

import json
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError

from contract.errors import CertificateError, ConfigurationError, Unavailable
from node.pull import dicomweb
from node.pull.archive import ArchiveRefused, Interrupted, Wanted
from node.pull.dicomweb import DicomwebClient
from node.pull.question import Question
from node.pull.reception import Reception, Storage
from node.pull.settings import DicomwebArchive
from node.pull.throttle import Throttle
from tests.node.certificates import Authority
from tests.node.pull.making import Study

STUDY = Study(1, ("CT",), 3)
SERIES = f"{STUDY.uid}.1"
Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Answers every request as it is told, and remembers them."""

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start servers that end with the test."""
    servers: list[Server] = []

    def start(answer: Answer, context: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(answer, context))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def reply(
    status: int = 200, body: bytes = b"", content_type: str = "application/dicom+json", **more: str
) -> Answer:
    """Return an answer that is always this."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Type", content_type)
        request.send_header("Content-Length", str(len(body)))
        for name, value in more.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def client(server: Server, **more: Any) -> DicomwebClient:
    """Return a client of the server, by HTTP."""
    url = more.pop("url", f"http://127.0.0.1:{server.port}/dicom-web/")
    return DicomwebClient(DicomwebArchive(kind="dicomweb", url=url, **more), 10)


def item(uid: str, **values: list[Any]) -> dict[str, Any]:
    """Return a study in the DICOM JSON model."""
    return {
        "0020000D": {"vr": "UI", "Value": [uid]},
        **{tag: {"vr": "SH", "Value": value} for tag, value in values.items()},
    }


class Kept:
    """Arrivals in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def arrival(self, uid: str) -> Any:
        kept = self

        class Arrival:
            data = bytearray()

            def __enter__(self) -> Arrival:
                self.data = bytearray()
                return self

            def __exit__(self, *error: object) -> None:
                pass

            def write(self, data: bytes) -> None:
                self.data += data

            def commit(self) -> None:
                kept.files[uid] = bytes(self.data)

        return Arrival()


def reception(kept: Kept, wanted: list[str], **more: Any) -> Reception:
    """Return the receiving end of these instances."""
    return Reception(
        wanted,
        storage=Storage(kept.arrival, lambda uids: set()),
        throttle=Throttle(0, 0, lambda: 0.0, lambda seconds: None),
        observe=lambda count, size: None,
        **{"largest_bytes": 2**30, "stopping": lambda: False, **more},
    )


def multipart(files: list[bytes], boundary: bytes = b"b0undary", *, end: bool = True) -> bytes:
    """Return a multipart body of DICOM files."""
    head = b"\r\n--" + boundary + b"\r\nContent-Type: application/dicom\r\n\r\n"
    return b"".join(head + file for file in files) + (b"\r\n--" + boundary + b"--" if end else b"")


RELATED = 'multipart/related; type="application/dicom"; boundary=b0undary'


# ---- QIDO-RS -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [1, 3, 1000])
@pytest.mark.parametrize("knows_offset", [True, False])
def test_all_pages_are_read_however_short_and_none_twice(
    serve: Callable[..., Server], cap: int, knows_offset: bool
) -> None:
    uids = [f"1.2.{n}" for n in range(7)]

    def answer(request: BaseHTTPRequestHandler) -> None:
        query = parse_qs(urlsplit(request.path).query)
        start = int(query.get("offset", ["0"])[0]) if knows_offset else 0
        page = uids[start:][: min(cap, int(query.get("limit", ["1000"])[0]))]
        body = json.dumps([item(uid) for uid in page]).encode() if page else b""
        reply(200 if page else 204, body)(request)

    found = [study.uid for study in client(serve(answer)).studies(Question())]
    assert found == (uids if knows_offset else uids[:cap])


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, ArchiveRefused),
        (403, ArchiveRefused),
        (302, ArchiveRefused),
        (400, ArchiveRefused),
        (404, ArchiveRefused),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_a_status_is_one_line(
    serve: Callable[..., Server], status: int, error: type[Exception]
) -> None:
    elsewhere = serve(reply(200, b"[]"))
    server = serve(reply(status, Location=f"http://127.0.0.1:{elsewhere.port}/"))
    with pytest.raises(error) as raised:
        client(server).test()
    assert "\n" not in str(raised.value)
    assert type(raised.value) is error
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[1]", b"\xff", b"[" * 100_000, b"<html>", b'[{"0020000D": {"Value": [{"x": 1}]}}'],
)
def test_an_answer_that_is_no_dicom_json_is_refused(
    serve: Callable[..., Server], body: bytes
) -> None:
    with pytest.raises(Unavailable):
        list(client(serve(reply(200, body))).studies(Question()))


def test_odd_values_in_an_answer_are_passed_over(serve: Callable[..., Server]) -> None:
    body = json.dumps(
        [
            {"0020000D": {"vr": "UI", "Value": [{"odd": 1}]}},
            {"0020000D": "1.2.3"},
            {"0020000D": {"vr": "UI", "Value": ["../../etc"]}},
            {"0020000D": {"vr": "UI", "Value": ["1.2.4"]}, "00201208": {"Value": ["9e99"]}},
        ]
    ).encode()
    (found,) = client(serve(reply(200, body))).studies(Question())
    assert (found.uid, found.instances) == ("1.2.4", 0)


def test_an_endless_answer_is_cut_off(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicomweb, "MAX_ANSWER_BYTES", 1_000_000)
    sent = 0

    def answer(request: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                request.wfile.write(b" " * 65536)
                sent += 65536
        except OSError:
            pass

    with pytest.raises(Unavailable, match="too long"):
        client(serve(answer)).test()
    assert sent < 20_000_000


def test_a_compressed_answer_is_refused(serve: Callable[..., Server]) -> None:
    server = serve(reply(200, b"bomb", Content_Encoding="gzip"))
    with pytest.raises(Unavailable, match="compresses"):
        client(server).test()
    assert server.requests[0][1]["accept-encoding"] == "identity"


def test_nothing_that_names_a_patient_is_logged(
    serve: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(reply(204))
    assert not list(client(server).studies(Question(accession_number="ACC-QUILL-7")))
    assert "ACC-QUILL-7" in server.requests[0][0]
    assert "QUILL" not in caplog.text


# ---- WADO-RS -------------------------------------------------------------------------------------


def test_only_what_is_expected_is_kept_and_each_once(serve: Callable[..., Server]) -> None:
    files = list(STUDY.files())
    stranger = next(Study(9).files())
    body = multipart([files[0], stranger, b"no DICOM", b"", files[1], files[0], files[2]])
    kept = Kept()
    wanted = STUDY.instance_uids()[:2]
    client(serve(reply(200, body, RELATED))).retrieve(
        Wanted(STUDY.uid, SERIES, dict.fromkeys(wanted, "")), reception(kept, wanted)
    )
    assert kept.files == dict(zip(wanted, files[:2], strict=True))


def test_a_body_that_breaks_off_keeps_the_whole_parts_only(serve: Callable[..., Server]) -> None:
    files = list(STUDY.files())
    kept = Kept()
    wanted = STUDY.instance_uids()
    for body in (multipart(files, end=False), multipart(files)[:-700]):
        server = serve(reply(200, body, RELATED))
        with pytest.raises(Unavailable):
            client(server).retrieve(
                Wanted(STUDY.uid, SERIES, dict.fromkeys(wanted, "")), reception(kept, wanted)
            )
        assert kept.files == dict(zip(wanted[:2], files[:2], strict=True))


def test_an_instance_that_is_too_large_is_passed_over(serve: Callable[..., Server]) -> None:
    files = list(STUDY.files())
    files[1] += bytes(500_000)
    kept = Kept()
    wanted = STUDY.instance_uids()
    taking = reception(kept, wanted, largest_bytes=100_000)
    client(serve(reply(200, multipart(files), RELATED))).retrieve(
        Wanted(STUDY.uid, SERIES, dict.fromkeys(wanted, "")), taking
    )
    assert set(kept.files) == {wanted[0], wanted[2]}
    assert taking.refused == {wanted[1]}


def test_told_to_stop_it_stops_between_two_instances(serve: Callable[..., Server]) -> None:
    kept = Kept()
    wanted = STUDY.instance_uids()
    taking = reception(kept, wanted, stopping=lambda: len(kept.files) == 1)
    with pytest.raises(Interrupted):
        client(serve(reply(200, multipart(list(STUDY.files())), RELATED))).retrieve(
            Wanted(STUDY.uid, SERIES, dict.fromkeys(wanted, "")), taking
        )
    assert len(kept.files) == 1


def test_a_server_from_before_any_transfer_syntax_is_asked_again_without(
    serve: Callable[..., Server],
) -> None:
    files = list(STUDY.files())

    def answer(request: BaseHTTPRequestHandler) -> None:
        if "transfer-syntax" in request.headers["Accept"]:
            reply(406)(request)
        else:
            reply(200, multipart(files), RELATED)(request)

    kept = Kept()
    wanted = STUDY.instance_uids()
    client(serve(answer)).retrieve(
        Wanted(STUDY.uid, SERIES, dict.fromkeys(wanted, "")), reception(kept, wanted)
    )
    assert set(kept.files) == set(wanted)


def test_instances_that_are_gone_are_missed_and_the_others_asked_for(
    serve: Callable[..., Server],
) -> None:
    files = dict(zip(STUDY.instance_uids(), STUDY.files(), strict=True))
    gone, *wanted = files

    def answer(request: BaseHTTPRequestHandler) -> None:
        uid = request.path.rpartition("/")[2]
        if uid == gone:
            reply(404)(request)
        else:
            reply(200, files[uid], "application/dicom")(request)

    kept = Kept()
    client(serve(answer)).retrieve(
        Wanted(STUDY.uid, SERIES, dict.fromkeys(files, ""), whole=False), reception(kept, [*files])
    )
    assert set(kept.files) == set(wanted)


# ---- who is asked, and as whom -------------------------------------------------------------------


def test_credentials_come_from_files_of_their_owner_alone(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(reply(200, b"[]"))
    token, basic = tmp_path / "token", tmp_path / "basic"
    token.write_text("s3cret\n")
    basic.write_text("user:p:w\n")
    for path in (token, basic):
        path.chmod(0o600)
    client(server, token_file=token).test()
    client(server, basic_file=basic).test()
    assert [headers["authorization"] for _, headers in server.requests] == [
        "Bearer s3cret",
        "Basic dXNlcjpwOnc=",
    ]
    token.chmod(0o644)
    with pytest.raises(ConfigurationError, match="0600"):
        client(server, token_file=token)


def test_only_a_server_that_the_authority_certified_is_asked(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*ours.certify("server"))
    server = serve(reply(200, b"[]"), context)
    url = f"https://127.0.0.1:{server.port}/dicom-web"
    assert client(server, url=url, ca_file=ours.file).test()
    for authority in (other.file, None):
        with pytest.raises(CertificateError):
            client(server, url=url, ca_file=authority).test()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "table",
    [
        {"url": "http://pacs.hospital/dicom-web"},
        {"url": "ftp://pacs.hospital"},
        {"url": "https://user:secret@pacs.hospital/"},
        {"url": "https://pacs.hospital/?key=secret"},
        {"url": "https://pacs.hospital/", "token_file": "a", "basic_file": "b"},
        {"url": "https://pacs.hospital/", "verify": False},
    ],
)
def test_a_table_that_would_leak_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DicomwebArchive.model_validate({"kind": "dicomweb", **table})
