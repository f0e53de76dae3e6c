"""STOW-RS (PS3.18 section 10.5): what a request's parts become, and what its response says.

A part is a DICOM file. Of it, only the file meta information is read, for the UIDs that the
response must name, and its study's UID where the request names a study; then it goes into the
landing as it comes. It counts as stored when durable.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from contract.errors import StorageError
from node.deid.elements import parse, value
from node.deid.reading import Unsafe
from node.intake.landing import Landing, LandingWriter
from node.multipart import Event, PartBegins, PartData
from node.receive import command
from node.receive.room import Room

ORIGIN = "stow"
MAX_META_BYTES = 64 * 1024
MAX_STUDY_BYTES = 1024 * 1024
"""So far into a file its study's UID is looked for."""
MAX_PARTS = 100_000

OUT_OF_RESOURCES = 0xA700
OTHER_STUDY = 0xA901
CANNOT_UNDERSTAND = 0xC000
"""Failure reasons of PS3.18 Table I.2-2 and PS3.4 Table B.2-1: resources, a data set that doesn't
match (A900 to A9FF), and one that can't be understood."""

SOP_CLASS, SOP_INSTANCE = 0x0002, 0x0003
STUDY_INSTANCE = 0x0020000D


@dataclass(frozen=True)
class Stored:
    """One part and what became of it."""

    sop_class: str = ""
    sop_instance: str = ""
    failure: int = 0
    """0: it is safe."""


@dataclass
class Outcome:
    """What became of a request's parts so far."""

    parts: list[Stored] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The response's status code (PS3.18 Table 10.5.3-1)."""
        failed = sum(1 for part in self.parts if part.failure)
        if not failed and self.parts:
            return 200
        return 202 if failed < len(self.parts) else 409

    def body(self) -> dict[str, Any]:
        """Return the response in the DICOM JSON model (PS3.18 Annex F)."""
        stored = [_reference(part) for part in self.parts if not part.failure]
        failed = [
            {**_reference(part), "00081197": {"vr": "US", "Value": [part.failure]}}
            for part in self.parts
            if part.failure
        ]
        said: dict[str, Any] = {"00081190": {"vr": "UR"}}
        if failed:
            said["00081198"] = {"vr": "SQ", "Value": failed}
        if stored:
            said["00081199"] = {"vr": "SQ", "Value": stored}
        return said


class Storing:
    """Puts the parts of one request into the landing."""

    def __init__(self, landing: Landing, room: Room, study: str = "") -> None:
        """``study``: the only one of which instances are taken; empty: any."""
        self.outcome = Outcome()
        self._study = study
        self._look_at = 0
        """Bytes of a head with which its study is looked for again."""
        self._landing = landing
        self._room = room
        self._head = bytearray()
        self._part = Stored()
        self._writer: LandingWriter | None = None
        self._size = 0

    def take(self, events: Iterable[Event]) -> None:
        """Take what came. Blocks on the disk."""
        for event in events:
            if isinstance(event, PartBegins):
                self._begin(event.headers)
            elif isinstance(event, PartData):
                self._write(event.data)
            else:
                self._end()

    def close(self) -> None:
        """Forget a part that did not end."""
        self._drop()

    def _begin(self, headers: Mapping[str, str]) -> None:
        self._part, self._size, self._look_at = Stored(), 0, 0
        self._head.clear()
        kind = headers.get("content-type", "application/dicom").partition(";")[0].strip().lower()
        if kind != "application/dicom" or len(self.outcome.parts) >= MAX_PARTS:
            self._part = Stored(failure=CANNOT_UNDERSTAND)
        elif self._room.refuses() is not None:
            self._part = Stored(failure=OUT_OF_RESOURCES)

    def _write(self, data: bytes) -> None:
        if self._writer is None and (self._part.failure == CANNOT_UNDERSTAND):
            return
        self._size += len(data)
        if self._writer is not None:
            self._keep(data)
        elif not self._part.sop_instance:
            self._head += data
            self._read_head(is_whole=False)

    def _read_head(self, *, is_whole: bool) -> None:
        try:
            uids = meta_uids(self._head)
        except ValueError:
            self._part = Stored(failure=CANNOT_UNDERSTAND)
            self._head.clear()
            return
        if uids is None or (self._study and not self._part.failure and not self._fits(is_whole)):
            return
        self._part = Stored(*uids, failure=self._part.failure)
        if not self._part.failure:
            try:
                self._writer = self._landing.writer(ORIGIN, uids[1]).__enter__()
            except StorageError:
                self._fail(OUT_OF_RESOURCES)
            else:
                self._keep(bytes(self._head))
        self._head.clear()

    def _fits(self, is_whole: bool) -> bool:
        """Say whether it is known by now whether the part is of the study; if not, it fails."""
        if len(self._head) < self._look_at and not is_whole:
            return False
        self._look_at = 2 * len(self._head)
        found = study_of(bytes(self._head))
        if found is None and not is_whole and len(self._head) < MAX_STUDY_BYTES:
            return False
        if found != self._study:
            self._part = Stored(failure=OTHER_STUDY)
        return True

    def _keep(self, data: bytes) -> None:
        assert self._writer is not None
        if self._size > self._room.max_instance_bytes:
            self._fail(OUT_OF_RESOURCES)
            return
        try:
            self._writer.write(data)
        except StorageError:
            self._fail(OUT_OF_RESOURCES)

    def _end(self) -> None:
        if self._study and self._head:
            self._read_head(is_whole=True)
        if self._writer is not None:
            try:
                self._writer.commit()
            except StorageError:
                self._fail(OUT_OF_RESOURCES)
            self._drop()
        elif not self._part.failure:
            self._fail(CANNOT_UNDERSTAND)
        self.outcome.parts.append(self._part)

    def _fail(self, reason: int) -> None:
        self._part = Stored(self._part.sop_class, self._part.sop_instance, reason)
        self._drop()

    def _drop(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.__exit__(None, None, None)
            self._writer = None


def meta_uids(head: bytes | bytearray) -> tuple[str, str] | None:
    """Return SOP Class and Instance UID of a file's meta information (PS3.10 section 7.1).

    None when more bytes are needed; ``ValueError`` when it is no DICOM file, or names neither.
    """
    if len(head) < 144:
        return None
    if bytes(head[128:132]) != b"DICM":
        raise ValueError
    if bytes(head[132:140]) != b"\2\0\0\0UL\4\0":
        raise ValueError
    end = 144 + int.from_bytes(head[140:144], "little")
    if end > MAX_META_BYTES:
        raise ValueError
    if len(head) < end:
        return None
    found: dict[int, str] = {}
    at = 144
    while at + 8 <= end:
        group, element, kind, length = struct.unpack_from("<HH2sH", head, at)
        at += 8
        if group != 2:
            raise ValueError
        if kind in (b"OB", b"UN", b"UC", b"UR", b"UT"):
            if at + 4 > end:
                raise ValueError
            length = int.from_bytes(head[at : at + 4], "little")
            at += 4
        if element in (SOP_CLASS, SOP_INSTANCE) and at + length <= end:
            found[element] = bytes(head[at : at + length]).decode("ascii").strip("\0 ")
        at += length
    uids = found.get(SOP_CLASS), found.get(SOP_INSTANCE)
    if uids[0] is None or uids[1] is None or not all(map(command.is_uid, uids)):
        raise ValueError
    return uids[0], uids[1]


def study_of(head: bytes) -> str | None:
    """Return the Study Instance UID of the file that begins so, "" when it has none.

    None when it isn't in these bytes.
    """
    try:
        file = parse(head)
    except Unsafe:
        return None
    for element in file.dataset.elements:
        if element.tag == STUDY_INSTANCE and element.end <= len(file.data):
            return value(file.data, element).decode("latin-1").strip("\0 ")
        if element.tag > STUDY_INSTANCE:
            return ""
    return None


def _reference(part: Stored) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if part.sop_instance:
        said["00081150"] = {"vr": "UI", "Value": [part.sop_class]}
        said["00081155"] = {"vr": "UI", "Value": [part.sop_instance]}
    return said
