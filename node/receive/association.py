"""One association that a sender opened: the acceptor's half of PS3.8's states, and its services.

The table below is PS3.8 Table 9-10 for an acceptor that answers at once: states 1, 3 and 8 pass
within one step. Bytes that break the rules end the association with an A-ABORT; an instance that
was not acknowledged by then is dropped, and one that was is durable.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from node.intake.landing import Landing
from node.receive import command, commitment
from node.receive import pdu as wire
from node.receive.negotiation import (
    STORAGE_COMMITMENT,
    Agreed,
    Callers,
    accept,
    decode,
    is_storage,
    negotiate,
)
from node.receive.pace import Pace
from node.receive.pdu import Broken, Closed, PduType, Reader, Value
from node.receive.room import Room
from node.receive.storage import Arrival

log = logging.getLogger(__name__)

REQUEST_SECONDS = 30.0
"""The ARTIM timer (PS3.8 section 9.1.5): how long a connection may take to ask."""
CLOSE_SECONDS = 2.0
OTHER_BYTES = 64 * 1024
"""The largest data set of a request that is only refused."""


class State(Enum):
    """States of the acceptor, by PS3.8's numbers."""

    AWAITING_REQUEST = 2
    ESTABLISHED = 6
    AWAITING_CLOSE = 13


class Action(Enum):
    """What is done in a state when a PDU comes, by PS3.8's names (Tables 9-6 to 9-9)."""

    JUDGE = "AE-6"
    TAKE_DATA = "DT-2"
    RELEASE = "AR-2"
    END = "AA-2"
    ABORT = "AA-8"
    ABORT_AT_ONCE = "AA-1"
    IGNORE = "AA-6"


TABLE: Mapping[tuple[State, PduType], Action] = {
    **{(State.AWAITING_REQUEST, kind): Action.ABORT_AT_ONCE for kind in PduType},
    (State.AWAITING_REQUEST, PduType.ASSOCIATE_RQ): Action.JUDGE,
    (State.AWAITING_REQUEST, PduType.ABORT): Action.END,
    **{(State.ESTABLISHED, kind): Action.ABORT for kind in PduType},
    (State.ESTABLISHED, PduType.P_DATA): Action.TAKE_DATA,
    (State.ESTABLISHED, PduType.RELEASE_RQ): Action.RELEASE,
    (State.ESTABLISHED, PduType.ABORT): Action.END,
    **{(State.AWAITING_CLOSE, kind): Action.IGNORE for kind in PduType},
    (State.AWAITING_CLOSE, PduType.ABORT): Action.END,
}


class Sink(Protocol):
    """Where a message's data set goes."""

    def write(self, data: memoryview, /) -> None:
        """Take a fragment."""

    def drop(self) -> None:
        """The association ended inside."""


class Bounded:
    """Holds a small data set; ``Broken`` past ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self._limit = limit

    def write(self, data: memoryview) -> None:
        """Take a fragment."""
        if len(self.data) + len(data) > self._limit:
            raise Broken("a data set larger than this service takes")
        self.data += data

    def drop(self) -> None:
        """Nothing is to be done."""


@dataclass(frozen=True)
class Services:
    """What an association works with."""

    callers: Callers
    landing: Landing
    room: Room
    largest_pdu_bytes: int
    idle_seconds: float
    least_bytes_per_second: float
    report: Callable[[str, commitment.CommitmentRequest], bool]
    """Report later on an association of our own; False when this caller has no address."""


@dataclass
class Tally:
    """What became of one association."""

    calling: str = ""
    stored: int = 0
    refused: int = 0
    ended: str = "closed"


@dataclass
class _Message:
    """A message while its fragments come."""

    context_id: int
    encoded: bytearray = field(default_factory=bytearray)
    decoded: command.Command | None = None
    sink: Sink | None = None


class Association:
    """Serves one connection until it ends."""

    def __init__(
        self, connection: socket.socket, address: str, services: Services, *, welcome: bool = True
    ) -> None:
        self.tally = Tally()
        self._connection = connection
        self._address = address
        self._services = services
        self._welcome = welcome
        self._pace = Pace(services.idle_seconds, services.least_bytes_per_second)
        self._reader = Reader(connection, services.largest_pdu_bytes, self._pace)
        self._state = State.AWAITING_REQUEST
        self._agreed: dict[int, Agreed] = {}
        self._peer_largest = 0
        self._message: _Message | None = None
        self._event = 0

    def run(self) -> Tally:
        """Serve until the end; return what became of it. Raises nothing that a peer can cause."""
        self._reader.deadline = time.monotonic() + REQUEST_SECONDS
        try:
            while self._step():
                pass
        except Broken as broken:
            self._end(f"aborted: {broken}", wire.ABORT_INVALID)
        except Closed:
            if self._state is not State.AWAITING_CLOSE:
                self.tally.ended = "closed by the peer"
        except TimeoutError:
            self._end("aborted: nothing came in time", wire.ABORT_BY_USER)
        except OSError:
            self.tally.ended = "connection lost"
        finally:
            if self._message is not None and self._message.sink is not None:
                self._message.sink.drop()
        return self.tally

    def _step(self) -> bool:
        kind, body = self._reader.read()
        action = TABLE[self._state, kind]
        if action is Action.TAKE_DATA:
            for value in wire.values(body):
                self._take(value)
        elif action is Action.JUDGE:
            self._judge(body)
        elif action is Action.RELEASE:
            self.tally.ended = "released"
            self._send(wire.RELEASED)
            self._await_close()
        elif action is Action.ABORT:
            self.tally.ended = "aborted: an unexpected PDU"
            self._send(wire.ABORT_UNEXPECTED)
            self._await_close()
        elif action is Action.ABORT_AT_ONCE:
            self.tally.ended = "aborted: no association was asked for"
            self._send(wire.ABORT_BY_USER)
            self._await_close()
        elif action is Action.END:
            self.tally.ended = "aborted by the peer"
            return False
        return True

    def _judge(self, body: memoryview) -> None:
        request = decode(body)
        self.tally.calling = request.calling
        rejection = self._services.callers.judge(request, self._address, room=self._welcome)
        if rejection is not None:
            self.tally.ended = f"rejected: {rejection.name.lower().replace('_', ' ')}"
            self._send(rejection.encode())
            self._await_close()
            return
        self._agreed, results = negotiate(request.contexts)
        self._peer_largest = request.largest_bytes
        self._send(accept(request, self._agreed, results, self._services.largest_pdu_bytes))
        self._state = State.ESTABLISHED
        self._reader.deadline = None

    def _await_close(self) -> None:
        self._state = State.AWAITING_CLOSE
        self._reader.deadline = time.monotonic() + CLOSE_SECONDS

    def _take(self, value: Value) -> None:
        message = self._message
        if message is None:
            if value.context_id not in self._agreed:
                raise Broken("a presentation context that was not accepted")
            message = self._message = _Message(value.context_id)
        if value.context_id != message.context_id or value.is_command != (message.decoded is None):
            raise Broken("fragments of two messages at once")
        if value.is_command:
            if len(message.encoded) + len(value.data) > command.MAX_COMMAND_BYTES:
                raise Broken("a command set that is too long")
            message.encoded += value.data
            if value.is_last:
                message.decoded = command.decode(message.encoded)
                if message.decoded.get("CommandDataSetType") == command.NO_DATA_SET:
                    self._finish(message)
                else:
                    message.sink = self._sink(message.decoded, self._agreed[message.context_id])
            return
        assert message.sink is not None
        message.sink.write(value.data)
        if value.is_last:
            self._finish(message)

    def _sink(self, asked: command.Command, agreed: Agreed) -> Sink:
        if asked["CommandField"] == command.C_STORE_RQ and is_storage(agreed.abstract_syntax):
            return Arrival(
                self._services.landing,
                self._services.room,
                sop_class=str(asked.get("AffectedSOPClassUID", "")),
                sop_instance=str(asked.get("AffectedSOPInstanceUID", "")),
                transfer_syntax=agreed.transfer_syntax,
                calling=self.tally.calling,
            )
        asks = asked["CommandField"] == command.N_ACTION_RQ
        return Bounded(commitment.MAX_REQUEST_BYTES if asks else OTHER_BYTES)

    def _finish(self, message: _Message) -> None:
        self._message = None
        asked, sink = message.decoded, message.sink
        assert asked is not None
        what = int(asked["CommandField"])
        agreed = self._agreed[message.context_id]
        if what & command.RESPONSE or what == command.C_CANCEL_RQ:
            return
        if what == command.C_ECHO_RQ:
            self._respond(message, command.SUCCESS)
        elif what == command.C_STORE_RQ and isinstance(sink, Arrival):
            status = sink.finish()
            self.tally.stored += status == command.SUCCESS
            if status == command.SUCCESS:
                self._pace.renew()
            self.tally.refused += status != command.SUCCESS
            self._respond(message, status)
        elif what == command.C_STORE_RQ:
            self._respond(message, command.SOP_CLASS_NOT_SUPPORTED)
        elif what == command.N_ACTION_RQ and agreed.abstract_syntax == STORAGE_COMMITMENT:
            self._commit(message, asked, agreed)
        else:
            self._respond(message, command.UNRECOGNIZED_OPERATION)

    def _commit(self, message: _Message, asked: command.Command, agreed: Agreed) -> None:
        if asked.get("ActionTypeID") != commitment.REQUEST_ACTION:
            self._respond(message, command.NO_SUCH_ACTION)
            return
        if not isinstance(message.sink, Bounded):
            self._respond(message, command.PROCESSING_FAILURE)
            return
        request = commitment.read_request(bytes(message.sink.data), agreed.transfer_syntax)
        self._respond(message, command.SUCCESS)
        if self._services.report(self.tally.calling, request):
            return
        held = self._services.landing.held(uid for _, uid in request.references)
        title = self._services.callers.title
        report = commitment.answer(request, held, title, agreed.transfer_syntax)
        self._event = self._event % 0xFFFF + 1
        event: dict[str, int | str] = {
            "AffectedSOPClassUID": STORAGE_COMMITMENT,
            "AffectedSOPInstanceUID": commitment.WELL_KNOWN_INSTANCE,
            "CommandField": command.N_EVENT_REPORT_RQ,
            "MessageID": self._event,
            "CommandDataSetType": 1,
            "EventTypeID": report.event_type,
        }
        self._say(message.context_id, event, report.data_set)

    def _respond(self, message: _Message, status: int) -> None:
        assert message.decoded is not None
        self._say(message.context_id, command.response(message.decoded, status), None)

    def _say(self, context_id: int, said: command.Command, data: bytes | None) -> None:
        encoded = command.encode(said)
        self._send(b"".join(wire.data_pdus(context_id, encoded, data, self._peer_largest)))

    def _send(self, data: bytes) -> None:
        self._connection.settimeout(self._services.idle_seconds)
        self._connection.sendall(data)

    def _end(self, why: str, abort: bytes) -> None:
        if self._state is State.AWAITING_CLOSE:
            return
        self.tally.ended = why
        with suppress(OSError):
            self._send(abort)
