"""Presentation contexts, within the limit of an association."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import AllStoragePresentationContexts
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES

from node.pull.contexts import (
    COMMON_CLASSES,
    COMPRESSED,
    UNCOMPRESSED,
    batches,
    offers,
)
from node.pull.dimse import MOST_CLASSES

STORAGE = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]


@given(st.lists(st.sampled_from(STORAGE), min_size=1, max_size=127, unique=True))
def test_an_association_has_at_most_128_contexts_and_every_class(classes: list[str]) -> None:
    offered = offers(classes)
    assert len(offered) <= 127  # and C-GET's own
    assert {offer.sop_class for offer in offered} == set(classes)
    for sop_class in classes:
        first = next(offer for offer in offered if offer.sop_class == sop_class)
        assert first.syntaxes == UNCOMPRESSED


@given(st.lists(st.sampled_from(STORAGE), min_size=1, max_size=MOST_CLASSES, unique=True))
def test_few_classes_may_come_in_every_transfer_syntax(classes: list[str]) -> None:
    offered = offers(classes)
    for sop_class in classes:
        syntaxes = [s for o in offered if o.sop_class == sop_class for s in o.syntaxes]
        assert sorted(syntaxes) == sorted({*UNCOMPRESSED, *COMPRESSED})


def test_syntaxes_and_classes_are_the_standards() -> None:
    assert {*UNCOMPRESSED, *COMPRESSED} <= set(ALL_TRANSFER_SYNTAXES)
    assert set(COMMON_CLASSES) <= set(STORAGE)
    assert len(offers(COMMON_CLASSES)) > 2 * len(COMMON_CLASSES)


uids = st.integers(1, 10**6).map(lambda n: f"1.2.3.{n}")


@given(
    st.dictionaries(uids, st.sampled_from(STORAGE[:12]), max_size=60),
    st.integers(1, 5),
    st.integers(1, 20),
)
def test_lots_hold_every_instance_once_and_few_classes(
    instances: dict[str, str], most_classes: int, most_instances: int
) -> None:
    lots = batches(instances, most_classes, most_instances)
    assert sorted(uid for lot in lots for uid in lot) == sorted(instances)
    for lot in lots:
        assert 1 <= len(lot) <= most_instances
        assert len(set(lot.values())) <= most_classes
        assert all(instances[uid] == sop_class for uid, sop_class in lot.items())
