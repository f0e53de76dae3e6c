"""Sockets to listen on, and who can reach them."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket

from contract.errors import Unavailable


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; ``Unavailable`` when the address or port can't be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError:
        raise Unavailable(f"Nothing can listen on {host}: it is no address here.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(f"Port {port} on {host} is in use; choose another.") from None
        raise Unavailable(
            f"Nothing can listen on {host}, port {port}: {os.strerror(error.errno or 0)}."
        ) from None
    return listener


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
