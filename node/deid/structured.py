"""DICOM PS3.15 2026c Table E.3.4-1: content items of structured documents, by their concept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from node.deid.facts import options, records

_SCHEMES = {"SRT": "SCT", "SNM3": "SCT", "99SDM": "SCT"}


@cache
def concepts() -> Mapping[tuple[str, str, str], tuple[str, Mapping[str, str]]]:
    """Return (action of the basic profile, actions of options) by (code, scheme, value type)."""
    return MappingProxyType(
        {
            (row["code"], row["scheme"].split(" ")[0], row["value_type"]): (
                row["basic"],
                options(row["options"]),
            )
            for row in records("ps3_15_e3_4_1.csv")
        }
    )


def concept_action(
    code: str, scheme: str, value_type: str, chosen: tuple[str, ...], *, cleans_text: bool
) -> str:
    """Return what happens to a content item: "X", "D", "K" or "C"; "C" if the table lacks it.

    "C" means that its value is cleaned as every text is, dates moved, UIDs replaced. The table's
    conditional ``X/D`` is D, which keeps a document's structure.
    """
    found = concepts().get((code, _SCHEMES.get(scheme, scheme), value_type))
    if found is None:
        return "C"
    basic, by_option = found
    for option in chosen:
        if option in by_option and (option != "clean_descriptors" or cleans_text):
            return by_option[option]
    if value_type in ("UIDREF", "IMAGE", "WAVEFORM", "COMPOSITE"):
        # A reference whose UIDs are replaced consistently is what D asks for.
        return "C"
    return "D" if basic == "X/D" else basic
