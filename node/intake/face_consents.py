"""Whose face may stay: what the manifest says, and what the catalogue knows of consents.

Guarantee: a face stays only if the manifest says so, or a consent in the catalogue that covers
faces is in force today; and never when the subject withdrew. Assumption: the manifest names the
patient under whose number consents and withdrawals were recorded.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from node.catalog.consents import FACES, Consents
from node.deid.pseudonyms import Pseudonyms
from node.intake.manifest import Listed


class FaceConsents:
    """Decides for the lines of a manifest; asks the catalogue once for each patient and day."""

    def __init__(self, consents: Consents, pseudonyms: Pseudonyms) -> None:
        self._consents = consents
        self._pseudonyms = pseudonyms
        self._known: dict[tuple[str, bool, date], bool] = {}

    def applied(self, listed: Listed, today: date) -> Listed:
        """Return the line as it counts."""
        asked = listed.patient, listed.consent_faces, today
        if asked not in self._known:
            self._known[asked] = self._may_stay(*asked)
        return replace(listed, consent_faces=self._known[asked])

    def _may_stay(self, patient: str, is_listed: bool, today: date) -> bool:
        subject = self._pseudonyms.subject(patient)
        if is_listed:
            return not self._consents.withdrew(subject)
        return self._consents.allows(subject, FACES, today)
