"""At the end of the suite: by which lane each session's questions were answered."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.sessions.hospitals import BY_LANE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a table: a session a line, a lane a column."""
    if not BY_LANE:
        return
    lanes = ("exact", "summed", "dp", "withheld")
    terminalreporter.section("honest work under the policy standard, by lane")
    terminalreporter.write_line(f"{'':32}" + "".join(f"{lane:>10}" for lane in lanes))
    for title, counted in BY_LANE.items():
        figures = "".join(f"{Counter(counted)[lane]:>10}" for lane in lanes)
        terminalreporter.write_line(f"{title:32}{figures}")
