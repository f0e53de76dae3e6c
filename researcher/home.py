"""A researcher's folder: key, transport identity, and what is believed of the consortium."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from contract import wire_pb2 as wire
from contract.documents import Roster
from contract.envelope import MAX_ENVELOPE_BYTES, Envelope
from contract.errors import DocumentError, InvitationError, NotFound, SignatureError
from contract.keys import SigningKey
from contract.trust import TrustedDocuments
from foundation import rpc, transport
from foundation.files import private_folder, read_bounded, write_durably, write_new
from foundation.invitations import Invitation

_DIGEST = re.compile(r"^[0-9a-f]{64}$")
DEFAULT_HOME = Path("~/.wardgate/researcher")


class Place(BaseModel):
    """Where the consortium is and who we are there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    consortium: str
    name: str
    address: str


@dataclass(frozen=True)
class ResearcherHome:
    """The folder of one researcher in one consortium."""

    root: Path

    @property
    def place_file(self) -> Path:
        """Consortium, name and address as JSON."""
        return self.root / "place.json"

    @property
    def roster_file(self) -> Path:
        """The roster believed last."""
        return self.root / "roster.dsse.json"

    @property
    def key_file(self) -> Path:
        """The key that signs jobs."""
        return self.root / "researcher.key"

    @property
    def jobs(self) -> Path:
        """Questions whose answers are to be fetched later, as they were signed."""
        return self.root / "jobs"

    def keep_job(self, digest: str, envelope: bytes) -> None:
        """Keep a question until its answer is read."""
        write_durably(private_folder(self.jobs) / f"{digest}.json", envelope)

    def kept_job(self, digest: str) -> bytes:
        """Return a question that was kept; ``NotFound`` when there is none."""
        if not _DIGEST.match(digest):
            raise NotFound("A job is called by 64 hexadecimal digits.")
        return read_bounded(self.jobs / f"{digest}.json", MAX_ENVELOPE_BYTES)

    @property
    def identity(self) -> transport.TransportIdentity:
        """The TLS identity."""
        return transport.TransportIdentity(self.root)

    def place(self) -> Place:
        """Return where we are; ``NotFound`` before joining."""
        if not self.place_file.exists():
            raise NotFound(f"{self.root} holds no researcher; run 'wardgate join INVITATION'.")
        try:
            return Place.model_validate_json(read_bounded(self.place_file, 65536))
        except ValidationError:
            raise DocumentError(f"{self.place_file} is damaged; join again.") from None

    def key(self) -> SigningKey:
        """Return the key that signs jobs."""
        return SigningKey.from_pem(read_bounded(self.key_file, transport.MAX_PEM_BYTES))

    def trusted(self, documents: wire.Documents, now: datetime) -> TrustedDocuments:
        """Return what is to be believed of ``documents``, going on from the roster known before.

        The first roster is taken as it comes over the authenticated connection: a researcher has
        no steward. A later one must be signed by a threshold of the former's stewards.
        """
        place = self.place()
        known = self.roster_file.read_bytes() if self.roster_file.exists() else b""
        first = known or documents.roster
        if not first:
            raise NotFound("The consortium has no roster yet; its stewards must sign one first.")
        envelope = Envelope.parse(first)
        trusted = TrustedDocuments(place.consortium, anchor=envelope.digest)
        # Who may sign the next roster doesn't change by this one's expiring.
        trusted.update_roster(first, Roster.read(envelope.body).issued_at if known else now)
        if documents.roster:
            trusted.update_roster(documents.roster, now)
        trusted.current_roster(now)
        if trusted.roster is not None and trusted.roster.envelope != known:
            write_durably(self.roster_file, trusted.roster.envelope)
        for project in documents.projects:
            try:
                trusted.update_project(project, now)
            except (DocumentError, SignatureError):
                continue
        return trusted


def join(home: ResearcherHome, invitation: Invitation, address: str | None, now: datetime) -> None:
    """Make keys, exchange the one-time invitation for a certificate, and keep both."""
    if invitation.role != "researcher":
        raise InvitationError("The invitation is for a site; use 'wardgate-node join'.")
    if now >= invitation.expires_at:
        raise InvitationError("The invitation has expired; ask for a new one.")
    private_folder(home.root)
    if not home.key_file.exists():
        write_new(home.key_file, SigningKey.generate().to_pem())
    signing = home.key()
    tls_key = transport.new_private_key()
    request = transport.certificate_request(tls_key, invitation.name)
    target = address or invitation.address
    credentials = transport.channel_credentials(
        invitation.authority_pem.encode(),
        invitation.key_pem.encode(),
        invitation.certificate_pem.encode(),
    )
    try:
        token = bytes.fromhex(invitation.token)
    except ValueError:
        raise InvitationError("The invitation was changed.") from None
    with rpc.calling(target, credentials) as stub:
        reply = stub.Enrol(
            wire.EnrolRequest(
                token=token,
                name=invitation.name,
                csr=request,
                signing_key=signing.public,
                proof=signing.sign(request),
            ),
            timeout=30,
        )
    home.identity.save(
        transport.private_key_pem(tls_key), reply.certificate, invitation.authority_pem.encode()
    )
    place = Place(consortium=invitation.consortium, name=invitation.name, address=target)
    write_durably(home.place_file, place.model_dump_json().encode())
