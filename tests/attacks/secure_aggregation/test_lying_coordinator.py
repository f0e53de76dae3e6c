"""A coordinator that lies to learn one hospital's vector out of a secure sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contract.errors import Refused
from contract.secure_aggregation import Client, Terms, client, keys
from contract.secure_aggregation.masking import Words, add_mask
from contract.secure_aggregation.messages import (
    Advertisement,
    Confirmation,
    Introduction,
    MaskedVector,
    Revealed,
    Survivors,
)
from contract.secure_aggregation.sharing import SHARE_BYTES, Combiner
from tests.contract.secure_aggregation.simulation import Run, World, both_shared

ATTACKS = (
    (
        "Keys swapped on their way",
        "Bonawitz et al., CCS 2017, section 4; the aggregation that Flower 1.x ships",
        "a site signs its keys with its key on the stewards' roster",
        "test_keys_that_the_coordinator_swapped_are_refused",
    ),
    (
        "Two lists of survivors",
        "Bonawitz et al., CCS 2017, section 6.2",
        "sites sign the list, and give shares only when enough signed the same; off with it: a "
        "threshold above two thirds",
        "test_sites_that_are_told_different_lists_give_nothing",
    ),
    (
        "Both shares of one site",
        "Bonawitz et al., CCS 2017, section 6.2",
        "a site takes each step once, and gives one kind of share of each other",
        "test_a_site_asked_twice_gives_nothing_more",
    ),
    (
        "Keys of an earlier sum",
        "Bonawitz et al., CCS 2017, section 6.2",
        "keys are signed together with the sum's terms",
        "test_keys_of_an_earlier_sum_are_refused",
    ),
    (
        "A hospital alone among invented ones",
        "So et al., Securing secure aggregation, AAAI 2023",
        "a sum needs the policy's number of sites that the roster has; off with it: a threshold "
        "above two thirds",
        "test_a_site_alone_sends_nothing",
    ),
)
VICTIM = 0


def unmasked(message: MaskedVector, seed: bytes, masks: Mapping[int, bytes]) -> Words:
    """Return the victim's vector, with its own seed and those it shares with others."""
    words = message.words.copy()
    add_mask(words, seed, subtract=True)
    for other, shared in masks.items():
        add_mask(words, shared, subtract=other > VICTIM)
    return words


# ---- swapped keys ------------------------------------------------------------------------------


def swapped(world: World) -> Words:
    """Pose as every other site to the victim; return what is found to be its vector."""
    victim = world.clients()[VICTIM]
    digest = world.terms.digest
    own = victim.advertise()
    channels = {i: X25519PrivateKey.generate() for i in range(1, world.sites)}
    masks = {i: X25519PrivateKey.generate() for i in range(1, world.sites)}
    fakes = [
        Advertisement(
            i, channels[i].public_key().public_bytes_raw(),
            masks[i].public_key().public_bytes_raw(), bytes(32), bytes(64),
        )
        for i in channels
    ]  # fmt: skip
    sent = victim.share(Introduction((own, *fakes)))
    shares = {}
    for one in sent:
        key = keys.channel_key(
            channels[one.receiver], own.channel_key, digest, VICTIM, one.receiver
        )
        said = VICTIM.to_bytes(4, "big") + one.receiver.to_bytes(4, "big")
        plain = AESGCM(key).decrypt(bytes(12), one.ciphertext, said)
        shares[one.receiver + 1] = plain[SHARE_BYTES:]
    # Shares to itself go through the same channels; what is in them doesn't matter yet.
    delivered = [replace(one, sender=one.receiver, receiver=VICTIM) for one in sent]
    message = victim.mask(delivered, world.vectors[VICTIM])
    seed = Combiner(sorted(shares)[: world.terms.threshold]).combine(shares)
    return unmasked(
        message,
        seed,
        {
            i: keys.mask_seed(masks[i], own.mask_key, digest, VICTIM, i)
            for i in range(1, world.sites)
        },
    )


def test_keys_that_the_coordinator_swapped_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(5)
    world.threshold = 4
    with monkeypatch.context() as off:
        off.setattr(client, "verify", lambda *_: True)
        assert np.array_equal(swapped(world), world.vectors[VICTIM])
    with pytest.raises(Refused, match="not signed"):
        swapped(world)


# ---- two lists ---------------------------------------------------------------------------------


class LowThreshold(World):
    """A sum with the threshold of the variant for an honest server: half of the sites."""

    @property
    def terms(self) -> Terms:
        terms = super().terms
        object.__setattr__(terms, "threshold", 3)
        object.__setattr__(terms, "minimum", 3)
        return terms


def two_lists(world: World) -> list[Revealed]:
    """Tell half of the sites that the victim is gone and half that it isn't."""
    run = Run(world)
    run.to_vectors()
    everyone = tuple(range(world.sites))
    lists = {
        i: Survivors(everyone if i % 2 else tuple(o for o in everyone if o != VICTIM))
        for i in everyone[1:]
    }
    confirmed: dict[int, Confirmation] = {
        i: run.clients[i].confirm(said) for i, said in lists.items()
    }
    revealed: list[Revealed] = []
    refusals = []
    for i in lists:
        try:
            revealed.append(run.clients[i].unmask(list(confirmed.values())))
        except Refused as refusal:
            refusals.append(refusal)
    if not revealed:
        raise refusals[0]
    return revealed


def test_sites_that_are_told_different_lists_give_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With half of the sites as the threshold; above two thirds, no two lists have enough each."""
    world = LowThreshold(7)
    with monkeypatch.context() as off:
        off.setattr(Client, "_check_confirmed", lambda *_: None)
        revealed = two_lists(world)
        assert both_shared(revealed) == {VICTIM}
        gave_keys = [said for said in revealed if VICTIM in said.keys]
        gave_seeds = [said for said in revealed if VICTIM in said.seeds]
        assert min(len(gave_keys), len(gave_seeds)) >= world.terms.threshold
    with pytest.raises(Refused, match="different lists"):
        two_lists(world)


# ---- both shares -------------------------------------------------------------------------------


class Obliging(Client):
    """A site that takes a step as often as it is asked to."""

    def _begin(self, step: int) -> None:
        del step

    def _end(self) -> None:
        pass


def asked_twice(world: World, kind: type[Client]) -> list[Revealed]:
    """Ask one site for its shares under two lists of survivors."""
    run = Run(world)
    run.clients = world.clients(kind)
    run.to_vectors()
    everyone = tuple(range(world.sites))
    said = []
    for members in (everyone, everyone[1:]):
        confirmed = [one.confirm(Survivors(members)) for one in run.clients[1:]]
        said.append(run.clients[1].unmask(confirmed))
    return said


def test_a_site_asked_twice_gives_nothing_more() -> None:
    world = World(7)
    assert both_shared(asked_twice(world, Obliging)) == {VICTIM}
    with pytest.raises(Refused, match="order"):
        asked_twice(world, Client)


# ---- an earlier sum's keys ---------------------------------------------------------------------


def test_keys_of_an_earlier_sum_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(5)

    def replayed() -> int:
        world.session = b"1" * 32
        earlier = [one.advertise() for one in world.clients()]
        world.session = b"2" * 32
        victim = world.clients()[VICTIM]
        return len(victim.share(Introduction((victim.advertise(), *earlier[1:]))))

    def unbound(self: Advertisement, terms: Any) -> bytes:
        return self.channel_key + self.mask_key

    with monkeypatch.context() as off:
        off.setattr(Advertisement, "signed", unbound)
        assert replayed() == 4
    with pytest.raises(Refused, match="not signed"):
        replayed()


# ---- alone -------------------------------------------------------------------------------------


def alone(world: World, helper: int = 1) -> Words:
    """Let only the victim and a site that helps the coordinator take part."""
    clients = world.clients()
    both: Sequence[int] = (VICTIM, helper)
    advertised = tuple(clients[i].advertise() for i in both)
    sent = {i: clients[i].share(Introduction(advertised)) for i in both}
    messages = {
        i: clients[i].mask([s for o in both if o != i for s in sent[o]], world.vectors[i])
        for i in both
    }
    survivors = Survivors(tuple(both))
    confirmed = [clients[i].confirm(survivors) for i in both]
    revealed = [clients[i].unmask(confirmed) for i in both]
    total = messages[VICTIM].words + messages[helper].words
    for i in both:
        shares = {said.sender + 1: said.seeds[i] for said in revealed}
        seed = Combiner(sorted(shares)).combine(shares)
        add_mask(total, seed, subtract=True)
    return total - world.vectors[helper]


class OfTwo(World):
    """Terms that let two sites be a sum, as the coordinator would like."""

    @property
    def terms(self) -> Terms:
        terms = super().terms
        object.__setattr__(terms, "threshold", 2)
        return terms


def test_a_site_alone_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = OfTwo(6)
    with monkeypatch.context() as off:
        off.setattr(Client, "_check_number", lambda *_: None)
        assert np.array_equal(alone(world), world.vectors[VICTIM])
    with pytest.raises(Refused, match="Too few sites"):
        alone(world)
