"""Intake of the landing: an entry is gone when its outcome is durable, and not before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from contract.errors import Unavailable
from node.catalog.store import Catalog
from node.deid.engine import Deidentifier
from node.deid.profile import load_profile
from node.home import NodeHome
from node.intake.crew import Processes
from node.intake.landing import Landing
from node.intake.landing_intake import LandingIntake, take_landing
from node.intake.quarantine import Quarantine

Image = Callable[..., bytes]


def now() -> datetime:
    return datetime.now(UTC)


def land(landing: Landing, data: bytes) -> str:
    with landing.writer("cstore") as writer:
        writer.write(data)
        return writer.commit().name


def test_what_waits_is_taken_in_and_done(
    home: NodeHome, catalog: Catalog, deidentifier: Deidentifier, make_image: Image
) -> None:
    landing = Landing(home)
    land(landing, make_image(1))
    land(landing, make_image(1))
    land(landing, make_image(1, SliceThickness="9"))
    land(landing, make_image(2)[:-5])
    damaged = land(landing, make_image(3))
    with (home.landing / damaged).open("r+b") as file:
        file.seek(100)
        file.write(b"damaged")
    with LandingIntake(home, catalog, deidentifier, landing, now) as intake:
        assert intake.once() == 5
        assert intake.once() == 0
        report = intake.report
    assert (report.accepted, report.known) == (1, 1)
    assert report.quarantined == {
        "duplicate-instance": 1,
        "truncated": 1,
        "unreadable-file": 1,
    }
    assert [entry.name for entry in landing.entries()] == [damaged]
    kept = [b"".join(Quarantine(home).open(one.source_digest)) for one in Quarantine(home).held()]
    assert sorted(kept) == sorted([make_image(1, SliceThickness="9"), make_image(2)[:-5]])


def test_one_at_a_time_takes_the_landing_in(
    home: NodeHome, catalog: Catalog, deidentifier: Deidentifier, make_image: Image
) -> None:
    landing = Landing(home)
    land(landing, make_image(1))
    with LandingIntake(home, catalog, deidentifier, landing, now) as first:
        with (
            pytest.raises(Unavailable),
            LandingIntake(home, catalog, deidentifier, landing, now),
        ):
            pass
        assert first.once() == 1
    with LandingIntake(home, catalog, deidentifier, landing, now) as second:
        assert second.once() == 0


def test_a_dry_run_leaves_the_landing_as_it_is(
    home: NodeHome, catalog: Catalog, deidentifier: Deidentifier, make_image: Image
) -> None:
    landing = Landing(home)
    land(landing, make_image(1))
    with LandingIntake(home, catalog, deidentifier, landing, now, dry_run=True) as intake:
        intake.once()
        assert intake.report.accepted == 1
    assert landing.count() == 1
    assert catalog.is_empty()


def test_the_loop_takes_in_what_arrives_and_ends_when_it_is_told_to(
    home: NodeHome, catalog: Catalog, deidentifier: Deidentifier, make_image: Image
) -> None:
    landing, stop = Landing(home), threading.Event()
    crew = Processes(deidentifier, 1)
    loop = threading.Thread(
        target=take_landing, args=(home, catalog, deidentifier, landing, crew, now, stop)
    )
    loop.start()
    try:
        for number in range(12):
            land(landing, make_image(number))
        deadline = time.monotonic() + 120
        while landing.count() and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        stop.set()
        loop.join()
        crew.close()
    assert landing.count() == 0
    assert len(catalog.list_assets()) == 12


def test_what_one_arrival_says_of_a_patient_is_found_in_the_others(
    home: NodeHome, catalog: Catalog, deidentifier: Deidentifier, make_image: Image
) -> None:
    landing = Landing(home)
    # "basic" deletes descriptions; "research" cleans them.
    research = Deidentifier(load_profile("research").with_pixels("off"), deidentifier.pseudonyms)
    said = "sign of Quillfeather"
    land(landing, make_image(1, PatientID="KX48", SeriesDescription=said))
    land(landing, make_image(2, PatientID="KX48", ReferringPhysicianName="Quillfeather^Rosalind"))
    land(landing, make_image(3, PatientID="KX49", SeriesDescription=said))
    with LandingIntake(home, catalog, research, landing, now) as intake:
        assert intake.once() == 3
        assert intake.report.accepted == 3
    kept = [path.read_bytes() for path in home.vault.rglob("*.dcm")]
    assert sum(b"Quillfeather" in data for data in kept) == 1  # the other patient's
