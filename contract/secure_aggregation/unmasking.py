"""The sites' secrets put together from shares, and who is to blame when they don't fit.

A secret is known when it is found: a mask's seed by the commitment that its site signed, a key by
the public one. So a wrong share does no more harm than a missing one while enough others are left:
it is left out, and named. Of a share that isn't on the others' polynomial, either who sent it lied
or who made it gave out a wrong one; the server can't tell which, as shares travel sealed. A secret
that all shares agree on and that isn't the signed one is its owner's lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from contract.errors import DocumentError, Refused
from contract.secure_aggregation.sharing import SHARE_BYTES, Combiner

_Points = tuple[int, ...]


class RevealedShares:
    """The shares that survivors gave. Sites are places in the terms; ``names`` are theirs."""

    def __init__(self, threshold: int, names: Sequence[str]) -> None:
        """``threshold`` shares give a secret."""
        self._threshold = threshold
        self._names = names
        self._shares: dict[int, dict[int, bytes]] = {}
        self._combiners: dict[_Points, Combiner] = {}
        self.wrong: set[tuple[int, int]] = set()
        """Who sent a share that isn't on the others' polynomial, and whose secret it is of."""

    def add(self, sender: int, owner: int, share: bytes) -> None:
        """Take a share; ``DocumentError`` when it is none."""
        if len(share) != SHARE_BYTES:
            raise DocumentError("A share has another length.")
        self._shares.setdefault(owner, {})[sender + 1] = share

    def secret(self, owner: int, fits: Callable[[bytes], bool]) -> bytes:
        """Return a site's secret, the one that ``fits``.

        ``Refused`` when shares are missing, ``DocumentError`` when no secret that fits comes out.
        """
        shares = self._shares.get(owner, {})
        suspects = {sender + 1 for sender, _ in self.wrong}
        points = sorted(shares, key=lambda point: (point in suspects, point))
        if len(points) < self._threshold:
            raise Refused("too-few-sites", "Too few sites are left to unmask the sum.")
        seen: set[bytes] = set()
        for number, chosen in enumerate(_choices(points, self._threshold)):
            found = self._combined(chosen, shares)
            if found is not None and fits(found):
                if number:
                    self._blame(owner, found, chosen, shares)
                return found
            seen.add(found or b"")
        raise DocumentError(self._why_not(owner, points, seen))

    def _combined(self, points: _Points, shares: dict[int, bytes]) -> bytes | None:
        if points not in self._combiners:
            self._combiners[points] = Combiner(points)
        try:
            return self._combiners[points].combine(shares)
        except DocumentError:
            return None

    def _blame(self, owner: int, secret: bytes, right: _Points, shares: dict[int, bytes]) -> None:
        """Note each share that isn't on the polynomial through the right ones."""
        for point in set(shares) - set(right):
            if self._combined((*right[1:], point), shares) != secret:
                self.wrong.add((point - 1, owner))

    def _why_not(self, owner: int, points: Sequence[int], seen: set[bytes]) -> str:
        name = self._names[owner]
        if len(points) > self._threshold and len(seen) == 1 and b"" not in seen:
            return f"At the last step: {name} shared another secret than the one it committed to."
        givers = ", ".join(self._names[point - 1] for point in points)
        return (
            f"At the last step, the shares of {name}'s secret don't fit what it committed to: "
            f"{name} or one of those that gave them ({givers}) sent wrong ones."
        )


def _choices(points: Sequence[int], threshold: int) -> Iterator[_Points]:
    """Yield so many of the points: the first, those without one of these, and runs further on."""
    yield tuple(points[:threshold])
    if len(points) > threshold:
        one_more = points[: threshold + 1]
        for left_out in one_more[:-1]:
            yield tuple(point for point in one_more if point != left_out)
        for start in range(1, len(points) - threshold + 1):
            yield tuple(points[start : start + threshold])
