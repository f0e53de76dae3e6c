"""A ledger summed up: what left, how many payloads and bytes, under which rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from node.gate.ledger import Entry


def summarise(
    entries: Iterable[Entry],
) -> dict[tuple[str, str], tuple[int, int, list[str]]]:
    """Return (payloads, bytes, rules) by (what, project); refusals and notices included."""
    totals: dict[tuple[str, str], tuple[int, int, list[str]]] = defaultdict(lambda: (0, 0, []))
    for entry in entries:
        if entry.kind == "answer":
            key = (str(entry.body["work"]), str(entry.body["project"]))
            rules = [str(r) for r in entry.body["rules"]]
        elif entry.kind == "notice":
            key, rules = (f"notice: {entry.body['what']}", ""), ["closed form"]
        elif entry.kind in ("refused", "withheld"):
            key, rules = (entry.kind, ""), [str(entry.body["code"])]
        else:
            continue
        count, size, known = totals[key]
        merged = list(dict.fromkeys([*known, *rules]))
        totals[key] = (count + 1, size + int(entry.body.get("bytes", 0)), merged)
    return dict(totals)
