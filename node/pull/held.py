"""Which instances are here: waiting in the landing, taken out of it, or in the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from node.catalog.store import Catalog
from node.deid.pseudonyms import Pseudonyms
from node.intake.landing import Landing


def held_here(
    landing: Landing, catalog: Catalog, pseudonyms: Pseudonyms | None
) -> Callable[[Iterable[str]], set[str]]:
    """Return the function that says which of some instances (by UID) need not be fetched.

    Without ``pseudonyms`` nothing was taken in yet. An asset has the replaced UID, or the
    instance's own under a profile that keeps UIDs.
    """

    def held(uids: Iterable[str]) -> set[str]:
        wanted = set(uids)
        here = landing.held(wanted)
        if pseudonyms is not None:
            for uid in wanted - here:
                if catalog.asset_of_instance(pseudonyms.uid(uid)) or catalog.asset_of_instance(uid):
                    here.add(uid)
        return here

    return held
