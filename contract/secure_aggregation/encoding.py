"""A secure sum's messages on the wire, and back. What is malformed is a ``DocumentError``."""

from __future__ import annotations

import numpy as np
from google.protobuf.message import DecodeError

from contract import wire_pb2 as wire
from contract.errors import DocumentError
from contract.secure_aggregation.masking import Words
from contract.secure_aggregation.messages import (
    Advertisement,
    Confirmation,
    EncryptedShares,
    Introduction,
    MaskedVector,
    Revealed,
    Survivors,
)

Answer = Advertisement | tuple[EncryptedShares, ...] | MaskedVector | Confirmation | Revealed
"""What a site says in its five steps."""


def step(payload: bytes) -> wire.SumStep:
    """Return a step as a site was told it."""
    try:
        message = wire.SumStep.FromString(payload)
    except DecodeError:
        raise DocumentError("A step of a secure sum is malformed.") from None
    if message.WhichOneof("step") is None:
        raise DocumentError("A step of a secure sum is of an unknown kind.")
    return message


def introduction(message: wire.SumKeysOfAll) -> Introduction:
    """Return the keys of all."""
    return Introduction(tuple(_keys(keys) for keys in message.keys))


def encode_introduction(value: Introduction) -> wire.SumStep:
    """Return the keys of all as a step."""
    keys = [_encode_keys(one) for one in value.advertisements]
    return wire.SumStep(keys=wire.SumKeysOfAll(keys=keys))


def shares(message: wire.SumSharesOfAll) -> tuple[EncryptedShares, ...]:
    """Return shares that go to or come from one site."""
    return tuple(EncryptedShares(s.sender, s.receiver, s.ciphertext) for s in message.shares)


def encode_shares(
    values: tuple[EncryptedShares, ...] | list[EncryptedShares],
) -> wire.SumSharesOfAll:
    """Return shares as a message."""
    return wire.SumSharesOfAll(
        shares=[
            wire.SumShares(sender=s.sender, receiver=s.receiver, ciphertext=s.ciphertext)
            for s in values
        ]
    )


def confirmations(message: wire.SumConfirmations) -> list[Confirmation]:
    """Return who confirmed."""
    return [Confirmation(c.sender, c.signature) for c in message.confirmations]


def encode_confirmations(values: list[Confirmation]) -> wire.SumStep:
    """Return who confirmed, as a step."""
    said = [wire.SumConfirmation(sender=c.sender, signature=c.signature) for c in values]
    return wire.SumStep(confirmations=wire.SumConfirmations(confirmations=said))


def encode_survivors(value: Survivors) -> wire.SumStep:
    """Return whose vectors came, as a step."""
    return wire.SumStep(survivors=wire.SumSurvivors(members=value.members))


def encode_answer(answer: Answer) -> wire.SumReply:
    """Return what a site says."""
    match answer:
        case Advertisement():
            return wire.SumReply(keys=_encode_keys(answer))
        case tuple():
            return wire.SumReply(shares=encode_shares(answer))
        case MaskedVector():
            little = answer.words.astype(answer.words.dtype.newbyteorder("<"), copy=False)
            return wire.SumReply(words=little.tobytes())
        case Confirmation():
            said = wire.SumConfirmation(sender=answer.sender, signature=answer.signature)
            return wire.SumReply(confirmation=said)
        case Revealed():
            return wire.SumReply(
                revealed=wire.SumRevealed(
                    sender=answer.sender,
                    keys=[wire.SumShare(owner=o, share=s) for o, s in answer.keys.items()],
                    seeds=[wire.SumShare(owner=o, share=s) for o, s in answer.seeds.items()],
                )
            )


def answer(payload: bytes, sender: int, word: int) -> Answer:
    """Return what the site at place ``sender`` said; its own place must be in it."""
    try:
        message = wire.SumReply.FromString(payload)
    except DecodeError:
        raise DocumentError("An answer in a secure sum is malformed.") from None
    said: Answer
    match message.WhichOneof("step"):
        case "keys":
            said = _keys(message.keys)
        case "shares":
            said = shares(message.shares)
            if any(s.sender != sender for s in said):
                raise DocumentError("A site sent another's shares.")
            return said
        case "words":
            said = MaskedVector(sender, _words(message.words, word))
        case "confirmation":
            said = Confirmation(message.confirmation.sender, message.confirmation.signature)
        case "revealed":
            revealed = message.revealed
            said = Revealed(
                revealed.sender,
                {s.owner: s.share for s in revealed.keys},
                {s.owner: s.share for s in revealed.seeds},
            )
        case _:
            raise DocumentError("An answer in a secure sum is of an unknown kind.")
    if said.sender != sender:
        raise DocumentError("A site spoke for another in a secure sum.")
    return said


def _words(data: bytes, word: int) -> Words:
    if len(data) % (word // 8):
        raise DocumentError("A masked vector has another form than the terms.")
    return np.frombuffer(data, np.dtype(f"<u{word // 8}")).astype(np.dtype(f"u{word // 8}"))


def _keys(message: wire.SumKeys) -> Advertisement:
    return Advertisement(
        message.sender,
        message.channel_key,
        message.mask_key,
        message.commitment,
        message.signature,
    )


def _encode_keys(value: Advertisement) -> wire.SumKeys:
    return wire.SumKeys(
        sender=value.sender,
        channel_key=value.channel_key,
        mask_key=value.mask_key,
        commitment=value.commitment,
        signature=value.signature,
    )
