"""The run's plan: where bags come from, what their features are, and which network learns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from learning.releases import NAME
from learning.splits import Split

_FEATURES = {"small": 64, "resnet18": 512, "resnet34": 512, "resnet50": 2048}


@dataclass(frozen=True)
class Plan:
    """What a run is told, without the local training's part. Made by ``Plan.read``."""

    source: str
    table: str
    outcome: str
    positive: str
    features_table: str
    feature_prefix: str
    feature_count: int
    bag: str
    tile_pixels: int
    downsample: float
    tissue: float
    most_tiles: int
    network: str
    weights: str
    backbone_seed: int
    pooling: str
    width: int
    attention_units: int
    seed: int
    split: Split

    @property
    def features(self) -> int:
        """How many numbers describe a tile."""
        return self.feature_count if self.source == "table" else _FEATURES[self.network]

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Plan:
        """Return the plan of a run config; ``ValueError`` names the key that doesn't fit."""
        kinds = cls.__dataclass_fields__
        made: dict[str, Any] = {}
        for name, field in kinds.items():
            if name == "split":
                continue
            value = config[name.replace("_", "-")]
            made[name] = float(value) if field.type == "float" else value
        plan = cls(**made, split=Split.read(config, str(config["table"])))
        plan._check()
        return plan

    def _check(self) -> None:
        if self.source not in ("slides", "table"):
            raise ValueError("source: must be slides or table")
        told = dataclasses.asdict(self)
        for key in ("table", "outcome", "features_table", "feature_prefix", "bag"):
            if not NAME.match(told[key]):
                raise ValueError(f"{key.replace('_', '-')}: must be a name")
        if self.network not in _FEATURES:
            raise ValueError(f"network: must be one of {', '.join(_FEATURES)}")
        for key, least, most in (
            ("feature_count", 1, 8192),
            ("tile_pixels", 32, 1024),
            ("most_tiles", 1, 20_000),
            ("width", 1, 4096),
            ("attention_units", 1, 4096),
        ):
            if not least <= told[key] <= most:
                raise ValueError(f"{key.replace('_', '-')}: must be {least} to {most}")
        if not (self.downsample >= 1 and 0 <= self.tissue <= 1):
            raise ValueError("downsample must be 1 or above, tissue 0 to 1")
