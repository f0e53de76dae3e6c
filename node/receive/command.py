"""Command sets of DIMSE messages (PS3.7 section 6.3 and Annex E), encoded and decoded.

A command set is always implicit VR little endian, group 0000, and small; the few elements that a
storage provider needs are here, by their keywords.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from node.receive.pdu import Broken

MAX_COMMAND_BYTES = 16 * 1024
NO_DATA_SET = 0x0101

US: Final = "US"
UI: Final = "UI"

ELEMENTS: Mapping[str, tuple[int, str]] = {
    "AffectedSOPClassUID": (0x0002, UI),
    "RequestedSOPClassUID": (0x0003, UI),
    "CommandField": (0x0100, US),
    "MessageID": (0x0110, US),
    "MessageIDBeingRespondedTo": (0x0120, US),
    "CommandDataSetType": (0x0800, US),
    "Status": (0x0900, US),
    "AffectedSOPInstanceUID": (0x1000, UI),
    "RequestedSOPInstanceUID": (0x1001, UI),
    "EventTypeID": (0x1002, US),
    "ActionTypeID": (0x1008, US),
}
_BY_ELEMENT = {element: (name, kind) for name, (element, kind) in ELEMENTS.items()}

C_STORE_RQ = 0x0001
C_ECHO_RQ = 0x0030
C_CANCEL_RQ = 0x0FFF
N_EVENT_REPORT_RQ = 0x0100
N_ACTION_RQ = 0x0130
RESPONSE = 0x8000

SUCCESS = 0x0000
NO_SUCH_ACTION = 0x0123
UNRECOGNIZED_OPERATION = 0x0211
INVALID_OBJECT_INSTANCE = 0x0117
SOP_CLASS_NOT_SUPPORTED = 0x0122
PROCESSING_FAILURE = 0x0110
OUT_OF_RESOURCES = 0xA700
"""Refused: Out of Resources (PS3.4 Table B.2-1)."""

Command = Mapping[str, int | str]


def decode(data: bytes | bytearray) -> dict[str, int | str]:
    """Return the elements that are known here; ``Broken`` for what is no command set."""
    found: dict[str, int | str] = {}
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise Broken("a cut command set")
        group, element, length = struct.unpack_from("<HHI", data, at)
        at += 8
        if group != 0 or length > len(data) - at:
            raise Broken("a command set with a wrong element")
        value = bytes(data[at : at + length])
        at += length
        if element in _BY_ELEMENT:
            name, kind = _BY_ELEMENT[element]
            found[name] = _number(value) if kind is US else _text(value)
    if not isinstance(found.get("CommandField"), int):
        raise Broken("a command set without a command")
    return found


def encode(command: Command) -> bytes:
    """Return a command set with its group length first."""
    parts = []
    for name, value in sorted(command.items(), key=lambda item: ELEMENTS[item[0]][0]):
        element, kind = ELEMENTS[name]
        if kind is US:
            content = struct.pack("<H", value)
        else:
            content = str(value).encode("ascii")
            content += b"\0" * (len(content) % 2)
        parts.append(struct.pack("<HHI", 0, element, len(content)) + content)
    body = b"".join(parts)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def response(request: Command, status: int) -> dict[str, int | str]:
    """Return the response to a request, without a data set."""
    answer: dict[str, int | str] = {
        "CommandField": int(request["CommandField"]) | RESPONSE,
        "MessageIDBeingRespondedTo": int(request.get("MessageID", 0)),
        "CommandDataSetType": NO_DATA_SET,
        "Status": status,
    }
    for asked, told in (
        ("AffectedSOPClassUID", "AffectedSOPClassUID"),
        ("AffectedSOPInstanceUID", "AffectedSOPInstanceUID"),
        ("RequestedSOPClassUID", "AffectedSOPClassUID"),
        ("RequestedSOPInstanceUID", "AffectedSOPInstanceUID"),
    ):
        if asked in request:
            answer[told] = request[asked]
    if "ActionTypeID" in request:
        answer["ActionTypeID"] = request["ActionTypeID"]
    return answer


def is_uid(value: object) -> bool:
    """Say whether ``value`` is written like a UID (PS3.5 section 9.1), leading zeros allowed."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= 64
        and all(part.isascii() and part.isdigit() for part in value.split("."))
    )


def _number(value: bytes) -> int:
    if len(value) != 2:
        raise Broken("a command set with a wrong number")
    return int.from_bytes(value, "little")


def _text(value: bytes) -> str:
    try:
        return value.decode("ascii").strip("\0 ")
    except UnicodeDecodeError:
        raise Broken("a command set with a wrong UID") from None
