"""What headers say of their patients; those that say the same are read once, and pixels never."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from node.deid.elements import parse
from node.deid.export.identity import Identities
from node.deid.export.source import LONG_HEAD_BYTES, head, opened
from node.deid.gathering import gather
from node.deid.identifiers import Known
from node.deid.profile import Options

_MOST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True, repr=False)
class Told:
    """What a header says. Its ``repr`` shows nothing of it."""

    patient: str
    """The identifier, or what stands in for one (``gathering.gather``)."""
    known: Known
    """The same object for headers that say the same, while they are remembered."""
    is_new: bool
    """Whether none of those remembered said the same."""


class Headers:
    """Reads headers, and remembers those that it has read last."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._identities = Identities()
        self._seen: OrderedDict[bytes, Told] = OrderedDict()

    def told(self, path: str, start: bytes, size: int) -> Told:
        """Return what the file says that begins with ``start``, of ``size`` bytes.

        Whatever is no DICOM file raises whatever it makes the reader raise, ``Unreadable`` and
        ``Unsafe`` among it.
        """
        same = None
        if start[128:132] == b"DICM":
            same = self._identities.of(start, size)
            if same is None and len(start) < size:
                start, size = head(path, LONG_HEAD_BYTES)
                same = self._identities.of(start, size)
        return self._remembered(same) or self._keep(same, self._read(path, start, size))

    def told_by(self, start: bytes, size: int) -> Told:
        """Return the same of a file that isn't at a path, from its first bytes alone."""
        same = self._identities.of(start, size) if start[128:132] == b"DICM" else None
        found = self._remembered(same)
        return found or self._keep(same, Told(*gather(parse(start), self._options), is_new=True))

    def _remembered(self, same: bytes | None) -> Told | None:
        return None if same is None else self._seen.get(same)

    def _keep(self, same: bytes | None, told: Told) -> Told:
        if same is not None:
            self._seen[same] = Told(told.patient, told.known, is_new=False)
            if len(self._seen) > _MOST_REMEMBERED:
                self._seen.popitem(last=False)
        return told

    def _read(self, path: str, start: bytes, size: int) -> Told:
        if len(start) == size:
            return Told(*gather(parse(start), self._options), is_new=True)
        with opened(path) as source:
            return Told(*gather(parse(memoryview(source.data)), self._options), is_new=True)
