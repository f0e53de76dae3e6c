"""The run's plan: what is explained, how, by which features, regions and rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from learning.releases import NAME

METHODS = ("integrated-gradients", "grad-cam")
LEAST_PATIENTS = 5
"""No run config can ask for means over fewer."""
_TERM = re.compile(r"^\s*([A-Za-z_][A-Za-z0-9_.]{0,63})\s*(>=|<=|>|<|=)\s*(.+?)\s*$")


@dataclass(frozen=True)
class Feature:
    """One input: a column's number, or whether it has a level (``name=level``)."""

    column: str
    level: str | None

    @classmethod
    def parse(cls, text: str) -> Feature:
        """Return the feature called ``text``; ``ValueError`` when it is malformed."""
        column, equals, level = text.partition("=")
        if not NAME.match(column) or (equals and not level):
            raise ValueError("features: each must be name or name=level")
        return cls(column, level if equals else None)


@dataclass(frozen=True)
class Term:
    """One condition of a rule: a column, ``=``, ``<``, ``<=``, ``>`` or ``>=``, and a value."""

    column: str
    sign: str
    value: str


Rule = tuple[Term, ...]
"""All terms must hold."""


@dataclass(frozen=True)
class Plan:
    """What a run is told, without the local training's part. Made by ``Plan.read``."""

    images: bool
    table: str
    outcome: str
    positive: str
    features: tuple[Feature, ...]
    hidden_units: int
    modality: str
    size: int
    method: str
    path_steps: int
    regions: tuple[int, int]
    rules: tuple[Rule, ...]
    minimum_patients: int
    round_to: int
    seed: int
    held_out: float
    split_seed: int

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Plan:
        """Return the plan of a run config; ``ValueError`` names the key that doesn't fit."""
        regions = [part.strip() for part in str(config["regions"]).split(",")]
        if len(regions) != 2 or not all(
            part.isdigit() and 1 <= int(part) <= 64 for part in regions
        ):
            raise ValueError("regions: must be two numbers of 1 to 64")
        if config["source"] not in ("table", "images"):
            raise ValueError("source: must be table or images")
        plan = cls(
            images=config["source"] == "images",
            table=str(config["table"]),
            outcome=str(config["outcome"]),
            positive=str(config["positive"]),
            features=tuple(map(Feature.parse, _list(str(config["features"]), ","))),
            hidden_units=int(config["hidden-units"]),
            modality=str(config["modality"]),
            size=int(config["size"]),
            method=str(config["method"]),
            path_steps=int(config["path-steps"]),
            regions=(int(regions[0]), int(regions[1])),
            rules=tuple(map(_rule, _list(str(config["rules"]), ";"))),
            minimum_patients=int(config["minimum-patients"]),
            round_to=int(config["round-to"]),
            seed=int(config["seed"]),
            held_out=float(config["held-out"]),
            split_seed=int(config["split-seed"]),
        )
        plan._check()
        return plan

    def _check(self) -> None:
        for key, name in (("table", self.table), ("outcome", self.outcome)):
            if not NAME.match(name):
                raise ValueError(f"{key}: must be a name")
        if self.method not in METHODS:
            raise ValueError(f"method: must be one of {', '.join(METHODS)}")
        if self.method == "grad-cam" and not self.images:
            raise ValueError("method: grad-cam explains images only")
        if self.images and self.rules:
            raise ValueError("rules: are of a table")
        if not self.images and not self.features:
            raise ValueError("features: at least one is needed")
        if self.outcome in {f.column for f in self.features}:
            raise ValueError("features: must not hold the outcome")
        if self.outcome in {term.column for rule in self.rules for term in rule}:
            raise ValueError("rules: must not hold the outcome")
        for key, value, least, most in (
            ("hidden-units", self.hidden_units, 0, 1024),
            ("size", self.size, 16, 1024),
            ("path-steps", self.path_steps, 1, 1000),
            ("minimum-patients", self.minimum_patients, LEAST_PATIENTS, 1_000_000),
            ("round-to", self.round_to, 1, 1000),
        ):
            if not least <= value <= most:
                raise ValueError(f"{key}: must be {least} to {most}")
        if not 0 <= self.held_out < 1:
            raise ValueError("held-out: must be a fraction, 0 or above and below 1")


def _rule(text: str) -> Rule:
    terms = []
    for part in text.split("&"):
        found = _TERM.match(part)
        if found is None:
            raise ValueError("rules: each must be conditions such as age>=60 & smoker=Yes")
        term = Term(found[1], found[2], found[3])
        if term.sign != "=" and not _is_number(term.value):
            raise ValueError("rules: only numbers are less or more")
        terms.append(term)
    return tuple(terms)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d+)?", text) is not None


def _list(text: str, separator: str) -> list[str]:
    return [part.strip() for part in text.split(separator) if part.strip()]
