"""What a node tells of what can be asked."""

from __future__ import annotations

from datetime import timedelta

from researcher.offers import newest_of, release_info
from tests.node.gate.conftest import Hospital


def test_releases_are_told_the_newest_first_and_the_first_is_asked(hospital: Hospital) -> None:
    old = hospital.release(100)
    hospital.now += timedelta(hours=1)
    new = hospital.release(200)
    found = hospital.gate.releases(hospital.member).message.releases.releases
    assert [release.digest for release in found] == [new, old]
    assert newest_of(release_info(hospital.site, release) for release in found) == {
        hospital.site: new
    }
