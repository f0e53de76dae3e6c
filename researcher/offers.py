"""What the sites of a consortium offer: their releases, and what each can be asked exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from contract import wire_pb2 as wire


@dataclass(frozen=True)
class ReleaseInfo:
    """What a site says of a release: counts are rounded down to its policy's cell size."""

    site: str
    name: str
    digest: str
    projects: tuple[str, ...]
    table: str
    subjects: int
    variables: tuple[str, ...]
    assets: Mapping[str, int]
    strata: tuple[str, ...] = ()
    """By what it can be asked exactly; of a number with its cuts: "age=50:65"."""
    analyses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Its analysis sets, and the variables of each."""
    joint: Mapping[str, frozenset[frozenset[str]]] = field(default_factory=dict)
    """Of each analysis set, which two or three variables are counted together exactly."""
    products: Mapping[str, frozenset[frozenset[str]]] = field(default_factory=dict)
    """Of each, of which two variables the sums of products are exact, as comoments need them."""
    sum_sites: int = 0
    """The fewest sites that its site lets a secure sum be over; 0 if it doesn't say."""


@dataclass(frozen=True)
class SiteInfo:
    """A site: whether it is there, whether it was revoked, and its releases."""

    name: str
    online: bool
    revoked: bool
    releases: tuple[ReleaseInfo, ...]


def release_info(site: str, message: wire.Release) -> ReleaseInfo:
    """Return what a site's listing says of a release."""
    return ReleaseInfo(
        site=site,
        name=message.name,
        digest=message.digest,
        projects=tuple(message.projects),
        table=message.table,
        subjects=message.subjects,
        variables=tuple(message.variables),
        assets={a.modality: a.count for a in message.assets},
        strata=tuple(message.strata),
        analyses={a.name: tuple(a.variables) for a in message.analyses},
        joint={a.name: _together(a, a.joint) for a in message.analyses},
        products={a.name: _together(a, a.products) for a in message.analyses},
        sum_sites=message.sum_sites,
    )


def newest_of(releases: Iterable[ReleaseInfo]) -> dict[str, str]:
    """Return each site's newest release, site to digest: a site lists the newest first."""
    found: dict[str, str] = {}
    for release in releases:
        found.setdefault(release.site, release.digest)
    return found


def _together(analysis: wire.AnalysisSet, bits: Iterable[int]) -> frozenset[frozenset[str]]:
    names = list(enumerate(analysis.variables))
    return frozenset(frozenset(name for at, name in names if one >> at & 1) for one in bits)
