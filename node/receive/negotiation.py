"""Association requests (PS3.8 section 9.3.2): read, judged, answered. Nothing here does I/O.

Who is let in: the called title is ours, the calling title is on the list (from the address that
the list gives it, if it gives one), and there is room. What is accepted: verification, storage
commitment, and every storage SOP class in every transfer syntax that carries its own pixels.
"""

from __future__ import annotations

import functools
import ipaddress
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from contract.errors import ConfigurationError
from node.receive.pdu import Broken, PduType, pdu

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
IMPLEMENTATION_CLASS = "2.25.191303418446271213163286823346402417217"
IMPLEMENTATION_VERSION = "WARDGATE_1"

ENCODINGS = "1.2.840.10008.1.2"
"""The root of DICOM's transfer syntaxes, which are PS3.6 Table A-1's."""
ELSEWHERE = frozenset(
    {
        "1.2.840.10008.1.2.4.94",  # JPIP Referenced: the pixels are somewhere else
        "1.2.840.10008.1.2.4.95",
        "1.2.840.10008.1.2.4.204",
        "1.2.840.10008.1.2.4.205",
        "1.2.840.10008.1.2.6.1",  # RFC 2557 MIME
        "1.2.840.10008.1.2.6.2",  # XML
    }
)
STORAGE = "1.2.840.10008.5.1.4.1.1."
"""The root of the storage SOP classes (PS3.6 Table A-1); query/retrieve ends in 2 instead."""

_ACCEPTED, _NO_ABSTRACT, _NO_TRANSFER = 0, 3, 4


class Rejection(Enum):
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""

    CALLED_TITLE = (1, 1, 7)
    CALLING_TITLE = (1, 1, 3)
    APPLICATION_CONTEXT = (1, 1, 2)
    PROTOCOL_VERSION = (1, 2, 2)
    FOR_NOW = (2, 3, 2)
    """Transient: the local limit is exceeded."""

    def encode(self) -> bytes:
        """Return the PDU."""
        return pdu(PduType.ASSOCIATE_RJ, bytes((0, *self.value)))


@dataclass(frozen=True)
class Context:
    """A presentation context that was proposed."""

    number: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """What an A-ASSOCIATE-RQ says."""

    version: int
    called: str
    calling: str
    application_context: str
    contexts: tuple[Context, ...]
    largest_bytes: int = 0
    roles: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Callers:
    """Who may call, and us: what the settings say."""

    title: str
    allowed: Mapping[str, frozenset[str]]
    """AE title to the addresses that it may come from; none: from anywhere."""

    @classmethod
    def of(cls, title: str, words: Iterable[str]) -> Callers:
        """Read ``AET`` and ``AET@address``; ``ConfigurationError`` for what is neither."""
        allowed: dict[str, set[str]] = {}
        anywhere: set[str] = set()
        for word in words:
            name, at, address = word.partition("@")
            if not _is_title(name):
                raise ConfigurationError("receive.calling: an AE title has 1 to 16 characters.")
            found = allowed.setdefault(name, set())
            if at:
                found.add(_address(address))
            else:
                anywhere.add(name)
        if not _is_title(title):
            raise ConfigurationError("receive.ae_title: an AE title has 1 to 16 characters.")
        return cls(
            title,
            {n: frozenset() if n in anywhere else frozenset(f) for n, f in allowed.items()},
        )

    def judge(self, request: Request, address: str, *, room: bool) -> Rejection | None:
        """Return why this request is rejected, or None. Strangers learn nothing about room."""
        if not request.version & 1:
            return Rejection.PROTOCOL_VERSION
        if request.application_context != APPLICATION_CONTEXT:
            return Rejection.APPLICATION_CONTEXT
        if request.called != self.title:
            return Rejection.CALLED_TITLE
        addresses = self.allowed.get(request.calling)
        if addresses is None or (addresses and _address(address) not in addresses):
            return Rejection.CALLING_TITLE
        return None if room else Rejection.FOR_NOW


@dataclass(frozen=True)
class Agreed:
    """A context that was accepted."""

    abstract_syntax: str
    transfer_syntax: str


def negotiate(contexts: Sequence[Context]) -> tuple[dict[int, Agreed], dict[int, int]]:
    """Return the accepted contexts, and the result of each (PS3.8 Table 9-18)."""
    agreed: dict[int, Agreed] = {}
    results: dict[int, int] = {}
    for context in contexts:
        if not _is_served(context.abstract_syntax):
            results[context.number] = _NO_ABSTRACT
            continue
        chosen = _choose(context)
        if chosen is None:
            results[context.number] = _NO_TRANSFER
        else:
            results[context.number] = _ACCEPTED
            agreed[context.number] = Agreed(context.abstract_syntax, chosen)
    return agreed, results


def is_storage(sop_class: str) -> bool:
    """Say whether instances of this SOP class are stored (PS3.4 Annexes B and GG)."""
    return sop_class.startswith(STORAGE) or sop_class in _other_storage()


def decode(body: memoryview) -> Request:
    """Read an A-ASSOCIATE-RQ; ``Broken`` when it is none."""
    if len(body) < 68:
        raise Broken("a cut association request")
    (version,) = struct.unpack_from(">H", body)
    called, calling = (_title(bytes(body[at : at + 16])) for at in (4, 20))
    application = ""
    contexts: list[Context] = []
    largest = 0
    roles: dict[str, tuple[int, int]] = {}
    for kind, content in _items(body[68:]):
        if kind == 0x10:
            application = _uid(content)
        elif kind == 0x20:
            contexts.append(_context(content))
        elif kind == 0x50:
            largest, roles = _user_information(content)
    if len(contexts) > 128 or len({c.number for c in contexts}) != len(contexts):
        raise Broken("presentation contexts that are too many or not distinct")
    return Request(version, called, calling, application, tuple(contexts), largest, roles)


def accept(
    request: Request, agreed: Mapping[int, Agreed], results: Mapping[int, int], largest: int
) -> bytes:
    """Return the A-ASSOCIATE-AC (PS3.8 section 9.3.3)."""
    items = [_item(0x10, APPLICATION_CONTEXT.encode())]
    for number, result in results.items():
        syntax = agreed[number].transfer_syntax if number in agreed else IMPLICIT_LITTLE
        items.append(_item(0x21, bytes((number, 0, result, 0)) + _item(0x40, syntax.encode())))
    user = [
        _item(0x51, struct.pack(">I", largest)),
        _item(0x52, IMPLEMENTATION_CLASS.encode()),
        _item(0x55, IMPLEMENTATION_VERSION.encode()),
    ]
    for uid, (scu, _) in request.roles.items():
        # The requestor stays the user of what it stores here; it isn't stored back.
        role = struct.pack(">H", len(uid)) + uid.encode() + bytes((scu & 1, 0))
        user.append(_item(0x54, role))
    items.append(_item(0x50, b"".join(user)))
    titles = request.called.ljust(16).encode() + request.calling.ljust(16).encode()
    return pdu(PduType.ASSOCIATE_AC, b"\0\1\0\0" + titles + bytes(32) + b"".join(items))


def _choose(context: Context) -> str | None:
    """Return the first syntax proposed that is taken; what says less or swaps bytes comes last."""
    if context.abstract_syntax in (VERIFICATION, STORAGE_COMMITMENT):
        known = [s for s in context.transfer_syntaxes if s in (IMPLICIT_LITTLE, EXPLICIT_LITTLE)]
        return known[0] if known else None
    taken = [
        syntax
        for syntax in context.transfer_syntaxes
        if (syntax == ENCODINGS or syntax.startswith(ENCODINGS + ".")) and syntax not in ELSEWHERE
    ]
    last = (IMPLICIT_LITTLE, EXPLICIT_BIG)
    return min(taken, key=lambda syntax: syntax in last and 1 + last.index(syntax), default=None)


def _is_served(abstract_syntax: str) -> bool:
    return abstract_syntax in (VERIFICATION, STORAGE_COMMITMENT) or is_storage(abstract_syntax)


@functools.cache
def _other_storage() -> frozenset[str]:
    from pynetdicom import sop_class

    found: set[str] = set(sop_class._STORAGE_CLASSES.values())
    return frozenset(found)


def _context(content: memoryview) -> Context:
    if len(content) < 4:
        raise Broken("a cut presentation context")
    number = content[0]
    if not number % 2:
        raise Broken("a presentation context with an even number")
    abstract, transfers = "", []
    for kind, inner in _items(content[4:]):
        if kind == 0x30:
            abstract = _uid(inner)
        elif kind == 0x40:
            transfers.append(_uid(inner))
    return Context(number, abstract, tuple(transfers))


def _user_information(content: memoryview) -> tuple[int, dict[str, tuple[int, int]]]:
    largest = 0
    roles: dict[str, tuple[int, int]] = {}
    for kind, inner in _items(content):
        if kind == 0x51:
            if len(inner) != 4:
                raise Broken("a wrong maximum length")
            (largest,) = struct.unpack(">I", inner)
        elif kind == 0x54:
            length = int.from_bytes(inner[:2], "big")
            if len(inner) != length + 4 or length > 64:
                raise Broken("a wrong role selection")
            roles[_uid(inner[2 : 2 + length])] = (inner[-2], inner[-1])
    return largest, roles


def _items(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at < len(content):
        if len(content) - at < 4:
            raise Broken("a cut item")
        kind, length = struct.unpack_from(">BxH", content, at)
        at += 4
        if length > len(content) - at:
            raise Broken("an item longer than its PDU")
        yield kind, content[at : at + length]
        at += length


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def _uid(content: memoryview) -> str:
    try:
        return bytes(content[:65]).decode("ascii").strip("\0 ")
    except UnicodeDecodeError:
        raise Broken("a UID that is none") from None


def _title(content: bytes) -> str:
    try:
        return content.decode("ascii").strip("\0 ")
    except UnicodeDecodeError:
        raise Broken("an AE title that is none") from None


def _is_title(name: str) -> bool:
    return 0 < len(name) <= 16 and name == name.strip() and name.isascii() and name.isprintable()


def _address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ConfigurationError("receive.calling: an IP address follows the @.") from None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
