"""A model's way out of its consortium: a request that each contributing site's steward signs.

The payload of a DSSE envelope. A steward goes on the roster under the name of the site. A finished
model may leave when, for each site that contributed to it, the steward of that name signed, on the
roster in force; a threshold of stewards is not enough here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from contract.documents import Document, Line, Name, Roster, Sha256
from contract.envelope import Envelope
from contract.errors import DocumentError, SignatureError
from contract.membership import MembershipReport

MODEL_RELEASE_TYPE = "application/vnd.wardgate.model-release+json"


class ModelRelease(Document):
    """A finished model, by the SHA-256 of its safetensors, and to whom it is to go and why.

    ``sites`` are those whose updates are in it. ``report`` is what membership inference measured.
    """

    project: Name
    job: Sha256
    model: Sha256
    model_bytes: Annotated[int, Field(ge=1)]
    sites: Annotated[tuple[Name, ...], Field(min_length=1, max_length=1024)]
    researcher: Name
    recipient: Line
    report: MembershipReport


def read(data: bytes) -> tuple[Envelope, ModelRelease]:
    """Return a request, its signatures unchecked; ``DocumentError`` when it is none."""
    envelope = Envelope.parse(data)
    if envelope.payloadType != MODEL_RELEASE_TYPE:
        raise DocumentError("The file is no request to release a model.")
    return envelope, ModelRelease.read(envelope.body)


def unsigned(data: bytes, roster: Roster) -> list[str]:
    """Return the contributing sites whose steward hasn't signed, in the request's order."""
    envelope, release = read(data)
    keys = {steward.name: steward.key_id for steward in roster.stewards}
    signers = envelope.signers(roster.steward_keys)
    return [site for site in release.sites if keys.get(site) not in signers]


def verify(data: bytes, roster: Roster, contributed: frozenset[str], now: datetime) -> ModelRelease:
    """Return the release if every site that contributed released the model.

    ``contributed``: the sites with a receipt for the job. Errors: ``SignatureError`` names who is
    missing; ``DocumentError`` when the request is expired, or leaves out a site.
    """
    _, release = read(data)
    if release.consortium != roster.consortium:
        raise DocumentError("The release is of another consortium.")
    release.check_validity(now)
    left_out = sorted(contributed - set(release.sites))
    if left_out:
        raise DocumentError(f"The release leaves out who contributed: {', '.join(left_out[:5])}.")
    missing = unsigned(data, roster)
    if missing:
        raise SignatureError(
            f"The model is not released: {', '.join(missing[:5])} of {len(release.sites)} sites "
            "have not signed."
        )
    return release
