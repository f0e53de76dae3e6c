"""Whatever a server changes, drops, delays or repeats, it learns one sum at most."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar, TypeVarTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.errors import Refused, WardgateError
from contract.secure_aggregation.messages import Confirmation, Introduction, Survivors
from tests.contract.secure_aggregation.simulation import Run, World, both_shared, seeded
from tests.contract.secure_aggregation.transcript import Transcript

A = TypeVarTuple("A")
R = TypeVar("R")
T = TypeVar("T")


def introduced(run: Run) -> Introduction:
    for client in run.clients:
        run.server.advertised(client.advertise())
    return run.server.introductions()[0]


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        (lambda i: replace(i, advertisements=(*i.advertisements, i.advertisements[1])), "keys"),
        (lambda i: replace(i, advertisements=i.advertisements[:3]), "too-few-sites"),
        (
            lambda i: replace(
                i, advertisements=(*i.advertisements[1:], replace(i.advertisements[0], sender=9))
            ),
            "keys",
        ),
        (
            lambda i: replace(
                i,
                advertisements=(
                    *i.advertisements[:4],
                    replace(i.advertisements[4], channel_key=i.advertisements[3].channel_key),
                ),
            ),
            "keys",
        ),
        (
            lambda i: replace(
                i,
                advertisements=(
                    replace(i.advertisements[0], mask_key=bytes(32)),
                    *i.advertisements[1:],
                ),
            ),
            "keys",
        ),
    ],
)
def test_keys_that_are_not_as_they_should_be_end_the_sum(
    lie: Callable[[Introduction], Introduction], code: str
) -> None:
    run = Run(World(5))
    with pytest.raises(Refused) as refused:
        run.clients[0].share(lie(introduced(run)))
    assert refused.value.code == code
    with pytest.raises(Refused):
        run.clients[0].share(run.server.introductions()[0])


def test_shares_that_were_changed_end_the_sum() -> None:
    world = World(4)
    run = Run(world)
    told = introduced(run)
    for site in range(4):
        run.server.shared(site, run.clients[site].share(told))
    deliveries = run.server.deliveries()
    changed = deliveries[0][0]
    bent = bytes([changed.ciphertext[0] ^ 1]) + changed.ciphertext[1:]
    deliveries[0][0] = replace(changed, ciphertext=bent)
    for site in range(4):
        run.server.masked(run.clients[site].mask(deliveries[site], world.vectors[site]))
    survivors = run.server.survivors()
    for site in range(4):
        run.server.confirmed(run.clients[site].confirm(survivors[site]))
    with pytest.raises(Refused, match="changed on their way"):
        run.clients[0].unmask(run.server.confirmations())


@pytest.mark.parametrize(
    "members", [(1, 2, 3), (0, 1, 2, 3, 4, 7), (0, 2, 1, 3, 4), (0, 0, 1, 2, 3), (0, 1)]
)
def test_a_list_of_survivors_that_does_not_fit_ends_the_sum(members: tuple[int, ...]) -> None:
    run = Run(World(5))
    run.to_vectors()
    with pytest.raises(Refused):
        run.clients[0].confirm(Survivors(members))


def test_a_vector_of_another_form_ends_the_sum() -> None:
    for wrong in (np.zeros(49, np.uint32), np.zeros(50, np.uint64)):
        run = Run(World(4))
        told = introduced(run)
        for site in range(4):
            run.server.shared(site, run.clients[site].share(told))
        with pytest.raises(Refused):
            run.clients[0].mask(run.server.deliveries()[0], wrong)


# ---- any lies ------------------------------------------------------------------------------------


class Liar:
    """A server that drops, repeats, delays, swaps, tells different things and replays at random."""

    def __init__(self, seed: str, often: float) -> None:
        self.often = often
        self.chance = seeded(seed)
        world = World(self.chance.randint(4, 7), length=8)
        self.everyone = range(world.sites)
        world.session = b"e" * 32
        self.earlier = Earlier(world)
        world.session = b"s" * 32
        self.world, self.run = world, Run(world)
        most = 2 * world.terms.threshold - world.sites - 1
        corrupt = self.chance.sample(self.everyone, self.chance.randint(0, most))
        self.saw = Transcript(self.run, corrupt)

    def lies(self) -> bool:
        return self.chance.random() < self.often

    def some(self, of: Iterable[T]) -> list[T]:
        return [one for one in of if not self.lies()]

    def delayed(self, of: Iterable[T]) -> tuple[list[T], list[T]]:
        """Return what comes in its step, and what comes later."""
        late: list[T] = []
        return [one for one in of if not (self.lies() and (late.append(one) or True))], late

    def lead(self) -> None:
        """Take every step."""
        clients, server, lies, some = self.run.clients, self.run.server, self.lies, self.some
        advertised = [client.advertise() for client in clients]
        told = [replace(a, mask_key=self.chance.randbytes(32)) if lies() else a for a in advertised]
        told = [self.earlier.advertised[a.sender] if lies() else a for a in told]
        now, late = self.delayed(told)
        for message in now:
            attempt(server.advertised, message)
        introductions = attempt(server.introductions)
        for message in late:
            attempt(server.advertised, message)
        for introduced in introductions:
            for site in some(sorted(introduced)):
                found = introduced[site].advertisements
                kept = tuple(some(found)) if lies() else found
                for shares in attempt(
                    clients[site].share, replace(introduced[site], advertisements=kept)
                ):
                    self.saw.shared(shares)
                    attempt(server.shared, site, shares)
        late_vectors = []
        for deliveries in attempt(server.deliveries):
            for site in some(deliveries):
                given = some(deliveries[site])
                given += given[:1] if lies() else []
                if lies():
                    given = [self.earlier.shares.get((g.sender, site), g) for g in given]
                for masked in attempt(clients[site].mask, given, self.world.vectors[site]):
                    self.saw.masked(masked, given)
                    if lies():
                        late_vectors.append(masked)
                    else:
                        attempt(server.masked, self.earlier.masked[site] if lies() else masked)
        confirmed: list[Confirmation] = []
        for survivors in attempt(server.survivors):
            for masked in late_vectors:
                attempt(server.masked, masked)
            for site, said in survivors.items():
                members = tuple(some(said.members)) if lies() else said.members
                confirmed += attempt(clients[site].confirm, Survivors(members))
        for client in clients:
            heard = some(confirmed)
            if lies():
                heard = [self.earlier.confirmed.get(c.sender, c) for c in heard]
            for revealed in attempt(client.unmask, heard):
                self.run.revealed.append(revealed)
                self.saw.revealed(revealed)
        for revealed in (*some(self.run.revealed), *(self.earlier.revealed if lies() else ())):
            attempt(server.revealed, revealed)

    def has_kept_to_it(self) -> bool:
        """Say whether the masks in the total are those that the server takes out of it."""
        server, given = self.run.server, self.saw.given
        gone = set(server._shared) - server._vectors
        return self.replayed_none() and all(
            given[site] - server._vectors == gone
            and {o for o in server._vectors if o != site and site in given[o]}
            == given[site] & server._vectors
            for site in server._vectors
        )

    def replayed_none(self) -> bool:
        """Say whether the total is of this sum's vectors."""
        total = sum(
            (self.saw.words[site] for site in self.run.server._vectors),
            start=self.world.vectors[0] * 0,
        )
        return bool(np.array_equal(total, self.run.server._total))


class Earlier:
    """All that was said in an honest sum of the same sites."""

    def __init__(self, world: World) -> None:
        run = Run(world)
        self.advertised = [client.advertise() for client in run.clients]
        for message in self.advertised:
            run.server.advertised(message)
        told = run.server.introductions()
        for site, client in enumerate(run.clients):
            run.server.shared(site, client.share(told[site]))
        deliveries = run.server.deliveries()
        self.shares = {(s.sender, s.receiver): s for sent in deliveries.values() for s in sent}
        self.masked = [
            client.mask(deliveries[site], world.vectors[site])
            for site, client in enumerate(run.clients)
        ]
        survivors = Survivors(tuple(range(world.sites)))
        confirmed = [client.confirm(survivors) for client in run.clients]
        self.confirmed = {said.sender: said for said in confirmed}
        self.revealed = [client.unmask(confirmed) for client in run.clients]


def attempt(step: Callable[[*A], R], *given: *A) -> list[R]:
    """Take a step; nothing comes of it when an honest site or the server ends its part."""
    try:
        return [step(*given)]
    except WardgateError:
        return []


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**9), lies=st.sampled_from([0.01, 0.05, 0.15]))
def test_under_any_lies_no_more_than_one_sum_is_learned_of_enough_sites(
    seed: int, lies: float
) -> None:
    liar = Liar(f"{lies} {seed}", lies)
    liar.lead()
    assert not both_shared(liar.run.revealed)
    least = liar.world.terms.minimum - len(liar.saw.corrupt)
    learned = liar.saw.learned()
    assert len(learned) <= 1
    for part in learned:
        assert len(part) >= least
        assert np.array_equal(liar.saw.sum_over(part), liar.world.sum_of(part))
    # The server's own total is that over its survivors, if it brought no mask in that it forgot.
    kept = liar.has_kept_to_it()
    survivors = liar.run.server._vectors
    for total in attempt(liar.run.server.total) if survivors else ():
        assert np.array_equal(total, liar.world.sum_of(survivors)) is kept
        assert not kept or learned == [survivors - set(liar.saw.corrupt)]


@pytest.mark.parametrize("lies", [0.0, 0.02])
def test_what_is_worked_out_of_a_transcript_is_the_sum_where_there_is_one(lies: float) -> None:
    """Else the property above might hold for want of any sum."""
    sums = 0
    for seed in range(8):
        liar = Liar(str(seed), lies)
        liar.lead()
        sums += len(liar.saw.learned())
    assert sums == 8 if not lies else 0 < sums < 8


def test_a_transcript_with_both_shares_of_a_site_gives_it_away() -> None:
    """The oracle sees it, where too many sites work with the server."""
    liar = Liar("0", 0.0)
    liar.saw.corrupt = range(1, 1 + liar.world.terms.threshold)
    liar.lead()
    assert {0} in liar.saw.learned()
    assert np.array_equal(liar.saw.sum_over({0}), liar.world.vectors[0])
