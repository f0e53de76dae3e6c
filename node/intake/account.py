"""The operating-system account of intake, so that link and workers can't read what comes in.

``separate``, run once as root, gives each its own:

- the home belongs to root and its group; both accounts make files in it, neither can remove or
  rename the other's (set-group-ID and sticky, 3770);
- landing, quarantine, pulls and their keys, the pseudonym key and the receiver's tokens belong to
  the intake's user alone;
- the vault belongs to the intake's user, and the group reads it (2750, 0640); the catalogue is
  written by both (0660);
- all else (releases, ledger, identities, recipes, jobs) belongs to the node's user alone.

``enter`` is what a command of intake does first: started as root, it becomes the intake's user;
started as another user, it is refused.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contract.errors import ConfigurationError, UsageError
from foundation.files import PRIVATE_FOLDER, SECRET_MODE, SHARED_FOLDER, SHARED_MODE, storage_errors
from node.config import AccountSettings
from node.home import NodeHome

MEETING_FOLDER = 0o3770
BOTH_WRITE = 0o660


@dataclass(frozen=True)
class Account:
    """A user, and the group that it shares with the node's."""

    uid: int
    gid: int


def account(settings: AccountSettings) -> Account | None:
    """Return the account that the settings name (by name or number), or None without one."""
    if not settings.user:
        if settings.group:
            raise ConfigurationError("account.group needs account.user.")
        return None
    uid = _number(settings.user)
    gid = _number(settings.group) if settings.group else None
    try:
        found = None if uid is not None and gid is not None else _user(settings.user, uid)
        if uid is None:
            assert found is not None
            uid = found.pw_uid
        if gid is None:
            gid = grp.getgrnam(settings.group).gr_gid if settings.group else None
        if gid is None:
            assert found is not None
            gid = found.pw_gid
    except KeyError:
        raise ConfigurationError("account.user or account.group doesn't exist here.") from None
    if uid == 0 or gid == 0:
        raise ConfigurationError("account.user and account.group can't be root.")
    return Account(uid, gid)


def enter(home: NodeHome, settings: AccountSettings) -> None:
    """Become the intake's user, for good, if the settings name one and we are root.

    ``UsageError`` for any other user than that one, and for a home that is not ``separate`` yet.
    """
    wanted = account(settings)
    if wanted is None:
        return
    if os.geteuid() not in (0, wanted.uid):
        raise UsageError(
            f"Data comes in as the user {settings.user}: run this as that user, or as root."
        )
    if home.root.is_dir() and not is_separate(home, wanted):
        raise UsageError("The home is not arranged for two users yet: `wardgate-node separate`.")
    if os.geteuid() == 0:
        _become(wanted)
    # A file that is made here is its owner's, and the group's where its folder is shared.
    os.umask(0o007)


def refuse(settings: AccountSettings) -> None:
    """Raise ``UsageError`` if we are root or the intake's user where the node's is expected."""
    wanted = account(settings)
    if wanted is not None and os.geteuid() in (0, wanted.uid):
        raise UsageError(
            "This answers the consortium and must not read what comes in: run it as the node's "
            "own user, neither root nor account.user."
        )


def is_separate(home: NodeHome, wanted: Account) -> bool:
    """Say whether the home was arranged for this account."""
    root = home.root.stat()
    return (
        root.st_uid == 0
        and root.st_gid == wanted.gid
        and root.st_mode & 0o7777 == MEETING_FOLDER
        and home.landing.stat().st_uid == wanted.uid
    )


def separate(home: NodeHome, wanted: Account, node_uid: int) -> None:
    """Arrange the home for two users. As root; again does no harm.

    ``UsageError`` when we aren't root, both users are one, or the home holds symbolic links.
    """
    if os.geteuid() != 0:
        raise UsageError("Only root can give files to two users: run this as root.")
    if node_uid in (0, wanted.uid):
        raise UsageError("The node's own user must be neither root nor account.user.")
    private, both = _private(home), _both(home)
    special = {home.vault, *private, *both}
    with storage_errors(home.root):
        everything = list(_tree(home.root))
        if any(path.is_symlink() for path in everything):
            raise UsageError("The home holds a symbolic link; remove it first.")
        for path in private:
            for inner in _tree(path):
                os.chown(inner, wanted.uid, wanted.gid)
                inner.chmod(PRIVATE_FOLDER if inner.is_dir() else SECRET_MODE)
        for inner in _tree(home.vault):
            os.chown(inner, wanted.uid, wanted.gid)
            # What a release links to is readable by all, behind closed folders.
            inner.chmod(
                SHARED_FOLDER if inner.is_dir() else SHARED_MODE | inner.stat().st_mode & 0o444
            )
        for path in both:
            os.chown(path, wanted.uid, wanted.gid)
            path.chmod(BOTH_WRITE)
        for top in home.root.iterdir():
            if top not in special:
                for inner in _tree(top):
                    if inner.stat().st_nlink == 1 or inner.is_dir():
                        os.chown(inner, node_uid, wanted.gid)
        for path in (home.settings, home.policy):
            if path.exists():
                path.chmod(SHARED_MODE)
        os.chown(home.root, 0, wanted.gid)
        home.root.chmod(MEETING_FOLDER)


def become_node(home: NodeHome, settings: AccountSettings) -> None:
    """Become the node's own user if the settings name an intake's user and we are root.

    What is written is then the node's. ``root_again`` is for the one key that it can't read.
    """
    wanted = account(settings)
    if wanted is not None and os.geteuid() == 0 and is_separate(home, wanted):
        uid = home.ledger.stat().st_uid
        os.setgroups([wanted.gid])
        os.setresgid(wanted.gid, wanted.gid, wanted.gid)
        os.setresuid(uid, uid, 0)
        os.umask(0o007)


@contextmanager
def root_again() -> Iterator[None]:
    """Be root, if ``become_node`` made root the node's user; a program we start never is."""
    user = os.geteuid()
    if user != 0 and os.getresuid()[2] == 0:
        os.seteuid(0)
        try:
            yield
        finally:
            os.seteuid(user)
    else:
        yield


def _private(home: NodeHome) -> list[Path]:
    folders = [home.landing, home.quarantine, home.pulls]
    for folder in folders:
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    keys = (home.landing_key, home.quarantine_key, home.pseudonym_key, home.receive_tokens)
    return [*folders, *(key for key in keys if key.exists())]


def _both(home: NodeHome) -> list[Path]:
    if not home.database.exists():
        home.database.touch()
    names = (home.database, *(Path(f"{home.database}{end}") for end in ("-wal", "-shm")))
    return [path for path in names if path.exists()]


def _tree(top: Path) -> Iterator[Path]:
    yield top
    if top.is_dir() and not top.is_symlink():
        for path in sorted(top.iterdir()):
            yield from _tree(path)


def _become(wanted: Account) -> None:
    os.setgroups([wanted.gid])
    os.setresgid(wanted.gid, wanted.gid, wanted.gid)
    os.setresuid(wanted.uid, wanted.uid, wanted.uid)
    os.environ["HOME"] = "/nonexistent"


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _user(name: str, uid: int | None) -> pwd.struct_passwd:
    return pwd.getpwnam(name) if uid is None else pwd.getpwuid(uid)
