"""Associations with an archive (PS3.8): opened, bounded, throttled, and refused in one line."""

from __future__ import annotations

import logging
import ssl
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from contract.errors import ConfigurationError, Unavailable
from node.pull.archive import ArchiveRefused, Meter
from node.pull.settings import DicomArchive

L = TypeVar("L")
MOST_PDU_BYTES = 256 * 1024
"""The PDU size that we offer: few PDUs, and so little work, for an image."""
_SLACK = 1024
_READ = 64 * 1024
_REASONS = {
    (1, 2): "it doesn't know the application context",
    (1, 3): "it doesn't know our title",
    (1, 7): "it has another title than we call",
}
"""Why an association was rejected, by source and reason (PS3.8 table 9-21)."""


def quiet() -> None:
    """Keep pynetdicom and pydicom from writing what an archive sends into logs and warnings."""
    import pydicom.config

    for name in ("pynetdicom", "pydicom"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    warnings.filterwarnings("ignore", module=r"py(net)?dicom\b.*")


def client_context(archive: DicomArchive) -> ssl.SSLContext | None:
    """Return the TLS of connections to the archive; None for plain ones."""
    if archive.tls_ca is None:
        return None
    context = _loaded(lambda: ssl.create_default_context(cafile=str(archive.tls_ca)))
    _identify(context, archive)
    return context


def server_context(archive: DicomArchive) -> ssl.SSLContext | None:
    """Return the TLS of connections from the archive, which must show its certificate."""
    if archive.tls_ca is None:
        return None
    context = _loaded(
        lambda: ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(archive.tls_ca))
    )
    context.verify_mode = ssl.CERT_REQUIRED
    _identify(context, archive)
    return context


def _identify(context: ssl.SSLContext, archive: DicomArchive) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if archive.tls_certificate is not None and archive.tls_key is not None:
        certificate, key = str(archive.tls_certificate), str(archive.tls_key)
        _loaded(lambda: context.load_cert_chain(certificate, key))


def _loaded(load: Callable[[], L]) -> L:
    try:
        return load()
    except (OSError, ssl.SSLError):
        raise ConfigurationError(
            "A TLS file of the archive can't be read, or is no PEM certificate or key."
        ) from None


def application(title: str, timeout_seconds: float) -> Any:
    """Return a pynetdicom application entity with our title and limits."""
    from pynetdicom import AE

    quiet()
    entity = AE(ae_title=title)
    entity.maximum_pdu_size = MOST_PDU_BYTES
    entity.acse_timeout = timeout_seconds
    entity.dimse_timeout = timeout_seconds
    entity.network_timeout = timeout_seconds
    entity.connection_timeout = timeout_seconds
    return entity


def associate(
    archive: DicomArchive,
    contexts: Sequence[Any],
    timeout_seconds: float,
    *,
    negotiation: Sequence[Any] = (),
    handlers: Sequence[tuple[Any, ...]] = (),
) -> Any:
    """Return an established association with the archive.

    ``Unavailable`` when it can't be reached, ``ArchiveRefused`` when it rejects us.
    """
    from pynetdicom import evt

    entity = application(archive.our_ae_title, timeout_seconds)
    tls = client_context(archive)
    bound = list(handlers)
    if not any(handler[0] is evt.EVT_CONN_OPEN for handler in bound):
        bound.append((evt.EVT_CONN_OPEN, bounded_socket, [None]))
    try:
        association = entity.associate(
            archive.host,
            archive.port,
            contexts=list(contexts),
            ae_title=archive.ae_title,
            max_pdu=MOST_PDU_BYTES,
            ext_neg=list(negotiation),
            evt_handlers=bound,
            tls_args=None if tls is None else (tls, archive.host),
        )
    except OSError:
        raise _unreachable(archive) from None
    if association.is_established:
        return association
    answer = getattr(association.acceptor, "primitive", None)
    if association.is_rejected and answer is not None:
        source, reason = int(answer.result_source or 0), int(answer.diagnostic or 0)
        if int(answer.result or 0) == 2:
            raise Unavailable("The archive takes no association now; try again later.")
        said = _REASONS.get((source, reason), f"source {source}, reason {reason}")
        raise ArchiveRefused(
            f"The archive refused us ({said}): we are {archive.our_ae_title!r} and call "
            f"{archive.ae_title!r}; make both sides agree."
        )
    if association.rejected_contexts and not association.accepted_contexts:
        raise ArchiveRefused("The archive supports nothing of what this needs from it.")
    raise _unreachable(archive)


def accepts(association: Any, sop_class: str) -> bool:
    """Say whether the archive accepted a context for this class."""
    return any(context.abstract_syntax == sop_class for context in association.accepted_contexts)


def bounded_socket(event: Any, meter: Meter | None) -> None:
    """Handle EVT_CONN_OPEN: no PDU is read that is larger than we offered, nor faster than allowed.

    pynetdicom reads as many bytes as a PDU's header announces, up to 4 GiB.
    """
    wrapper = event.assoc.dul.socket

    def recv(count: int) -> bytearray:
        if count > MOST_PDU_BYTES + _SLACK:
            raise OSError("a PDU is larger than agreed")
        data = bytearray()
        while len(data) < count:
            piece = wrapper.socket.recv(min(_READ, count - len(data)))
            if not piece:
                break
            data += piece
        if meter is not None:
            meter.received(len(data))
        return data

    wrapper.recv = recv


def bounded_message(event: Any, meter: Meter | None) -> None:
    """Handle EVT_PDU_RECV: a message that grows past the largest instance ends the association."""
    message = event.assoc.dimse.message
    if meter is None or message is None:
        return
    if message.data_set.tell() > meter.largest_bytes:
        meter.too_large(str(getattr(message.command_set, "AffectedSOPInstanceUID", "")))
        event.assoc.dul.socket.close()


def _unreachable(archive: DicomArchive) -> Unavailable:
    tls = " or its certificate isn't trusted" if archive.tls_ca is not None else ""
    return Unavailable(
        f"The archive can't be reached at {archive.host}:{archive.port}, or doesn't speak DICOM "
        f"there{tls}."
    )
