"""Whatever a server changes, drops or repeats, an honest site ends the sum and says why."""

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


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**9))
def test_under_any_lies_the_sum_is_exact_or_there_is_none_and_nobody_is_unmasked(
    seed: int,
) -> None:
    """A server that drops, repeats, swaps and tells different things at random, at every step."""
    chance = seeded(str(seed))
    world = World(chance.randint(4, 7), length=8)
    run = Run(world)
    everyone = range(world.sites)

    def lies() -> bool:
        return chance.random() < 0.15

    def some(of: Iterable[T]) -> list[T]:
        return [one for one in of if not lies()]

    def attempt(step: Callable[[*A], R], *given: *A) -> list[R]:
        """Take a step; nothing comes of it when an honest site or the server ends its part."""
        try:
            return [step(*given)]
        except WardgateError:
            return []

    for site in everyone:
        message = run.clients[site].advertise()
        attempt(
            run.server.advertised,
            replace(message, mask_key=chance.randbytes(32)) if lies() else message,
        )
    for told in attempt(run.server.introductions):
        for site in some(sorted(told)):
            kept = some(told[site].advertisements) if lies() else told[site].advertisements
            for shares in attempt(
                run.clients[site].share, replace(told[site], advertisements=tuple(kept))
            ):
                attempt(run.server.shared, site, shares)
    for deliveries in attempt(run.server.deliveries):
        for site in some(deliveries):
            given = some(deliveries[site])
            given += given[:1] if lies() else []
            for masked in attempt(run.clients[site].mask, given, world.vectors[site]):
                attempt(run.server.masked, masked)
    confirmed: list[Confirmation] = []
    for survivors in attempt(run.server.survivors):
        for site, said in survivors.items():
            members = tuple(some(said.members)) if lies() else said.members
            confirmed += attempt(run.clients[site].confirm, Survivors(members))
    for client in run.clients:
        run.revealed += attempt(client.unmask, some(confirmed))
    assert not both_shared(run.revealed)
    for revealed in run.revealed:
        attempt(run.server.revealed, revealed)
    agreed = all(len(client._known) == world.sites for client in run.clients)
    if agreed and run.server._vectors == set(everyone):
        for total in attempt(run.server.total):
            assert np.array_equal(total, world.sum_of(everyone))
