"""Errors over gRPC: a ``WardgateError`` at the server is the same one at the client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import grpc

from contract import wire_pb2_grpc
from contract.documents import printable
from contract.errors import (
    AlreadyExists,
    CertificateError,
    DocumentError,
    InvitationError,
    NotFound,
    Refused,
    SignatureError,
    StorageError,
    Unavailable,
    WardgateError,
    exit_codes,
)
from foundation.transport import CHANNEL_OPTIONS

_STATUS: dict[type[WardgateError], grpc.StatusCode] = {
    CertificateError: grpc.StatusCode.PERMISSION_DENIED,
    InvitationError: grpc.StatusCode.PERMISSION_DENIED,
    SignatureError: grpc.StatusCode.UNAUTHENTICATED,
    DocumentError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    StorageError: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_TRAILER = "wardgate-exit-code"


def status_of(error: WardgateError) -> grpc.StatusCode:
    """Return the gRPC status that goes with an error."""
    return _STATUS.get(type(error), grpc.StatusCode.FAILED_PRECONDITION)


async def abort(context: grpc.aio.ServicerContext, error: WardgateError) -> NoReturn:
    """End a call with the error's line and its exit code in the trailer."""
    # Whose disk is full is said, and no path of this machine's.
    full = "The coordinator can't store this now: its disk is full or can't be written."
    await context.abort(
        status_of(error),
        full if isinstance(error, StorageError) else printable(str(error), 500),
        trailing_metadata=((_TRAILER, str(error.exit_code)),),
    )
    raise AssertionError("abort returned")


def is_told(error: grpc.RpcError) -> bool:
    """Say whether the other side itself told the error, and not the connection's breaking."""
    return any(key == _TRAILER for key, _ in error.trailing_metadata() or ())


def error_from(error: grpc.RpcError, address: str) -> WardgateError:
    """Return the error of the tree that a failed call stands for."""
    details = printable(str(error.details() or ""), 500)
    for key, value in error.trailing_metadata() or ():
        if key == _TRAILER and str(value).isdigit():
            kind = exit_codes().get(int(str(value)), WardgateError)
            if kind is Refused:
                return Refused("refused", details)
            return (
                kind(details) if kind.__init__ is WardgateError.__init__ else WardgateError(details)
            )
    lowered = details.lower()
    if "certificate" in lowered or "handshake" in lowered or "ssl" in lowered:
        return CertificateError(
            f"The coordinator at {address} and this certificate don't accept each other "
            "(revoked, expired, or of another authority)."
        )
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return Unavailable(f"The coordinator at {address} can't be reached; is it up?")
    return Unavailable(f"The coordinator at {address} ended the call: {error.code().name}.")


@contextmanager
def calling(
    address: str, credentials: grpc.ChannelCredentials
) -> Iterator[wire_pb2_grpc.WardgateStub]:
    """Dial a coordinator and yield its stub; a call that fails raises the tree's error."""
    with grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS) as channel:
        try:
            yield wire_pb2_grpc.WardgateStub(channel)
        except grpc.RpcError as error:
            raise error_from(error, address) from None
