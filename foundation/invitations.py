"""The invitation file: what a coordinator hands to a hospital or a researcher to join with.

It carries a one-time secret and a one-time ``enrol`` certificate, so it travels as any password
does: by a channel of its own, once. The authority's fingerprint should come by another.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from contract.documents import Name
from contract.errors import CertificateError, InvitationError
from foundation.files import read_bounded
from foundation.transport import fingerprint

MAX_INVITATION_BYTES = 64 * 1024


class Invitation(BaseModel):
    """One invitation. ``token`` is hexadecimal; the three ``*_pem`` are text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    consortium: Name
    role: Literal["site", "researcher"]
    name: Name
    address: str
    expires_at: AwareDatetime
    token: str
    authority_pem: str
    certificate_pem: str
    key_pem: str

    @classmethod
    def read(cls, path: Path) -> Invitation:
        """Read an invitation file; ``InvitationError`` when it is none."""
        try:
            return cls.model_validate_json(read_bounded(path, MAX_INVITATION_BYTES))
        except ValidationError:
            raise InvitationError(f"{path} is not an invitation, or was changed.") from None

    @property
    def authority_fingerprint(self) -> str:
        """SHA-256 of the authority's certificate, 64 hexadecimal digits."""
        return fingerprint(self.authority_pem.encode())

    def check_authority(self, expected: str) -> None:
        """Raise ``CertificateError`` unless the authority has the fingerprint ``expected``."""
        wanted = expected.replace(":", "").replace(" ", "").lower()
        if not hmac.compare_digest(wanted.encode(), self.authority_fingerprint.encode()):
            raise CertificateError(
                "The invitation's authority has another fingerprint than the one given; "
                "nothing was sent. Ask the coordinator for both again, by separate channels."
            )
