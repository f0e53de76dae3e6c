"""The port and the connections to it: who may call what, and what happens when nobody answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from contract import wire_pb2 as wire
from contract import wire_pb2_grpc
from coordinator.commands import setup
from coordinator.home import CoordinatorHome
from coordinator.registry.authority import Authority
from foundation import transport
from foundation.invitations import Invitation
from foundation.transport import CHANNEL_OPTIONS, Role, TransportIdentity
from node.home import NodeHome
from researcher import mean
from tests.end_to_end.federation import PROJECT, Federation
from tests.end_to_end.processes import eventually, run

LISTEN, ESTABLISHED = "0A", "01"

REQUESTS: dict[str, tuple[object, set[str]]] = {
    "Enrol": (wire.EnrolRequest(), {"enrol"}),
    "Renew": (wire.RenewRequest(), {"site", "researcher"}),
    "BlobState": (wire.BlobRequest(), {"site"}),
    "Download": (wire.BlobRequest(), {"site", "researcher"}),
    "GetDocuments": (wire.DocumentsRequest(), {"site", "researcher"}),
    "SignDocument": (wire.SignDocumentRequest(), {"site"}),
    "ListSites": (wire.Empty(), {"researcher"}),
    "Submit": (wire.SubmitRequest(), {"researcher"}),
    "Watch": (wire.JobRequest(), {"researcher"}),
    "Result": (wire.JobRequest(), {"researcher"}),
    "Wait": (wire.JobRequest(), {"researcher"}),
    "Cancel": (wire.JobRequest(), {"researcher"}),
    "Models": (wire.ModelsRequest(), {"researcher"}),
    "Model": (wire.ModelRequest(), {"researcher"}),
    "Link": (iter([wire.FromNode(heartbeat=wire.Empty())]), {"site"}),
    "Upload": (iter([wire.BlobChunk()]), {"site"}),
}
"""Every method, something to call it with, and the roles that may."""


def sockets(pid: int) -> list[tuple[str, str]]:
    """Return (state, remote address) of a process's TCP sockets, from /proc (proc_net_tcp)."""
    mine = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            mine.add(str(descriptor.readlink()))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in mine:
                found.append((fields[3], fields[2]))
    return found


def remote(address: str) -> str:
    """Return how /proc writes a port, at the end of an address."""
    return f":{int(address.rsplit(':', 1)[1]):04X}"


@contextmanager
def stub(
    address: str, credentials: grpc.ChannelCredentials | None
) -> Iterator[wire_pb2_grpc.WardgateStub]:
    if credentials is None:
        channel = grpc.insecure_channel(address)
    else:
        channel = grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
    with channel:
        yield wire_pb2_grpc.WardgateStub(channel)


def call(one: wire_pb2_grpc.WardgateStub, method: str) -> grpc.StatusCode:
    """Call a method with its request and return the status."""
    request, _ = REQUESTS[method]
    if not hasattr(request, "SerializeToString"):
        request = iter([wire.FromNode(heartbeat=wire.Empty()), wire.FromNode()][:1])
        if method == "Upload":
            request = iter([wire.BlobChunk()])
    try:
        answer = getattr(one, method)(request, timeout=60)
        if hasattr(answer, "__next__"):
            next(answer, None)
            answer.cancel()
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def credentials_of(federation: Federation, role: str, tmp_path: Path) -> grpc.ChannelCredentials:
    if role == "site":
        home = NodeHome(federation.home("north"))
        return TransportIdentity(home.identity(federation.name)).channel_credentials()
    if role == "researcher":
        return TransportIdentity(federation.researcher_home("ana")).channel_credentials()
    offered = Invitation.read(federation.invite("caller"))
    return transport.channel_credentials(
        offered.authority_pem.encode(), offered.key_pem.encode(), offered.certificate_pem.encode()
    )


def test_every_method_is_in_the_table_of_this_test() -> None:
    [service] = wire.DESCRIPTOR.services_by_name.values()
    assert {method.name for method in service.methods} == set(REQUESTS)


@pytest.mark.parametrize("role", ["enrol", "site", "researcher"])
def test_a_role_can_make_its_own_calls_and_no_others(
    trio: Federation, tmp_path: Path, role: str
) -> None:
    with stub(trio.address, credentials_of(trio, role, tmp_path)) as one:
        for method, (_, allowed) in REQUESTS.items():
            code = call(one, method)
            if role not in allowed:
                assert code is grpc.StatusCode.PERMISSION_DENIED, (method, code)


@pytest.mark.parametrize("caller", ["plaintext", "no certificate", "another authority"])
def test_who_has_no_certificate_of_the_consortium_can_call_nothing(
    trio: Federation, tmp_path: Path, caller: str
) -> None:
    authority = (trio.coordinator_home / "authority" / "ca.crt").read_bytes()
    credentials: grpc.ChannelCredentials | None = None
    if caller == "no certificate":
        credentials = grpc.ssl_channel_credentials(root_certificates=authority)
    elif caller == "another authority":
        setup.init("elsewhere", trio.address, tmp_path / "elsewhere")
        theirs = Authority.load(CoordinatorHome(tmp_path / "elsewhere"))
        key = transport.new_private_key()
        now = datetime.now(UTC)
        issued = theirs.issue(key.public_key(), Role.RESEARCHER, "ana", now, timedelta(days=1))
        credentials = transport.channel_credentials(
            authority, transport.private_key_pem(key), issued.pem
        )
    with stub(trio.address, credentials) as one:
        for method in REQUESTS:
            assert call(one, method) is grpc.StatusCode.UNAVAILABLE, method


def test_a_true_certificate_that_the_registry_never_gave_is_of_no_use(trio: Federation) -> None:
    authority = Authority.load(CoordinatorHome(trio.coordinator_home))
    key = transport.new_private_key()
    life = timedelta(days=1)
    for role, name in ((Role.RESEARCHER, "ana"), (Role.SITE, "north"), (Role.SITE, "nobody")):
        issued = authority.issue(key.public_key(), role, name, datetime.now(UTC), life)
        credentials = transport.channel_credentials(
            authority.pem, transport.private_key_pem(key), issued.pem
        )
        with stub(trio.address, credentials) as one:
            assert call(one, "GetDocuments") is grpc.StatusCode.PERMISSION_DENIED


def test_a_researcher_can_neither_see_nor_stop_the_job_of_another(trio: Federation) -> None:
    with trio.connect("ana") as ana:
        job = ana.statistics(PROJECT, [mean("age")]).job
    request = wire.JobRequest(job=job)
    theirs = TransportIdentity(trio.researcher_home("ben")).channel_credentials()
    with stub(trio.address, theirs) as ben:
        for method in (ben.Result, ben.Wait, ben.Cancel):
            with pytest.raises(grpc.RpcError) as refused:
                method(request, timeout=60)
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        for stream in (ben.Watch(request), ben.Download(wire.BlobRequest(job=job))):
            with pytest.raises(grpc.RpcError) as refused:
                next(stream)
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    done = trio.as_researcher("ben", "job", job, "--cancel")
    done.fails(14, "no such job")


def test_a_site_that_a_job_does_not_name_gets_nothing_of_it(trio: Federation) -> None:
    with trio.connect() as ana:
        job = ana.statistics(PROJECT, [mean("age")], sites=["north", "south"]).job
    home = NodeHome(trio.home("west"))
    theirs = TransportIdentity(home.identity(trio.name)).channel_credentials()
    with stub(trio.address, theirs) as west, pytest.raises(grpc.RpcError) as refused:
        west.BlobState(wire.BlobRequest(job=job), timeout=60)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_node_listens_nowhere_and_holds_one_connection(trio: Federation) -> None:
    for site in trio.sites:

        def one_connection(pid: int = trio.node(site).pid) -> list[str]:
            found = sockets(pid)
            return [peer for _, peer in found] if [s for s, _ in found] == [ESTABLISHED] else []

        [peer] = eventually(one_connection, f"{site} has one connection and no other socket")
        assert peer.endswith(remote(trio.address))


def test_a_port_in_use_is_named_in_one_line(trio: Federation) -> None:
    trio.at_coordinator("serve").fails(10, "in use")
    home = trio.home("north")
    password = "a long enough password\n"
    assert run("wardgate-node", "console", "password", "--stdin", "--home", home, stdin=password)
    port = trio.address.rsplit(":", 1)[1]
    run("wardgate-node", "console", "--port", port, "--home", home).fails(10, "port")


def test_a_coordinator_that_is_away_costs_one_line_and_is_found_again(trio: Federation) -> None:
    before = {site: len(trio.node(site).errors) for site in trio.sites}
    trio.coordinator.kill()
    trio.as_researcher("ana", "sites").fails(10, "can't be reached")
    for site in trio.sites:
        eventually(lambda site=site: len(trio.node(site).errors) > before[site], f"{site} noticed")
    trio.as_researcher("ana", "projects").fails(10, "can't be reached")
    trio.coordinator.start()
    trio.wait_for_sites()
    for site in trio.sites:
        [line] = trio.node(site).errors[before[site] :]
        assert "Trying again" in line
    with trio.connect() as ana:
        assert ana.statistics(PROJECT, [mean("age")]).answered == trio.sites
