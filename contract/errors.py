"""The one tree of errors, each with the exit code that a command ends with.

A message says what happened, to what, and what to do next. It never carries a patient's data.
"""

from __future__ import annotations

from typing import ClassVar


class WardgateError(Exception):
    """Something Wardgate can explain in one line."""

    exit_code: ClassVar[int] = 1


class UsageError(WardgateError):
    """The command's own arguments don't fit together."""

    exit_code = 2


class ConfigurationError(WardgateError):
    """A configuration or policy file is missing, unreadable or has an unknown key."""

    exit_code = 3


class InvitationError(WardgateError):
    """An invitation is used, expired, tampered with or meant for another site."""

    exit_code = 4


class CertificateError(WardgateError):
    """A certificate is revoked, expired, or not from the authority that was expected."""

    exit_code = 5


class SignatureError(WardgateError):
    """A signed document has a bad signature or too few of them."""

    exit_code = 6


class DocumentError(WardgateError):
    """A signed document is malformed, past its validity, older than a known one, or a replay."""

    exit_code = 7


class Refused(WardgateError):
    """A gate refused: the question may not be asked or the answer may not leave.

    ``code`` is the stable name of the rule's objection; the message is its one sentence.
    """

    exit_code = 8

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class DataError(WardgateError):
    """Input data doesn't fit its declared schema or can't be read."""

    exit_code = 9


class Unavailable(WardgateError):
    """A peer or a port can't be reached or used now; trying again later may work."""

    exit_code = 10


class StorageError(WardgateError):
    """A disk is full, or a file that must be written can't be."""

    exit_code = 11


class LedgerError(WardgateError):
    """The ledger doesn't verify: it was edited, cut or rolled back."""

    exit_code = 12


class SandboxError(WardgateError):
    """The sandbox isn't in force, so no code from outside may run."""

    exit_code = 13


class NotFound(WardgateError):
    """Something named doesn't exist here."""

    exit_code = 14


class AlreadyExists(WardgateError):
    """Something would be overwritten, and isn't."""

    exit_code = 15


class JobFailed(WardgateError):
    """A job ended without a result."""

    exit_code = 16


def exit_codes() -> dict[int, type[WardgateError]]:
    """Return every documented exit code with the error that it stands for."""
    found: dict[int, type[WardgateError]] = {WardgateError.exit_code: WardgateError}
    for error in WardgateError.__subclasses__():
        if error.__module__ == __name__:
            found[error.exit_code] = error
    return dict(sorted(found.items()))
