"""A stock SuperLink as the coordinator runs it: who reaches it, and what runs on it."""

from __future__ import annotations

import base64
import http.client
import importlib
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    RegisterNodeFleetRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from contract.errors import CertificateError, Unavailable
from coordinator.config import SuperLinkSettings
from coordinator.home import CoordinatorHome
from coordinator.registry.authority import Authority
from coordinator.work.superlink import flower
from coordinator.work.superlink.front import MAX_REQUEST_BYTES, SiteKeys
from coordinator.work.superlink.service import SuperLink
from foundation.transport import (
    Peer,
    Role,
    TransportIdentity,
    new_private_key,
    private_key_pem,
)
from node.work.superlink.flower import _client_for, tls_context
from tests.end_to_end.federation import bundle
from tests.end_to_end.processes import eventually

Keys = tuple[ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey]


@dataclass
class Consortium:
    """A SuperLink behind its front, and certificates of members."""

    home: CoordinatorHome
    link: SuperLink
    authority: Authority
    port: int = 0
    revoked: set[str] = field(default_factory=set)

    def check(self, peer: Peer) -> None:
        """Raise for who was revoked."""
        if peer.name in self.revoked:
            raise CertificateError(f"{peer.name} was revoked.")

    def identity(self, name: str, role: Role = Role.SITE) -> TransportIdentity:
        """Return a member's folder with a certificate."""
        folder = self.home.root / f"{role}-{name}"
        identity = TransportIdentity(folder)
        if not folder.exists():
            folder.mkdir()
            key, now = new_private_key(), datetime.now(UTC)
            issued = self.authority.issue(key.public_key(), role, name, now, timedelta(days=1))
            identity.save(private_key_pem(key), issued.pem, self.authority.pem)
        return identity

    def fleet(self, name: str, keys: Keys, role: Role = Role.SITE) -> FleetHttpClient:
        """Return Flower's own client of the Fleet API, under a member's certificate."""
        return _client_for(self.identity(name, role)).from_server_address(
            f"127.0.0.1:{self.port}",
            False,
            None,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(*keys),
            ],
        )

    def register(self, name: str, keys: Keys, role: Role = Role.SITE) -> int:
        """Register a node as a SuperNode does and return its id."""
        client, key = self.fleet(name, keys, role), public_key_to_bytes(keys[1])
        client.RegisterNode(RegisterNodeFleetRequest(public_key=key))
        asked = ActivateNodeRequest(public_key=key, heartbeat_interval=30)
        return int(client.ActivateNode(asked).node_id)

    def pull(self, name: str, keys: Keys, node: int) -> None:
        """Ask for work as a node."""
        self.fleet(name, keys).PullMessages(PullMessagesRequest(node=Node(node_id=node)))


def refused(what: Callable[[], object]) -> int:
    """Return the status by which a call is refused."""
    with pytest.raises(httpx.HTTPStatusError) as error:
        what()
    return error.value.response.status_code


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    home = CoordinatorHome(tmp_path_factory.mktemp("coordinator")).create()
    authority = Authority.create(home, "opt", datetime.now(UTC))
    link = SuperLink(SuperLinkSettings(host="127.0.0.1", port=0), home.superlink)
    made = Consortium(home, link, authority)
    made.port = link.start(TransportIdentity(home.server), made.check)
    try:
        eventually(lambda: flower.is_up(link.address), "the SuperLink is up")
        yield made
    finally:
        link.stop()


def test_a_site_is_a_node_under_its_own_key_and_no_other_site_is(consortium: Consortium) -> None:
    north, south = generate_key_pairs(), generate_key_pairs()
    node = consortium.register("north", north)
    consortium.pull("north", north, node)
    consortium.register("south", south)
    # With north's key, stolen, or as north under its own key, south gets nothing.
    assert refused(lambda: consortium.pull("south", north, node)) == 401
    assert refused(lambda: consortium.register("south", north)) == 401
    assert refused(lambda: consortium.pull("south", south, node)) == 401
    assert consortium.link.keys is not None
    assert set(consortium.link.keys.all()) >= {"north", "south"}


def test_a_sites_newest_key_replaces_its_last(consortium: Consortium) -> None:
    old, new = generate_key_pairs(), generate_key_pairs()
    before = consortium.register("east", old)
    after = consortium.register("east", new)
    consortium.pull("east", new, after)
    assert refused(lambda: consortium.pull("east", old, before)) == 401


def test_who_is_no_site_or_was_revoked_registers_nothing(consortium: Consortium) -> None:
    for role in (Role.RESEARCHER, Role.ENROL, Role.COORDINATOR):
        with pytest.raises(httpx.HTTPError):
            consortium.register("eve", generate_key_pairs(), role)
    keys = generate_key_pairs()
    node = consortium.register("gone", keys)
    consortium.revoked.add("gone")
    assert refused(lambda: consortium.pull("gone", keys, node)) == 401


def test_a_request_that_is_too_large_or_of_no_said_size_is_not_read(
    consortium: Consortium,
) -> None:
    keys = generate_key_pairs()
    consortium.register("large", keys)
    key = base64.b64encode(public_key_to_bytes(keys[1])).decode()
    for size in ({"content-length": str(MAX_REQUEST_BYTES + 1)}, {"transfer-encoding": "chunked"}):
        context = tls_context(consortium.identity("large"))
        client = http.client.HTTPSConnection("127.0.0.1", consortium.port, context=context)
        client.putrequest("POST", "/v1/fleet/push-object")
        for name, value in ({"flwr-public-key": key} | size).items():
            client.putheader(name, value)
        client.endheaders()  # and no body: it is refused before
        assert client.getresponse().status == 413
        client.close()


def test_nothing_that_is_stored_is_let_through_when_the_disk_has_no_room(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = generate_key_pairs()
    node = consortium.register("roomy", keys)
    key = base64.b64encode(public_key_to_bytes(keys[1])).decode()
    monkeypatch.setattr(consortium.link, "_keep_free_bytes", 2**62)
    context = tls_context(consortium.identity("roomy"))
    for call in ("push-object", "push-messages"):
        client = http.client.HTTPSConnection("127.0.0.1", consortium.port, context=context)
        client.putrequest("POST", f"/v1/fleet/{call}")
        client.putheader("flwr-public-key", key)
        client.putheader("content-length", "1000")
        client.endheaders()  # and no body: it is refused before
        assert client.getresponse().status == 507
        client.close()
    consortium.pull("roomy", keys, node)  # what takes no room goes on


def test_a_client_without_a_certificate_is_turned_away_by_tls(consortium: Consortium) -> None:
    context = ssl.create_default_context(cadata=consortium.authority.pem.decode())
    context.check_hostname = False
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        socket.create_connection(("127.0.0.1", consortium.port)) as plain,
        context.wrap_socket(plain) as stranger,
    ):
        stranger.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert stranger.recv(1) == b"", "it was answered"
        raise ConnectionError


def test_a_run_that_no_researcher_signed_is_ended(consortium: Consortium) -> None:
    app = bundle("steps")
    control = ControlHttpClient.from_server_address(consortium.link.address, True, None, [])
    stranger = int(control.StartRun(StartRunRequest(fab=Fab(content=app))).run_id)
    ours = consortium.link.open_run(app, {"rounds": 2})
    runs = control.ListRuns(ListRunsRequest()).run_dict
    assert runs[stranger].status.status == "finished"
    assert runs[stranger].status.sub_status == "failed"
    assert runs[ours.run_id].status.status == "running"
    ours.beat()
    ours.finish()
    with pytest.raises((flower.RunOver, Unavailable)):
        ours.push(1, "train", "1", flower.RecordDict())
    ours.close()


@pytest.mark.slow
def test_a_superlink_that_is_killed_comes_up_again_with_its_runs(consortium: Consortium) -> None:
    link = consortium.link
    run = link.open_run(bundle("steps"), {})
    assert link.pid is not None
    before = link.pid
    os.kill(before, signal.SIGKILL)
    eventually(lambda: link.pid != before and flower.is_up(link.address), "it comes up again")
    run.beat()
    run.finish()
    run.close()


def test_a_superlink_that_runs_here_already_is_used_with_its_secret(
    consortium: Consortium, tmp_path: Path
) -> None:
    theirs = consortium.link
    settings = SuperLinkSettings(
        host="127.0.0.1", port=0, runtime=theirs.address, secret_file=str(theirs.secret_file)
    )
    link = SuperLink(settings, tmp_path / "superlink")
    link.start(TransportIdentity(consortium.home.server), consortium.check)
    try:
        run = link.open_run(bundle("steps"), {})
        run.beat()
        run.finish()
        run.close()
        assert link.pid is None
    finally:
        link.stop()
    wrong = tmp_path / "secret"
    wrong.write_bytes(b"another")
    stranger = SuperLink(settings.model_copy(update={"secret_file": str(wrong)}), tmp_path / "x")
    with pytest.raises((flower.RunOver, Unavailable)):
        stranger.open_run(bundle("steps"), {})


def test_an_address_beyond_this_machine_or_without_a_secret_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "secret"
    open_to_all.write_bytes(b"secret")
    open_to_all.chmod(0o644)
    for settings in (
        SuperLinkSettings(runtime="127.0.0.1:8000", secret_file=str(open_to_all)),
        SuperLinkSettings(runtime="127.0.0.1:8000", secret_file=str(tmp_path / "nowhere")),
        SuperLinkSettings(runtime="10.0.0.1:8000", secret_file="x"),
        SuperLinkSettings(runtime="127.0.0.1:8000"),
    ):
        with pytest.raises(Unavailable):
            SuperLink(settings, tmp_path).start(TransportIdentity(tmp_path), lambda peer: None)


def test_no_two_sites_have_one_key() -> None:
    keys = SiteKeys()
    assert keys.register("north", b"key")
    assert not keys.register("south", b"key")
    assert keys.holds("north", b"key")
    assert not keys.holds("south", b"key")


def test_flower_has_the_internals_that_the_coordinator_needs() -> None:
    program = importlib.import_module("flwr.superlink.cli.flower_superlink")
    options = {
        option
        for action in program._parse_args_run_superlink()._actions
        for option in action.option_strings
    }
    wanted = {"--isolation", "--superexec-auth-secret-file", "--database", "--host", "--port"}
    wanted |= {"--disable-runtime-dependency-installation", "--insecure"}
    assert wanted <= options
    for client, calls in (
        (flower.ControlHttpClient, ("StartRun", "StopRun")),
        (flower.RuntimeHttpClient, ("AcquireTask", "PullTaskInput", "PushTaskOutput", "GetNodes")),
        (flower.RuntimeHttpClient, ("PushMessages", "PullMessages", "SendTaskHeartbeat")),
    ):
        for call in calls:
            assert callable(getattr(client, call)), f"{client.__name__} has no {call}"
