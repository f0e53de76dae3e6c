"""STOW-RS: what is stored, what is refused, and what a stranger's body can do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import AlreadyExists, ConfigurationError, NotFound, UsageError
from foundation.listening import listen
from node.config import ReceiveSettings, StowSettings
from node.home import NodeHome
from node.intake.landing import Landing
from node.multipart import (
    MAX_HEADER_BYTES,
    MAX_PREAMBLE_BYTES,
    Event,
    Malformed,
    Multipart,
    PartBegins,
    PartData,
    PartEnds,
    related,
)
from node.receive.listening import web_tls
from node.receive.room import Limits, Room
from node.receive.stow import CANNOT_UNDERSTAND, OTHER_STUDY, OUT_OF_RESOURCES, meta_uids
from node.receive.tokens import Tokens
from node.receive.web import STUDIES, Web, application
from tests.node.receive.conftest import as_file, instance

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CT = "1.2.840.10008.5.1.4.1.1.2"
KIND = 'multipart/related; type="application/dicom"; boundary="a boundary"'
PLENTY = Limits(0, 1000, 2**30)
Parts = list[tuple[dict[str, str], bytes]]


def body(*files: bytes, kind: str = "application/dicom", boundary: str = "a boundary") -> bytes:
    parts = [
        f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode() + file + b"\r\n" for file in files
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


@dataclass
class Service:
    """A running service and how to ask it."""

    client: httpx.Client
    token: str
    landing: Landing

    def post(self, content: object, path: str = STUDIES, **headers: str) -> httpx.Response:
        """Post a body to the studies, with the token and the usual content type."""
        sent = {"authorization": f"Bearer {self.token}", "content-type": KIND}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, content=content, headers=sent)  # type: ignore[arg-type]


@pytest.fixture
def serve(home: NodeHome, landing: Landing) -> Iterator[Callable[..., Service]]:
    running: list[tuple[uvicorn.Server, threading.Thread, httpx.Client]] = []

    def start(
        limits: Limits = PLENTY, pace: dict[str, float] | None = None, **web: object
    ) -> Service:
        tokens = Tokens(home.receive_tokens)
        secret = tokens.add("pacs", NOW)
        chosen = ReceiveSettings(
            web=StowSettings.model_validate({"port": 0, **web}), **(pace or {})
        )
        room = Room(landing, limits, time.monotonic)
        app = application(Web(chosen, landing, room, tokens))
        listener = listen("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = httpx.Client(base_url=url, timeout=120, trust_env=False)
        running.append((server, thread, client))
        return Service(client, secret, landing)

    yield start
    for server, thread, client in running:
        client.close()
        server.should_exit = True
        thread.join(10)


def uids(sequence: dict[str, object]) -> list[str]:
    return [item["00081155"]["Value"][0] for item in sequence["Value"]]  # type: ignore[index]


def test_instances_are_stored_whole_and_named_in_the_response(
    serve: Callable[..., Service],
) -> None:
    service = serve()
    files = [as_file(instance(number, rows=300)) for number in range(3)]
    answer = service.post(body(*files))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    said = answer.json()
    assert uids(said["00081199"]) == ["1.2.3.4.0", "1.2.3.4.1", "1.2.3.4.2"]
    first = said["00081199"]["Value"][0]["00081150"]
    assert first == {"vr": "UI", "Value": [CT]}
    assert "00081198" not in said
    assert [service.landing.read(entry) for entry in service.landing.entries()] == files
    assert {entry.origin for entry in service.landing.entries()} == {"stow"}
    assert service.landing.held(["1.2.3.4.0", "1.2.3.4.9"]) == {"1.2.3.4.0"}


def test_a_body_that_comes_in_chunks_is_stored_the_same(serve: Callable[..., Service]) -> None:
    service = serve()
    whole = body(*(as_file(instance(n)) for n in range(2)))
    answer = service.post(whole[at : at + 997] for at in range(0, len(whole), 997))
    assert answer.status_code == 200
    assert service.landing.count() == 2


def test_some_failures_are_202_and_only_failures_409(serve: Callable[..., Service]) -> None:
    service = serve()
    good = as_file(instance(1))
    some = service.post(body(good, b"no DICOM file", b"", bytes(200)))
    assert some.status_code == 202
    assert uids(some.json()["00081199"]) == ["1.2.3.4.1"]
    reasons = [item["00081197"]["Value"] for item in some.json()["00081198"]["Value"]]
    assert reasons == [[CANNOT_UNDERSTAND]] * 3
    assert service.post(body(b"x" * 1000)).status_code == 409
    assert service.post(body(good, kind="text/plain")).status_code == 409
    assert service.landing.count() == 1


def test_without_room_the_answer_is_503_and_within_a_request_it_is_refused(
    serve: Callable[..., Service],
) -> None:
    service = serve(Limits(0, 0, 2**30))
    answer = service.post(body(as_file(instance(1))))
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
    assert service.landing.count() == 0


def test_an_instance_past_the_limit_fails_alone(serve: Callable[..., Service]) -> None:
    service = serve(Limits(0, 100, 50_000))
    answer = service.post(body(as_file(instance(1, rows=300)), as_file(instance(2))))
    assert answer.status_code == 202
    (failed,) = answer.json()["00081198"]["Value"]
    assert failed["00081155"]["Value"] == ["1.2.3.4.1"]
    assert failed["00081197"]["Value"] == [OUT_OF_RESOURCES]
    assert service.landing.held(["1.2.3.4.1", "1.2.3.4.2"]) == {"1.2.3.4.2"}


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer wrong", "Basic {token}", "bearer  {token}x", "{token}"]
)
def test_without_the_token_nothing_is_stored(
    serve: Callable[..., Service], authorization: str
) -> None:
    service = serve()
    given = authorization.format(token=service.token)
    answer = service.post(body(as_file(instance(1))), authorization=given)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert service.landing.count() == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "application/dicom"}, 415),
        ({"content_type": "multipart/related"}, 415),
        ({"content_type": "multipart/form-data; boundary=x"}, 415),
        ({"content_type": 'multipart/related; type="application/dicom+xml"; boundary=x'}, 415),
        ({"accept": "application/dicom+xml"}, 406),
        ({"accept": "application/dicom+json"}, 200),
    ],
)
def test_other_kinds_of_request_are_refused_by_their_status(
    serve: Callable[..., Service], headers: dict[str, str], status: int
) -> None:
    assert serve().post(body(as_file(instance(1))), **headers).status_code == status


def test_a_request_past_its_limit_is_413_declared_or_not(serve: Callable[..., Service]) -> None:
    service = serve(max_request_bytes=10_000)
    whole = body(as_file(instance(1, rows=300)))
    assert service.post(whole).status_code == 413
    with suppress(httpx.WriteError):  # it may hang up while the rest is sent
        assert service.post(iter([whole[:9000], whole[9000:]])).status_code == 413
    assert service.landing.count() == 0


def test_a_body_that_is_cut_or_no_multipart_is_400_and_leaves_nothing_half(
    serve: Callable[..., Service],
) -> None:
    service = serve()
    whole = body(as_file(instance(1)))
    for bad in (whole[:-10], whole[:500], b"", b"x" * 100, body()):
        assert service.post(bad).status_code == 400
    assert list(service.landing.folder.iterdir()) == []


def test_of_one_study_only_its_own_instances_are_stored(serve: Callable[..., Service]) -> None:
    service = serve()
    good, other, without = instance(1), instance(2), instance(3)
    other.StudyInstanceUID = "1.2.3.9"
    del without.StudyInstanceUID
    large = instance(4)
    large.ReferencedImageSequence = [instance(5) for _ in range(60)]  # before the study's UID
    files = [as_file(dataset) for dataset in (good, other, without, large)]
    place = f"{STUDIES}/{good.StudyInstanceUID}"
    whole = body(*files, b"no DICOM file")
    for size in (len(whole), 997):
        answer = service.post(
            (whole[at : at + size] for at in range(0, len(whole), size)), path=place
        )
        assert answer.status_code == 202
        said = answer.json()
        assert uids(said["00081199"]) == [good.SOPInstanceUID, large.SOPInstanceUID]
        reasons = [item["00081197"]["Value"] for item in said["00081198"]["Value"]]
        assert reasons == [[OTHER_STUDY], [OTHER_STUDY], [CANNOT_UNDERSTAND]]
        assert uids({"Value": said["00081198"]["Value"][:2]}) == ["1.2.3.4.2", "1.2.3.4.3"]
    stored = {service.landing.read(entry) for entry in service.landing.entries()}
    assert stored == {files[0], files[3]}
    assert service.post(body(files[0]), path=f"{STUDIES}/1.2.x").status_code == 400


def test_a_body_that_trickles_is_408(serve: Callable[..., Service]) -> None:
    service = serve(pace={"idle_seconds": 0.5, "least_bytes_per_second": 1e7})
    whole = body(as_file(instance(1, rows=300)))

    def trickle() -> Iterator[bytes]:
        for at in range(0, len(whole), 100):
            yield whole[at : at + 100]
            time.sleep(0.02)

    with suppress(httpx.TransportError):  # it may hang up while the rest is sent
        assert service.post(trickle()).status_code == 408
    assert service.landing.count() == 0


def test_other_paths_and_methods_are_not_there(serve: Callable[..., Service]) -> None:
    client = serve().client
    assert client.get(STUDIES).status_code == 405
    for path in ("/", "/docs", "/openapi.json", "/dicom-web/instances"):
        assert client.get(path).status_code == 404


# ---- multipart ---------------------------------------------------------------------------------


def parsed(content: bytes, boundary: str, cuts: list[int]) -> Parts:
    parser = Multipart(boundary)
    parts: Parts = []
    ended = 0
    edges = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    for start, end in pairwise(edges):
        event: Event
        for event in parser.feed(content[start:end]):
            if isinstance(event, PartBegins):
                parts.append((dict(event.headers), b""))
            elif isinstance(event, PartData):
                parts[-1] = (parts[-1][0], parts[-1][1] + event.data)
            else:
                assert isinstance(event, PartEnds)
                ended += 1
    assert ended == len(parts) and parser.is_whole
    return parts


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(
            st.sampled_from([b"\r\n", b"--", b"--bb", b"\r\n--b", b"-", b"x", b"\r", b"\n", b"\0"]),
            max_size=12,
        ).map(b"".join),
        max_size=4,
    ),
    st.lists(st.integers(0, 10_000), max_size=20),
)
def test_parts_come_out_as_they_went_in_however_the_body_is_cut(
    contents: list[bytes], cuts: list[int]
) -> None:
    boundary = "b" * 12 + "!"
    whole = body(*contents, boundary=boundary)
    assert [data for _, data in parsed(whole, boundary, cuts)] == contents


def test_a_preamble_an_epilogue_blanks_and_parts_without_headers_are_understood() -> None:
    content = (
        b"This is a message.\r\n--b  \r\n\r\none\r\n--b\t\r\nA: 1\r\nB : 2\r\n\r\n\r\n--bb\r\n"
        b"\r\n--b--  \r\nand more\r\n--b\r\n"
    )
    assert parsed(content, "b", list(range(len(content)))) == [
        ({}, b"one"),
        ({"a": "1", "b": "2"}, b"\r\n--bb\r\n"),
    ]


def test_the_standard_library_s_messages_are_understood() -> None:
    message = EmailMessage()
    message.make_related()
    contents = [b"a\r\nb", bytes(range(256))]
    for content in contents:
        message.add_related(content, "application", "dicom", cte="8bit")
    kind, boundary = related(message["content-type"] + f'; boundary="{"q" * 20}"')
    assert (kind, boundary) == ("application/dicom", "q" * 20)


def test_what_could_fill_the_memory_is_malformed() -> None:
    for content in (
        b"x" * (MAX_PREAMBLE_BYTES + 100),
        b"--b\r\n" + b"A: " + b"x" * (MAX_HEADER_BYTES + 100),
        b"--b" + b" " * (MAX_HEADER_BYTES + 100),
        b"--b\r\nno colon\r\n\r\n",
    ):
        with pytest.raises(Malformed):
            for _ in Multipart("b").feed(content):
                pass
    for boundary in ("", "x" * 201, "ü"):
        with pytest.raises(Malformed):
            Multipart(boundary)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_are_parts_or_malformed(first: bytes, second: bytes) -> None:
    parser = Multipart("b")
    with suppress(Malformed):
        for chunk in (first, b"--b\r\n" + second):
            for event in parser.feed(chunk):
                assert isinstance(event, PartBegins | PartData | PartEnds)


HEAD = as_file(instance(1))[:400]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_head_gives_uids_or_wants_more_or_is_refused(data: st.DataObject) -> None:
    head = bytearray(HEAD)
    assert meta_uids(head) == (CT, "1.2.3.4.1")
    for _ in range(data.draw(st.integers(1, 5))):
        head[data.draw(st.integers(128, len(head) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ValueError):
        found = meta_uids(head[: data.draw(st.integers(0, 400))])
        assert found is None or len(found) == 2


# ---- tokens and TLS ----------------------------------------------------------------------------


def test_a_token_lets_in_until_it_is_removed_and_is_kept_as_a_digest_only(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    assert tokens.who("Bearer x") is None
    first, second = tokens.add("pacs", NOW), tokens.add("ct-1", NOW)
    assert tokens.who(f"Bearer {first}") == "pacs"
    assert tokens.who(f"bearer {second}") == "ct-1"
    assert first.encode() not in (tmp_path / "tokens.json").read_bytes()
    assert (tmp_path / "tokens.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(AlreadyExists):
        tokens.add("pacs", NOW)
    with pytest.raises(UsageError):
        tokens.add("a b", NOW)
    tokens.remove("pacs")
    assert tokens.who(f"Bearer {first}") is None
    with pytest.raises(NotFound):
        tokens.remove("pacs")
    (tmp_path / "tokens.json").chmod(0o644)
    with pytest.raises(ConfigurationError):
        tokens.who(f"Bearer {second}")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "pacs.example.org"])
def test_beyond_this_machine_only_with_tls(host: str) -> None:
    with pytest.raises(ConfigurationError):
        web_tls(StowSettings(host=host))
    assert web_tls(StowSettings(host="::1")) is None
