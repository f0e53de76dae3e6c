"""An archive in memory that can be told to fail, and a clock that passes only when waited for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from contract.errors import Unavailable
from node.pull.archive import FoundSeries, FoundStudy, Interrupted, Receiver, Wanted
from node.pull.question import Question

CT = "1.2.840.10008.5.1.4.1.1.2"


class Clock:
    """Civil time and its passing."""

    def __init__(self, start: datetime = datetime(2026, 11, 25, 12, tzinfo=UTC)) -> None:
        self.now = start
        self.slept = 0.0

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.now.timestamp()

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.now += timedelta(seconds=seconds)


@dataclass
class SimulatedArchive:
    """Studies by accession number: series, and instances of each."""

    studies_by_number: dict[str, dict[str, dict[str, list[str]]]]
    lists_instances: bool = True
    clock: Clock = field(default_factory=Clock)
    seconds_per_instance: float = 0.0
    down: int = 0
    """So many calls fail."""
    drops: dict[str, int] = field(default_factory=dict)
    """Instances that are not sent so many times."""
    sent: list[str] = field(default_factory=list)
    tested: int = 0
    ignores_keys: bool = False

    def _call(self) -> None:
        if self.down > 0:
            self.down -= 1
            raise Unavailable("The archive can't be reached.")

    def test(self) -> str:
        self.tested += 1
        self._call()
        return "fine"

    def studies(self, question: Question) -> Iterator[FoundStudy]:
        self._call()
        for number, studies in self.studies_by_number.items():
            asked = self.ignores_keys or question.accession_number in ("", number)
            if asked and question.admits_study({"AccessionNumber": number}):
                for uid, series in studies.items():
                    yield FoundStudy(uid, len(series), sum(map(len, series.values())))

    def series(self, study_uid: str, question: Question) -> list[FoundSeries]:
        self._call()
        return [FoundSeries(uid, len(there)) for uid, there in self._series(study_uid).items()]

    def instances(self, study_uid: str, series_uid: str) -> dict[str, str]:
        self._call()
        if not self.lists_instances:
            return {}
        return dict.fromkeys(self._series(study_uid)[series_uid], CT)

    def retrieve(self, wanted: Wanted, receiver: Receiver) -> None:
        self._call()
        there = self._series(wanted.study_uid)[wanted.series_uid]
        for uid in there if wanted.whole else wanted.classes:
            if receiver.stopping():
                raise Interrupted("The retrieval was broken off.")
            if self.drops.get(uid, 0) > 0:
                self.drops[uid] -= 1
                continue
            self.sent.append(uid)
            self.clock.sleep(self.seconds_per_instance)
            receiver.received(1000)
            if receiver.expects(uid):
                with receiver.arrival(uid) as arrival:
                    arrival.write(uid.encode())
                    arrival.commit()
                receiver.arrived(uid, 1000)

    def close(self) -> None:
        pass

    def _series(self, study_uid: str) -> dict[str, list[str]]:
        return next(s[study_uid] for s in self.studies_by_number.values() if study_uid in s)


def archive_of(studies: int, instances: int = 4, **more: object) -> SimulatedArchive:
    """Return an archive whose accession numbers A1, A2, ... have a study of two series each."""
    return SimulatedArchive(
        {
            f"A{n}": {
                f"1.2.{n}": {
                    f"1.2.{n}.{s}": [f"1.2.{n}.{s}.{i}" for i in range(1, instances + 1)]
                    for s in (1, 2)
                }
            }
            for n in range(1, studies + 1)
        },
        **more,  # type: ignore[arg-type]
    )
