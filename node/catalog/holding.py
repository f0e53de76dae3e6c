"""Whose consent is in force and who is linked to what is held: what a release derives from both.

It is as it stands on the day on which the release is planned, in the catalogue and not in the
release alone: a subject of a table can be linked to slides that the release doesn't hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection, distinct, func, select

from contract.deriving import Coded
from contract.errors import DataError, NotFound
from contract.holdings import Consent, Imaging, Linked, Operation
from node.catalog import schema
from node.catalog.cohorts import Cohorts
from node.catalog.selection import (
    AssetFilter,
    ConsentFilter,
    ObservationFilter,
    Selection,
    SubjectFilter,
)

IMAGES = ("dicom", "slide", "photograph", "volume")
"""Kinds of asset that are images."""
Node = Consent | Linked


@dataclass(frozen=True)
class Holdings:
    """Of each operation for whom it holds, by pseudonym."""

    found: dict[Node, frozenset[str]] = field(default_factory=dict)
    problems: dict[Node, str] = field(default_factory=dict)
    """Why an operation can't be worked out here."""

    def of(self, node: Node, subjects: Sequence[str]) -> Coded:
        """Return the level of each subject. Nobody's is missing.

        ``DataError`` for what can't be worked out here.
        """
        if node in self.problems:
            raise DataError(self.problems[node])
        held = self.found[node]
        codes = np.array([subject in held for subject in subjects], dtype=np.int64)
        return Coded(codes, node.levels)


def look(connection: Connection, cohorts: Cohorts, nodes: Iterable[Node]) -> Holdings:
    """Return what holds of whom, over one snapshot of the catalogue.

    A consent whose period can't be judged, since the node's key isn't there, is not in force.
    """
    holdings = Holdings()
    for node in dict.fromkeys(nodes):
        try:
            holdings.found[node] = _subjects(connection, cohorts, node)
        except NotFound:
            holdings.problems[node] = "The table that it is linked to is not here."
    return holdings


def outside(node: Operation | None, among: Collection[Operation | None]) -> frozenset[str]:
    """Return of what outside the table an operation is a function, by names that no variable has.

    ``among``: all operations of a dictionary. Images of any modality are all that those count; a
    group is of what it can hold, for who has one has that.
    """
    found: list[str] = []
    if isinstance(node, Consent):
        found = [f"consent for {purpose}" for purpose in node.consent]
    elif isinstance(node, Imaging) and node.imaging == "images":
        found = [f"images of {node.modality}"]
    elif isinstance(node, Linked) and node.linked == "group":
        found = [f"groups with {role}" for role in node.roles or ()]
        for one in among:
            if not isinstance(one, Linked) or one.linked != "group":
                found += () if isinstance(one, Consent) else outside(one, among)
    elif isinstance(node, Linked):
        of = [node.modality] if node.modality is not None else sorted(_modalities(among))
        found = {
            "images": [f"images of {modality}" for modality in of] or ["images of any"],
            "reports": ["reports of any"],
            "observations": [f"observations of {code}" for code in node.codes or ()],
            "table": [f"rows of {node.table}"],
        }[node.linked]
    return frozenset(found)


def _modalities(nodes: Iterable[Operation | None]) -> frozenset[str]:
    """Return the modalities whose images operations count."""
    return frozenset(
        node.modality
        for node in nodes
        if (isinstance(node, Imaging) and node.imaging == "images") or isinstance(node, Linked)
        if node.modality is not None
    )


def _subjects(connection: Connection, cohorts: Cohorts, node: Node) -> frozenset[str]:
    if isinstance(node, Linked) and node.linked == "group":
        return _grouped(connection, node.roles or ())
    fitting = cohorts.subjects(Selection(subjects=_filter(node)))
    return frozenset(cohorts.names(fitting).values())


def _filter(node: Node) -> SubjectFilter:
    if isinstance(node, Consent):
        return SubjectFilter(consent=ConsentFilter(purpose=node.consent, basis=node.basis))
    if node.linked == "observations":
        return SubjectFilter(observation=ObservationFilter(code=node.codes or ()))
    if node.linked == "table":
        return SubjectFilter(table=node.table)
    if node.linked == "reports":
        return SubjectFilter(asset=AssetFilter(kind=("report",)))
    modality = None if node.modality is None else (node.modality,)
    return SubjectFilter(asset=AssetFilter(kind=IMAGES, modality=modality))


def _grouped(connection: Connection, roles: Sequence[str]) -> frozenset[str]:
    """Return the subjects with a group in which each of the roles is filled."""
    groups, links = schema.groups, schema.group_links
    full = (
        select(links.c.group)
        .where(links.c.role.in_(roles))
        .group_by(links.c.group)
        .having(func.count(distinct(links.c.role)) == len(set(roles)))
    )
    found = connection.execute(select(groups.c.subject).where(groups.c.name.in_(full)))
    return frozenset(found.scalars())
