"""Progress of long work, on standard error and only for a person who watches."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

_EVERY_SECONDS = 0.2
_CLEAR = "\r\x1b[K"


@dataclass
class Progress:
    """One line: what is done, how many, at which rate and how long it will take."""

    shown: bool = field(default_factory=sys.stderr.isatty)
    unit: str = "files"
    _step: str = ""
    _since: float = 0.0
    _last: float = 0.0

    def __call__(self, step: str, done: int, count: int) -> None:
        """Show that ``done`` of ``count`` files are through this step."""
        if not self.shown:
            return
        now = time.monotonic()
        if step != self._step:
            self._step, self._since = step, now
        if now - self._last < _EVERY_SECONDS and done < count:
            return
        self._last = now
        rate = done / max(now - self._since, 1e-6)
        left = (count - done) / rate if rate else 0.0
        sys.stderr.write(
            f"{_CLEAR}{step} {done}/{count} {self.unit}, {rate:.0f}/s, {left:.0f} s left"
        )
        sys.stderr.flush()

    def end(self) -> None:
        """Clear the line."""
        if self.shown and self._step:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()
