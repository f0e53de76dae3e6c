"""The sum is exact, whoever drops out when, or there is none."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.errors import DocumentError, Refused
from contract.secure_aggregation import Server, Terms, degree
from contract.secure_aggregation.messages import EncryptedShares, smallest_threshold
from contract.secure_aggregation.updates import DELTA, GAMMA
from tests.contract.secure_aggregation.simulation import Run, World, both_shared
from tests.examples import examples

FEW = settings(
    max_examples=examples(10, 25), deadline=None, suppress_health_check=list(HealthCheck)
)


@FEW
@given(
    sites=st.integers(3, 9),
    length=st.integers(1, 300),
    word=st.sampled_from([16, 32, 64]),
)
def test_the_sum_is_that_of_all_vectors(sites: int, length: int, word: int) -> None:
    world = World(sites, length, word)
    run = Run(world)
    assert np.array_equal(run.finish(), world.sum_of(range(sites)))
    assert not both_shared(run.revealed)


def test_sums_wrap_around_as_words_do() -> None:
    world = World(3, 4, 16)
    world.vectors = [np.full(4, 40_000, np.uint16)] * 3
    assert Run(world).finish().tolist() == [120_000 % 65_536] * 4


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
@FEW
@given(data=st.data(), sites=st.integers(4, 10))
def test_sites_may_drop_out_before_any_step_down_to_the_threshold(
    step: int, data: st.DataObject, sites: int
) -> None:
    world = World(sites)
    spare = sites - smallest_threshold(sites)
    gone = data.draw(st.sets(st.integers(0, sites - 1), max_size=spare))
    run = Run(world, {step: gone})
    expected = set(range(sites)) - (gone if step <= 3 else set())
    assert np.array_equal(run.finish(), world.sum_of(expected))
    assert not both_shared(run.revealed)


@FEW
@given(data=st.data(), sites=st.integers(7, 10))
def test_sites_may_drop_out_at_several_steps(data: st.DataObject, sites: int) -> None:
    world = World(sites)
    spare = sites - smallest_threshold(sites)
    gone = data.draw(st.lists(st.integers(0, sites - 1), max_size=spare, unique=True))
    lost: dict[int, set[int]] = {}
    for site in gone:
        lost.setdefault(data.draw(st.integers(1, 5)), set()).add(site)
    early = {site for step, some in lost.items() if step <= 3 for site in some}
    run = Run(world, lost)
    assert np.array_equal(run.finish(), world.sum_of(set(range(sites)) - early))


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_with_fewer_than_the_threshold_there_is_no_sum(step: int) -> None:
    world = World(6)
    run = Run(world, {step: {0, 1}})
    with pytest.raises(Refused):
        run.finish()
    assert not both_shared(run.revealed)


def test_with_three_sites_nobody_may_drop_out() -> None:
    assert smallest_threshold(3) == 3
    for step in (1, 2, 3, 4, 5):
        with pytest.raises(Refused):
            Run(World(3), {step: {1}}).finish()


@pytest.mark.parametrize("gone", [set(), {0}, {1, 5, 9}])
def test_over_a_sparse_graph_the_sum_is_exact_too(gone: set[int]) -> None:
    world = World(16, degree=8, threshold=5)
    run = Run(world, {3: gone})
    assert np.array_equal(run.finish(), world.sum_of(set(range(16)) - gone))
    assert not both_shared(run.revealed)


@pytest.mark.slow
def test_two_hundred_sites_are_summed_over_a_sparse_graph_of_which_some_drop_out() -> None:
    """At the size for which it is meant, with the degree and threshold that a job would have."""
    graph = degree(200, GAMMA, DELTA)
    assert graph.neighbours < 100
    world = World(200, length=3, degree=graph.neighbours, threshold=graph.threshold)
    gone = {3, 50, 77, 120, 199}
    run = Run(world, {2: {3}, 3: gone, 5: {10, 11, *gone}})
    assert np.array_equal(run.finish(), world.sum_of(set(range(200)) - gone))
    assert not both_shared(run.revealed)


def test_a_masked_vector_looks_like_chance() -> None:
    world = World(4, length=1 << 16)
    world.vectors = [np.zeros(1 << 16, np.uint32)] * 4
    run = Run(world)
    sent = []
    taken = run.server.masked
    run.server.masked = lambda m: (sent.append(m.words.copy()), taken(m))[1]  # type: ignore
    run.to_vectors()
    for words in sent:
        counts = np.bincount(words.view(np.uint8), minlength=256)
        expected = words.nbytes / 256
        chi_squared = float(((counts - expected) ** 2 / expected).sum())
        assert 150 < chi_squared < 400, "255 degrees of freedom"


def test_a_site_that_shares_another_seed_than_it_committed_to_is_found() -> None:
    world = World(4)
    run = Run(world)
    cheat = run.clients[2]
    run.server.advertised(cheat.advertise())
    cheat._seed = b"x" * 32
    for site in (0, 1, 3):
        run.server.advertised(run.clients[site].advertise())
    told = run.server.introductions()
    for site in range(4):
        run.server.shared(site, run.clients[site].share(told[site]))
    deliveries = run.server.deliveries()
    for site in range(4):
        run.server.masked(run.clients[site].mask(deliveries[site], world.vectors[site]))
    survivors = run.server.survivors()
    for site in range(4):
        run.server.confirmed(run.clients[site].confirm(survivors[site]))
    for client in run.clients:
        run.server.revealed(client.unmask(run.server.confirmations()))
    with pytest.raises(
        DocumentError, match="site-002 shared another secret than the one it committed"
    ):
        run.server.total()


def unmasked_with(lies: Mapping[int, Collection[int]], sites: int = 7, lost: int = 0) -> Run:
    """Run a sum in which sites, by the owners of the secrets, send wrong shares at the end."""
    run = Run(World(sites), {5: range(sites - lost, sites)})
    run.to_vectors()
    survivors = run.server.survivors()
    for site in run.still(4):
        run.server.confirmed(run.clients[site].confirm(survivors[site]))
    for site in run.still(5):
        said = run.clients[site].unmask(run.server.confirmations())
        seeds = {
            owner: share[:-1] + bytes([share[-1] ^ 1]) if owner in lies.get(site, ()) else share
            for owner, share in said.seeds.items()
        }
        run.server.revealed(replace(said, seeds=seeds))
    return run


@pytest.mark.parametrize("liar", range(7))
def test_one_that_sends_wrong_shares_is_named_and_the_sum_is_right_all_the_same(liar: int) -> None:
    run = unmasked_with({liar: range(7)})
    assert np.array_equal(run.server.total(), run.world.sum_of(range(7)))
    # Of the first five of seven, whose shares are tried first, each liar is seen.
    named = {sender for sender, _ in run.server.wrong_shares()}
    assert named == ({f"site-{liar:03}"} if liar < 5 else set())


def test_a_wrong_share_of_one_secret_is_said_with_both_that_can_have_made_it() -> None:
    run = unmasked_with({1: [4]})
    assert np.array_equal(run.server.total(), run.world.sum_of(range(7)))
    assert run.server.wrong_shares() == [("site-001", "site-004")]


def test_with_no_share_to_spare_a_wrong_one_ends_the_sum_and_says_who_may_have_sent_it() -> None:
    run = unmasked_with({1: [4]}, lost=2)
    with pytest.raises(DocumentError, match=r"shares of site-004's secret.*site-001") as said:
        run.server.total()
    assert "site-005" not in str(said.value)


def test_the_server_takes_nothing_that_does_not_belong() -> None:
    world = World(4)
    run = Run(world)
    advertised = [client.advertise() for client in run.clients]
    with pytest.raises(DocumentError):
        run.server.advertised(replace(advertised[0], mask_key=advertised[1].mask_key))
    with pytest.raises(DocumentError):
        run.server.advertised(replace(advertised[0], sender=9))
    for one in advertised:
        run.server.advertised(one)
    told = run.server.introductions()
    shares = run.clients[0].share(told[0])
    with pytest.raises(DocumentError):
        run.server.shared(0, shares[1:])
    with pytest.raises(DocumentError):
        run.server.shared(0, [EncryptedShares(3, s.receiver, s.ciphertext) for s in shares])


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 2},
        {"threshold": 5},
        {"minimum": 1},
        {"minimum": 2},
        {"word": 24},
        {"length": 0},
        {"session": b"short"},
        {"degree": 2, "threshold": 3},
    ],
)
def test_terms_that_would_not_protect_are_no_terms(changes: dict[str, object]) -> None:
    terms = World(4).terms
    with pytest.raises(DocumentError):
        replace(terms, **changes)  # type: ignore[arg-type]


def test_two_sites_can_not_have_one_key_or_one_name() -> None:
    terms = World(4).terms
    first, second, *others = terms.participants
    for pair in (
        (first, replace(second, key=first.key)),
        (first, replace(second, name="site-000")),
    ):
        with pytest.raises(DocumentError):
            replace(terms, participants=(*pair, *others))


def test_a_degree_for_few_sites_is_refused() -> None:
    with pytest.raises(DocumentError):
        degree(20, 0.2, 0.1)
    assert isinstance(Server(World(5).terms).terms, Terms)
