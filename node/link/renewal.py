"""A fresh certificate for the link, in good time."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

import grpc

from contract import wire_pb2 as wire
from contract import wire_pb2_grpc
from foundation import rpc, transport
from foundation.transport import TransportIdentity
from node.gate.gate import Membership

log = logging.getLogger("wardgate.node")

LOOK_SECONDS = 60.0


async def keep_fresh(
    identity: TransportIdentity, member: Membership, address: str, stub: wire_pb2_grpc.WardgateStub
) -> None:
    """Renew the certificate whenever less than a third of its life is left, until cancelled."""
    while True:
        await renew_if_due(identity, member, address, stub)
        await asyncio.sleep(LOOK_SECONDS)


async def renew_if_due(
    identity: TransportIdentity, member: Membership, address: str, stub: wire_pb2_grpc.WardgateStub
) -> None:
    """Ask for a fresh certificate if the present one is in its last third."""
    begin, end = identity.validity()
    if end - datetime.now(UTC) > (end - begin) / 3:
        return
    key = transport.new_private_key()
    request = transport.certificate_request(key, member.site)
    try:
        reply = await stub.Renew(wire.RenewRequest(csr=request))
    except grpc.RpcError as error:
        log.warning("renewal: %s", rpc.error_from(error, address))
        return
    authority = identity.authority_file.read_bytes()
    identity.save(transport.private_key_pem(key), reply.certificate, authority)
    log.info("%s: certificate renewed", member.consortium)
