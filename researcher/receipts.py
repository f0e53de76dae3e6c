"""Receipts as a researcher checks them: each signed by a site on the roster."""

from __future__ import annotations

from collections.abc import Sequence

from contract.errors import DocumentError, SignatureError
from contract.receipts import Receipt
from contract.trust import TrustedDocuments


def verify_receipts(envelopes: Sequence[bytes], trusted: TrustedDocuments) -> list[Receipt]:
    """Return the receipts; ``SignatureError`` for one that its site didn't sign."""
    if trusted.roster is None:
        raise DocumentError("No roster is known, so no receipt can be checked.")
    roster = trusted.roster.document
    return [Receipt.verify(data, roster) for data in envelopes]


def check_answered(receipts: Sequence[Receipt], answered: Sequence[str], job: str) -> None:
    """Raise ``SignatureError`` unless each site in an answer receipted something of this job."""
    receipted = {r.site for r in receipts if r.job == job}
    missing = [site for site in answered if site not in receipted]
    if missing:
        raise SignatureError(
            f"The coordinator counts sites without a receipt of theirs: {', '.join(missing[:5])}."
        )
