"""The pseudonym secret in a PKCS#11 token (OASIS PKCS #11 3.0), named by a URI (RFC 7512).

``pkcs11:token=wardgate;object=pseudonyms?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/etc/wardgate/pin``

The secret is a generic secret key that may sign by HMAC-SHA-256 and, if made here, can't be read
out. It derives the keys of ``Pseudonyms`` inside the token; they live in the node's memory alone.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from contract.errors import AlreadyExists, NotFound, StorageError, UsageError
from foundation.files import read_bounded
from node.deid.pseudonyms import KEY_BYTES, Pseudonyms, load_key

SCHEME = "pkcs11:"
_MOST_PIN_BYTES = 256
AskPin = Callable[[str], str]
"""Asks a person for the PIN of the token with this label."""


@dataclass(frozen=True)
class TokenKey:
    """Where a key is: a module, a token in it, an object in that."""

    module: str
    token: str
    object: str
    pin_source: str = ""


def parse_uri(text: str) -> TokenKey:
    """Return what a URI names; ``UsageError`` says what is missing. A PIN in it is refused."""
    path, _, query = text.removeprefix(SCHEME).partition("?")
    values = {
        name: unquote(value)
        for part in (*path.split(";"), *query.split("&"))
        for name, _, value in [part.partition("=")]
    }
    if "pin-value" in values:
        raise UsageError("A PIN in a command line can be read by others; use pin-source=FILE.")
    missing = [name for name in ("module-path", "token", "object") if not values.get(name)]
    if missing:
        raise UsageError(f"The pkcs11: URI has no {', '.join(missing)}.")
    source = values.get("pin-source", "").removeprefix("file://").removeprefix("file:")
    return TokenKey(values["module-path"], values["token"], values["object"], source)


def open_pseudonyms(key: str, ask: AskPin | None = None) -> Pseudonyms:
    """Return the pseudonyms under ``key``: a file of 32 bytes, or a pkcs11: URI.

    ``ask`` is used when the URI has no pin-source. ``NotFound``, ``StorageError``.
    """
    if not key.startswith(SCHEME):
        return Pseudonyms(load_key(Path(key).expanduser(), create=False))
    place = parse_uri(key)
    with _session(place, ask) as (pkcs11, session):
        found = _find(pkcs11, session, place)
        if found is None:
            raise NotFound(
                f"The token has no secret key {place.object!r}; make it with `key make`."
            )
        mechanism = pkcs11.Mechanism.SHA256_HMAC
        return Pseudonyms.of_token(lambda text: bytes(found.sign(text, mechanism=mechanism)))


def make_key(key: str, *, secret: bytes | None = None, ask: AskPin | None = None) -> Pseudonyms:
    """Make a new secret where ``key`` says, or put the given one there; return its pseudonyms.

    In a token it can't be read out afterwards. ``AlreadyExists`` when there is one.
    """
    secret = secrets.token_bytes(KEY_BYTES) if secret is None else secret
    if not key.startswith(SCHEME):
        from foundation.files import write_new

        write_new(Path(key).expanduser(), secret)
        return Pseudonyms(secret)
    place = parse_uri(key)
    with _session(place, ask, writes=True) as (pkcs11, session):
        if _find(pkcs11, session, place) is not None:
            raise AlreadyExists(f"The token has a secret key {place.object!r} already.")
        attribute = pkcs11.Attribute
        session.create_object(
            {
                attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
                attribute.KEY_TYPE: pkcs11.KeyType.GENERIC_SECRET,
                attribute.LABEL: place.object,
                attribute.TOKEN: True,
                attribute.PRIVATE: True,
                attribute.SENSITIVE: True,
                attribute.EXTRACTABLE: False,
                attribute.SIGN: True,
                attribute.VALUE: secret,
            }
        )
    return Pseudonyms(secret)


@contextlib.contextmanager
def _session(
    place: TokenKey, ask: AskPin | None, *, writes: bool = False
) -> Iterator[tuple[Any, Any]]:
    import pkcs11

    if place.pin_source:
        pin = _pin(Path(place.pin_source))
    elif ask is not None:
        pin = ask(place.token)
    else:
        raise UsageError("The pkcs11: URI needs pin-source=FILE, because nobody can be asked.")
    try:
        token = pkcs11.lib(place.module).get_token(token_label=place.token)
        with token.open(user_pin=pin, rw=writes) as session:
            yield pkcs11, session
    except pkcs11.exceptions.NoSuchToken:
        raise NotFound(f"The module has no token {place.token!r}.") from None
    except (pkcs11.exceptions.PinIncorrect, pkcs11.exceptions.PinInvalid):
        raise StorageError(f"The token {place.token!r} refuses the PIN.") from None
    except pkcs11.exceptions.PinLocked:
        raise StorageError(f"The token {place.token!r} is locked after wrong PINs.") from None
    except (pkcs11.exceptions.PKCS11Error, RuntimeError) as error:
        raise StorageError(f"The token can't be used: {type(error).__name__}.") from None


def _pin(path: Path) -> str:
    text = read_bounded(path, _MOST_PIN_BYTES).decode().rstrip("\r\n")
    if path.stat().st_mode & 0o077:
        raise StorageError(f"{path} can be read by others; set its mode to 0600.")
    return text


def _find(pkcs11: Any, session: Any, place: TokenKey) -> Any | None:
    try:
        return session.get_key(object_class=pkcs11.ObjectClass.SECRET_KEY, label=place.object)
    except pkcs11.exceptions.NoSuchKey:
        return None
