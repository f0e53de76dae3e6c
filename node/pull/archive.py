"""An archive as the rest sees it, whether it is asked by DIMSE or by DICOMweb."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from contract.errors import ConfigurationError, Unavailable
from node.pull.question import Question

_UID = re.compile(r"[0-9](?:[0-9.]{0,62}[0-9])?")


class ArchiveRefused(ConfigurationError):
    """The archive answers, and won't serve us: it doesn't know our title, token or request."""


class Interrupted(Unavailable):
    """The retrieval was broken off because we asked for it; nothing is wrong."""


def is_uid(text: str) -> bool:
    """Say whether ``text`` can be a UID (PS3.5 section 9.1), and so part of an address."""
    return _UID.fullmatch(text) is not None


@dataclass(frozen=True)
class FoundStudy:
    """A study that an archive has."""

    uid: str
    series: int = 0
    """0: the archive doesn't say."""
    instances: int = 0
    """0: the archive doesn't say."""


@dataclass(frozen=True)
class FoundSeries:
    """A series that an archive has."""

    uid: str
    instances: int = 0
    """0: the archive doesn't say."""


@dataclass(frozen=True)
class Wanted:
    """What to retrieve of one series: instances with their SOP class (empty: not said)."""

    study_uid: str
    series_uid: str
    classes: Mapping[str, str] = field(default_factory=dict)
    whole: bool = True
    """All that the series has; then it may be asked for by its own UID."""

    @property
    def listed(self) -> bool:
        """Say whether the instances are known; some archives don't list them."""
        return bool(self.classes)


class Arrival(Protocol):
    """One instance while it arrives, left uncommitted if anything goes wrong."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take more bytes of its file (PS3.10)."""

    def commit(self) -> object:
        """Make it durable."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Meter(Protocol):
    """What is told of bytes before it is known whose they are. Called from any thread."""

    @property
    def largest_bytes(self) -> int:
        """What an instance may have at most."""

    def received(self, size_bytes: int) -> None:
        """Account for bytes as they are read. May sleep, to keep the allowed rate."""

    def too_large(self, sop_instance_uid: str) -> None:
        """Take note that an instance has more, so that it isn't asked for again."""


class Receiver(Meter, Protocol):
    """Where arriving instances go. Called from any thread."""

    def expects(self, sop_instance_uid: str) -> bool:
        """Say whether this instance was asked for and hasn't come yet."""

    def arrival(self, sop_instance_uid: str) -> Arrival:
        """Return the context in which this instance is written."""

    def arrived(self, sop_instance_uid: str, size_bytes: int) -> None:
        """Take note that it is durable. May sleep, to keep the allowed rate."""

    def stopping(self) -> bool:
        """Say whether to break off: told to, or the allowed hours are over."""


class Archive(Protocol):
    """A connection's worth of questions to one archive; one thread uses it at a time.

    Everything here may raise ``Unavailable`` (try again later) and ``ArchiveRefused``.
    """

    def test(self) -> str:
        """Ask for a sign of life and return what was asked, in a few words."""

    def studies(self, question: Question) -> Iterator[FoundStudy]:
        """Yield the studies that fit, each once."""

    def series(self, study_uid: str, question: Question) -> list[FoundSeries]:
        """Return the series of a study that fit."""

    def instances(self, study_uid: str, series_uid: str) -> dict[str, str]:
        """Return the instances of a series with their SOP class; empty if they aren't listed."""

    def retrieve(self, wanted: Wanted, receiver: Receiver) -> None:
        """Have the instances sent. What didn't arrive may be asked for again."""

    def close(self) -> None:
        """End the connection."""
