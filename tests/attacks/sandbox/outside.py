"""Running an attack inside the sandbox, with the defences that are named and no others."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from foundation import confinement
from foundation.bubblewrap import EVERY, Bind, Defences, Limits
from foundation.confinement import Confined

HERE = Path(__file__).parent
LIMITS = Limits(
    memory_bytes=120 * 2**20,
    processes=40,
    tmp_bytes=4 * 2**20,
    file_bytes=2 * 2**20,
    cpu_seconds=60,
)
SECONDS = 60
HELD = (0, confinement.FORBIDDEN_CALL, -signal.SIGKILL)
"""How an attack may end: by itself, by a forbidden call, for want of memory."""


@dataclass(frozen=True)
class Outcome:
    """How an attack ended."""

    output: str
    status: int

    @property
    def succeeded(self) -> bool:
        """Say whether it got what it wanted."""
        return "succeeded: " in self.output

    @property
    def was_ended(self) -> bool:
        """Say whether a forbidden call ended it."""
        return self.status == confinement.FORBIDDEN_CALL


def without(names: Iterable[str]) -> Defences:
    """Return all defences but these."""
    return dataclasses.replace(EVERY, **dict.fromkeys(names, False))


def begin(
    name: str,
    arguments: Sequence[str] = (),
    *,
    defences: Defences = EVERY,
    release: Path | None = None,
    limits: Limits = LIMITS,
    pass_fds: Sequence[int] = (),
) -> Confined:
    """Start an attack."""
    binds = [Bind(HERE, str(HERE))]
    if release is not None:
        binds.append(Bind(release, "/release"))
    return confinement.start(
        "tests.attacks.sandbox.hostile",
        [name, *arguments],
        packages=["contract", "foundation"],
        binds=binds,
        limits=limits,
        pass_fds=pass_fds,
        defences=defences,
    )


def run(
    name: str,
    arguments: Sequence[str] = (),
    *,
    defences: Defences = EVERY,
    release: Path | None = None,
    limits: Limits = LIMITS,
) -> Outcome:
    """Run an attack to its end; what it started ends with it."""
    confined = begin(name, arguments, defences=defences, release=release, limits=limits)
    try:
        output, _ = confined.process.communicate(timeout=SECONDS)
        text = output.decode(errors="replace")
        if "Traceback" in text or confined.process.returncode not in HELD:
            raise AssertionError(f"{name} ended with {confined.process.returncode}: {text}")
        return Outcome(text, confined.process.returncode)
    except subprocess.TimeoutExpired:
        return Outcome("it didn't end in time", -1)
    finally:
        confined.kill()
