"""Which instances are here: waiting in the landing, taken out of it, or in the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from node.catalog.store import Catalog
from node.deid.pseudonyms import Pseudonyms, load_key
from node.home import NodeHome
from node.intake.landing import Landing


def held_here(
    home: NodeHome, landing: Landing, catalog: Catalog
) -> Callable[[Iterable[str]], set[str]]:
    """Return the function that says which of some instances (by UID) need not be fetched.

    An asset's UID is the replaced one, or the instance's own under a profile that keeps UIDs.
    """
    pseudonyms = (
        Pseudonyms(load_key(home.pseudonym_key, create=False))
        if home.pseudonym_key.exists()
        else None
    )

    def held(uids: Iterable[str]) -> set[str]:
        wanted = set(uids)
        here = landing.held(wanted)
        if pseudonyms is not None:
            for uid in wanted - here:
                if catalog.asset_of_instance(pseudonyms.uid(uid)) or catalog.asset_of_instance(uid):
                    here.add(uid)
        return here

    return held
