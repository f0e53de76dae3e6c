"""Progress on a terminal of 80 columns, as lines elsewhere, and who is late."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from contract import wire_pb2 as wire
from contract.records import encode_entry
from researcher.live import Progress, follow, line_of, rounds_table, shown
from researcher.training import Round


def status(**open_tasks: int) -> wire.JobStatus:
    sites = [
        wire.SiteStatus(site=site, state="answered", open_tasks=count)
        for site, count in open_tasks.items()
    ]
    return wire.JobStatus(state="running", sites=sites)


def event(number: int, step: str, **metrics: float) -> wire.JobEvent:
    entries = [encode_entry(key, value) for key, value in metrics.items()]
    return wire.JobEvent(kind="round", round=number, text=step, metrics=entries)


def text_of(progress: Progress, now: float) -> str:
    console = Console(width=80, file=io.StringIO(), markup=False)
    with console.capture() as captured:
        console.print(shown(progress, now))
    return captured.get()


def test_who_takes_twice_as_long_as_the_others_is_late() -> None:
    progress = Progress()
    progress.saw_status(status(a=1, b=1, c=1), 0.0)
    progress.saw_status(status(a=0, b=0, c=1), 10.0)
    assert progress.late(15.0) == []
    assert progress.late(21.0) == ["c"]
    assert "late, 21 s" in text_of(progress, 21.0)
    progress.saw_status(status(a=0, b=0, c=0), 30.0)
    assert progress.late(99.0) == []


def test_nobody_is_late_while_most_are_at_work() -> None:
    progress = Progress()
    progress.saw_status(status(a=1, b=1, c=1), 0.0)
    progress.saw_status(status(a=0, b=1, c=1), 1.0)
    assert progress.late(1000.0) == []


def test_a_moment_is_no_delay() -> None:
    progress = Progress()
    progress.saw_status(status(a=1, b=1), 0.0)
    progress.saw_status(status(a=0, b=1), 0.5)
    assert progress.late(4.0) == []


def test_many_rounds_metrics_and_sites_fit_80_columns() -> None:
    progress = Progress()
    for number in range(1, 40):
        metrics = {f"a_rather_long_metric_{i}": number / 7 for i in range(9)}
        progress.rounds.append(Round(number, "train", metrics))
    progress.saw_status(status(**{f"hospital_{i:03d}": i % 2 for i in range(60)}), 0.0)
    lines = text_of(progress, 100.0).splitlines()
    assert max(map(len, lines)) <= 80
    assert any("the newest 12 of 39 rounds" in line for line in lines)
    assert any("more metrics" in line for line in lines)
    assert any("and 44 more sites" in line for line in lines)


class Handle:
    """A job whose events are known."""

    def events(self) -> Iterator[wire.JobEvent]:
        yield wire.JobEvent(kind="site", site="a", text="accepted")
        yield event(1, "train", loss=0.5)
        yield wire.JobEvent(kind="log", text="x")
        yield event(1, "evaluate", auc=0.75)
        yield wire.JobEvent(kind="end", status=status(a=0))

    def status(self) -> wire.JobStatus:
        return status(a=0)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_job_is_followed_to_its_end(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80, markup=False)
    heard: list[Round] = []
    rounds = follow(Handle(), console, [heard.append])  # type: ignore[arg-type]
    assert [(r.number, r.step) for r in rounds] == [(1, "train"), (1, "evaluate")]
    assert heard == rounds
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "0.75" in said
    if not terminal:
        assert said.splitlines() == [
            "a: accepted", "round 1 train: loss 0.5", "round 1 evaluate: auc 0.75",
        ]  # fmt: skip


def test_what_a_site_says_is_one_line_of_text() -> None:
    told = wire.JobEvent(kind="site", site="a", text="held: \x1b[2J\nits steward")
    assert line_of(told) == "a: held: ?[2J?its steward"


def test_rounds_have_their_steps_in_one_line() -> None:
    table = rounds_table([Round(1, "train", {"loss": 1.0}), Round(1, "evaluate", {"auc": 0.5})])
    assert table.row_count == 1
