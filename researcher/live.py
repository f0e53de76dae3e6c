"""Training as it goes on: a live table on a terminal, plain lines elsewhere.

``Progress`` is what is known at a moment, and says who is late; ``follow`` feeds it from a job.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from contract import wire_pb2 as wire
from contract.documents import printable
from contract.errors import WardgateError
from contract.failures import with_meaning
from researcher.training import Round, TrainingHandle

WIDTH = 80
NEWEST_ROUNDS = 12
MOST_SITES = 16
POLL_SECONDS = 1.0
LATE_FACTOR, LATE_SECONDS = 2.0, 5.0
_AT_WORK = ("accepted", "answered")

OnRound = Callable[[Round], None]


@dataclass
class Progress:
    """What is known of a training job at a moment. Times are seconds of one clock."""

    rounds: list[Round] = field(default_factory=list)
    state: str = ""
    sites: dict[str, wire.SiteStatus] = field(default_factory=dict)
    _since: dict[str, float] = field(default_factory=dict)
    """When each site was first seen with a task to answer."""
    _took: dict[str, float] = field(default_factory=dict)
    """How long each site's newest answer took."""

    def saw_status(self, status: wire.JobStatus, now: float) -> None:
        """Take in where the job and its sites are."""
        self.state = status.state
        for site in status.sites:
            self.sites[site.site] = site
            if site.open_tasks:
                self._since.setdefault(site.site, now)
            elif site.site in self._since:
                self._took[site.site] = now - self._since.pop(site.site)

    def waiting(self, site: str, now: float) -> float:
        """Return for how many seconds a site has had a task to answer; 0 without one."""
        return now - self._since[site] if site in self._since else 0.0

    def late(self, now: float) -> list[str]:
        """Return the sites that the round waits for: half are done, and in half the time."""
        done = [s for s, status in self.sites.items() if self._is_done(status)]
        if not self._since or 2 * len(done) < len(done) + len(self._since):
            return []
        longest = max((self._took.get(site, 0.0) for site in done), default=0.0)
        limit = max(LATE_SECONDS, LATE_FACTOR * longest)
        return [site for site in self._since if self.waiting(site, now) > limit]

    def _is_done(self, status: wire.SiteStatus) -> bool:
        return status.state in _AT_WORK and status.site not in self._since


def follow(
    handle: TrainingHandle,
    console: Console,
    on_round: Sequence[OnRound] = (),
    clock: Callable[[], float] = time.monotonic,
    *,
    log: bool = False,
) -> list[Round]:
    """Show a job until it has ended, and return its rounds; ``on_round`` hears of each.

    With ``log``, also what its ServerApp prints.
    """
    if console.is_terminal:
        return _follow_live(handle, console, on_round, clock, log=log)
    return _follow_lines(handle, console, on_round, log=log)


def _follow_lines(
    handle: TrainingHandle, console: Console, on_round: Sequence[OnRound], *, log: bool
) -> list[Round]:
    rounds: list[Round] = []
    for event in handle.events():
        if event.kind == "round":
            rounds.append(_heard(Round.of(event), on_round))
        line = log_line(event) if log else ""
        line = line or line_of(event)
        if line:
            console.print(line, soft_wrap=True, markup=False, highlight=False)
    return rounds


def line_of(event: wire.JobEvent) -> str:
    """Return what a log shows of an event; empty when it needn't be shown."""
    if event.kind == "round":
        one = Round.of(event)
        figures = ", ".join(f"{key} {_figure(value)}" for key, value in one.metrics.items())
        return f"round {one.number} {printable(one.step)}: {printable(figures, 2000)}".rstrip(": ")
    if event.kind == "site":
        return printable(f"{event.site}: {_with_meaning(event.text)}", 500)
    return ""


def _failed(event: wire.JobEvent) -> bool:
    return event.text.startswith("failed: ")


def _with_meaning(text: str) -> str:
    """Return what is said of a site; the code of a failure with what it means."""
    before, failed, rest = text.partition("failed: ")
    code, _, location = rest.partition(" ")
    return f"{before}{failed}{with_meaning(code, location)}" if failed else text


def log_line(event: wire.JobEvent) -> str:
    """Return a line that the job's ServerApp printed; empty for any other event."""
    return f"  {printable(event.text, 500)}" if event.kind == "log" else ""


def _follow_live(
    handle: TrainingHandle,
    console: Console,
    on_round: Sequence[OnRound],
    clock: Callable[[], float],
    *,
    log: bool,
) -> list[Round]:
    progress = Progress()
    over = threading.Event()

    def poll() -> None:
        while not over.wait(POLL_SECONDS):
            try:
                progress.saw_status(handle.status(), clock())
            except WardgateError:
                continue  # the events will say what is wrong
            live.update(shown(progress, clock()))

    with Live(shown(progress, clock()), console=console, refresh_per_second=4) as live:
        polling = threading.Thread(target=poll, daemon=True)
        polling.start()
        try:
            for event in handle.events():
                if event.kind == "round":
                    progress.rounds.append(_heard(Round.of(event), on_round))
                elif event.kind == "site" and ("steward" in event.text or _failed(event)):
                    live.console.print(line_of(event), markup=False, highlight=False)
                elif log and event.kind == "log":
                    live.console.print(log_line(event), markup=False, highlight=False)
                elif event.kind == "end":
                    progress.saw_status(event.status, clock())
                live.update(shown(progress, clock()))
        finally:
            over.set()
            polling.join(2 * POLL_SECONDS)
    console.print()
    return progress.rounds


def _heard(one: Round, on_round: Sequence[OnRound]) -> Round:
    for tell in on_round:
        tell(one)
    return one


def shown(progress: Progress, now: float) -> RenderableType:
    """Return the table of rounds, and below it who is at work and who is late."""
    parts: list[RenderableType] = []
    if progress.rounds:
        parts.append(rounds_table(progress.rounds))
    if progress.sites:
        parts.append(sites_table(progress, now))
    return Group(*parts or ("waiting for the sites",))


def rounds_table(rounds: Sequence[Round], width: int = WIDTH) -> Table:
    """Return the newest rounds as a table: a line for each, as many metrics as fit the width."""
    by_number: dict[int, dict[str, float]] = {}
    for one in rounds:
        # Of a cross-site evaluation's rows: they have a table of their own.
        plain = {name: value for name, value in one.metrics.items() if name.count("/") < 2}
        by_number.setdefault(one.number, {}).update(plain)
    names = list(dict.fromkeys(name for found in by_number.values() for name in found))
    table = Table("round")
    left = width - len("│ round │")
    fitting: list[str] = []
    for name in names:
        left -= max(len(name), 11) + 3
        if left < 0:
            break
        fitting.append(name)
        table.add_column(printable(name), justify="right", no_wrap=True)
    for number, metrics in list(by_number.items())[-NEWEST_ROUNDS:]:
        cells = [_figure(metrics.get(name, math.nan)) for name in fitting]
        table.add_row(str(number), *cells)
    notes = []
    if len(by_number) > NEWEST_ROUNDS:
        notes.append(f"the newest {NEWEST_ROUNDS} of {len(by_number)} rounds")
    if len(fitting) < len(names):
        notes.append(f"{len(names) - len(fitting)} more metrics")
    table.caption = ", ".join(notes) or None
    return table


def sites_table(progress: Progress, now: float) -> Table:
    """Return where each site is; those that are late first."""
    late = progress.late(now)
    table = Table("site", "state", "now", title=progress.state or None, title_justify="left")
    ordered = sorted(progress.sites, key=lambda s: (-progress.waiting(s, now), s))
    for site in ordered[:MOST_SITES]:
        status = progress.sites[site]
        seconds = progress.waiting(site, now)
        doing = "late" if site in late else "at work" if seconds else ""
        text = f"{doing}, {seconds:.0f} s" if doing else printable(status.sentence, 40)
        table.add_row(printable(site, 30), printable(status.state, 12), text)
    if len(ordered) > MOST_SITES:
        table.caption = f"and {len(ordered) - MOST_SITES} more sites"
    return table


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.5g}"
