"""A release's manifest: what is in it, to the byte. Its SHA-256 names the release."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from contract.documents import Line, Name, Sha256, VariableName
from contract.errors import DataError

SUBJECT = "subject"
"""The column of every released table that holds the subject's pseudonym."""
ASSET_INDEX = "assets.parquet"
OBSERVATIONS = "observations.parquet"
GROUPS = "groups.parquet"
_LATER = {"asset_bytes", "observations", "groups"}
"""What format 1 didn't have."""

ColumnType = Literal["integer", "number", "category", "boolean", "date"]
ReleasePath = Annotated[
    str, StringConstraints(pattern=r"^(tables/|assets/)?[A-Za-z0-9_][A-Za-z0-9_.]{0,127}$")
]


class ReleaseColumn(BaseModel):
    """A column of a released table. ``levels`` are those that the table's schema declares."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: VariableName
    type: ColumnType
    unit: Line = ""
    minimum: float | None = None
    maximum: float | None = None
    levels: tuple[Line, ...] = ()


class ReleaseFile(BaseModel):
    """A file of a release, by its path below the release's folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: ReleasePath
    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=0)]


class ReleaseManifest(BaseModel):
    """What a release holds. No time is in it, so that the same content has the same digest.

    ``files`` are all files but the assets: these are named by content, and listed in
    ``assets.parquet`` with what they are. Format 1 listed them here.

    ``rows`` are the table's; ``subjects`` are the distinct pseudonyms. They differ when a subject
    has several rows. ``table`` is None for a release of assets alone; ``subjects`` are then theirs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1, 2] = 2
    name: Name
    table: VariableName | None
    columns: tuple[ReleaseColumn, ...] = ()
    rows: Annotated[int, Field(ge=0)]
    subjects: Annotated[int, Field(ge=0)]
    assets: dict[str, int] = Field(default_factory=dict)
    """Number of assets by modality."""
    asset_bytes: Annotated[int, Field(ge=0)] = 0
    observations: Annotated[int, Field(ge=0)] = 0
    """Rows of ``observations.parquet``."""
    groups: Annotated[int, Field(ge=0)] = 0
    """Groups in ``groups.parquet``."""
    files: tuple[ReleaseFile, ...]

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Parse ``manifest.json``; ``DataError`` when it is none."""
        try:
            return cls.model_validate_json(data)
        except ValidationError:
            raise DataError("A release's manifest is malformed; was it edited?") from None

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: JSON with sorted keys and nothing between."""
        values = self.model_dump(mode="json", exclude=_LATER if self.format == 1 else None)
        return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @property
    def digest(self) -> str:
        """The release's name by content: SHA-256 of ``to_bytes``."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def table_path(self) -> str | None:
        """Where the table lies below the release's folder, if it has one."""
        return None if self.table is None else f"tables/{self.table}.parquet"

    def column(self, name: str) -> ReleaseColumn | None:
        """Return the column called ``name``, or None."""
        return next((c for c in self.columns if c.name == name), None)
