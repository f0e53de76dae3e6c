"""Storage commitment, push model (PS3.4 Annex J): which instances are safe here.

An instance is committed when it is in the landing, or was taken out of it into vault or quarantine.
Asked again later than receipts are kept (30 days), the answer is that it isn't known.
"""

from __future__ import annotations

import io
import logging
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contract.errors import ConfigurationError
from node.receive.negotiation import EXPLICIT_LITTLE, STORAGE_COMMITMENT
from node.receive.pdu import Broken

if TYPE_CHECKING:
    from pydicom import Dataset

WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
REQUEST_ACTION = 1
MAX_REQUEST_BYTES = 16 * 2**20
MAX_INSTANCES = 100_000
NO_SUCH_INSTANCE = 0x0112
ALL_SAFE, FAILURES_EXIST = 1, 2
TIMEOUT_SECONDS = 20.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CommitmentRequest:
    """What an N-ACTION asks: are these safe?"""

    transaction_uid: str
    references: tuple[tuple[str, str], ...]
    """SOP class and SOP Instance UID of each."""


@dataclass(frozen=True)
class Report:
    """The answer, as an N-EVENT-REPORT."""

    event_type: int
    data_set: bytes
    """In the transfer syntax that was asked for."""


@dataclass(frozen=True)
class Address:
    """Where an application entity listens."""

    host: str
    port: int


def addresses(words: Collection[str]) -> dict[str, Address]:
    """Read ``AET=host:port`` words; ``ConfigurationError`` for what isn't one."""
    found = {}
    for word in words:
        title, _, place = word.partition("=")
        host, _, port = place.rpartition(":")
        if not title or not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigurationError("receive.report_to: each is AET=host:port.")
        found[title] = Address(host.strip("[]"), int(port))
    return found


def read_request(data: bytes, transfer_syntax: str) -> CommitmentRequest:
    """Read an N-ACTION's data set; ``Broken`` when it isn't one."""
    from pydicom.filereader import read_dataset

    try:
        dataset = read_dataset(io.BytesIO(data), transfer_syntax != EXPLICIT_LITTLE, True)
        transaction = str(dataset.TransactionUID)
        references = tuple(
            (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
            for item in dataset.ReferencedSOPSequence
        )
    except Exception:  # pydicom raises whatever a stranger's bytes make it raise
        raise Broken("a storage commitment request that can't be read") from None
    if not 0 < len(references) <= MAX_INSTANCES or any(
        len(uid) > 64 for reference in references for uid in reference
    ):
        raise Broken("a storage commitment request for nothing, or for too much")
    return CommitmentRequest(transaction[:64], references)


def answer(
    request: CommitmentRequest, held: Collection[str], ae_title: str, transfer_syntax: str
) -> Report:
    """Return the report on ``request`` when the instances ``held`` are safe."""
    dataset = _report(request, held, ae_title)
    event = FAILURES_EXIST if "FailedSOPSequence" in dataset else ALL_SAFE
    return Report(event, _encoded(dataset, transfer_syntax))


def send(
    request: CommitmentRequest,
    held: Collection[str],
    *,
    ours: str,
    theirs: str,
    address: Address,
    tls: ssl.SSLContext | None = None,
) -> bool:
    """Report on an association of our own; return whether the peer took it."""
    from pynetdicom import AE, build_role

    entity = AE(ae_title=ours)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT_SECONDS
    entity.connection_timeout = TIMEOUT_SECONDS
    entity.add_requested_context(STORAGE_COMMITMENT)
    role = build_role(STORAGE_COMMITMENT, scp_role=True)
    association = entity.associate(
        address.host,
        address.port,
        ae_title=theirs,
        ext_neg=[role],
        tls_args=None if tls is None else (tls, address.host),
    )
    if not association.is_established:
        return False
    try:
        dataset = _report(request, held, ours)
        event = FAILURES_EXIST if "FailedSOPSequence" in dataset else ALL_SAFE
        status, _ = association.send_n_event_report(
            dataset, event, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE
        )
        return bool(status and status.Status == 0)
    except (ValueError, RuntimeError):
        return False
    finally:
        association.release()


def _report(request: CommitmentRequest, held: Collection[str], ae_title: str) -> Dataset:
    from pydicom import Dataset

    def item(reference: tuple[str, str], extra: Mapping[str, int]) -> Dataset:
        made = Dataset()
        made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = reference
        for keyword, value in extra.items():
            setattr(made, keyword, value)
        return made

    dataset = Dataset()
    dataset.TransactionUID = request.transaction_uid
    dataset.RetrieveAETitle = ae_title
    safe = [item(r, {}) for r in request.references if r[1] in held]
    failed = [
        item(r, {"FailureReason": NO_SUCH_INSTANCE}) for r in request.references if r[1] not in held
    ]
    if safe:
        dataset.ReferencedSOPSequence = safe
    if failed:
        dataset.FailedSOPSequence = failed
    return dataset


def _encoded(dataset: Dataset, transfer_syntax: str) -> bytes:
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    file = DicomBytesIO()
    file.is_little_endian = True
    file.is_implicit_VR = transfer_syntax != EXPLICIT_LITTLE
    write_dataset(file, dataset)
    written: bytes = file.getvalue()
    return written
