"""When an answer in statistics leaves: at a time that public figures tell, whatever the work took.

Guarantee: an answer or a refusal leaves a whole number of *periods* after its question came, and
the period is a function of the policy, the question and the release as it is listed. So the time
tells nothing that these don't, as long as the work fits into one period. Work that overruns tells
in how many periods it was done, and no more.

Assumptions: the clock is monotonic; what else the machine does isn't the asker's to choose. The
period is to be longer than the work takes (``jobs.answer_ms`` and ``jobs.answer_ms_per_million``).
Source: Askarov, Zhang, Myers: Predictive black-box mitigation of timing channels, CCS 2010.
"""

from __future__ import annotations

import math

from contract.documents import Job
from contract.envelope import Envelope
from contract.errors import DocumentError
from contract.work import StatisticsWork
from node.gate.policy import JobLimits


def period_seconds(limits: JobLimits, statistics: int, listed: int) -> float:
    """Return the period of a question of so many statistics over so many listed subjects."""
    added = limits.answer_ms_per_million * statistics * listed / 1e6
    return (limits.answer_ms + added) / 1000


def wait_seconds(began: float, now: float, period: float) -> float:
    """Return how long to wait, for the next whole number of periods after ``began``."""
    if period <= 0:
        return 0.0
    periods = max(1, math.ceil((now - began) / period))
    return max(0.0, began + periods * period - now)


def asked(envelope: bytes, site: str) -> tuple[int, str]:
    """Return how many statistics an offer asks of a site, and of which release of its.

    None at all for other work. The offer is read unverified: what it says decides only when it is
    answered.
    """
    try:
        job = Job.read(Envelope.parse(envelope).body)
    except DocumentError:
        return 1, ""
    statistics = len(job.work.ask) if isinstance(job.work, StatisticsWork) else 0
    return statistics, job.releases.get(site, "")
