"""A release's manifest: what is in it, to the byte. Its SHA-256 names the release."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from contract.documents import Line, Name, Sha256, VariableName
from contract.errors import DataError

COMPRESSION: Final = "lz4"
"""Of a release's Parquet files: half as large again as with zstd, and read four times as fast."""
SUBJECT = "subject"
"""The column of every released table that holds the subject's pseudonym."""
ASSET_INDEX = "assets.parquet"
OBSERVATIONS = "observations.parquet"
GROUPS = "groups.parquet"
MEMBERSHIP = "membership.parquet"
"""For each subject its cell, and whether it is in each declared set."""
_LATER: dict[int, Any] = {
    1: {"asset_bytes", "observations", "groups", "declaration", "derived"},
    2: {"declaration", "derived"},
    3: {"declaration": {"analyses": {"__all__": {"joint", "products"}}}, "derived": True},
}
"""What former formats didn't have."""
MAX_STRATA = 6
MAX_ANALYSES = 16
MAX_JOINED = 32
"""Of how many variables of an analysis set, the first, combinations are declared."""

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


Strata = tuple[VariableName, ...]
"""Names of strata: an exact answer may be of what these tell apart, and of nothing finer."""


class Stratum(BaseModel):
    """A variable that tells cells apart, and its values that have cells.

    A category's levels; a number's ranges, from each cut on another one, the first below all cuts.
    Whoever has another value, or none where ``missing`` isn't set, is in no cell.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    variable: VariableName
    levels: tuple[Line, ...] = ()
    cuts: Annotated[tuple[float, ...], Field(max_length=50)] = ()
    missing: bool = False

    @property
    def values(self) -> int:
        """How many values have cells; the last one is "missing", if that has."""
        return (len(self.levels) or len(self.cuts) + 1) + self.missing


class Grid(BaseModel):
    """The one grid on which a number of the release may be counted exactly."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    minimum: float
    maximum: float
    bins: Annotated[int, Field(ge=1, le=1000)]


ExactKind = Literal["count", "moments", "shape", "levels", "histogram"]


class DeclaredVariable(BaseModel):
    """By which strata each kind of statistic of a variable is exact; a kind that isn't there never
    is. ``in_analyses``: the kinds that are exact in analysis sets too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: VariableName
    by: dict[ExactKind, Strata] = Field(default_factory=dict)
    in_analyses: tuple[ExactKind, ...] = ()
    grid: Grid | None = None


class Joint(BaseModel):
    """By which strata something of several variables at once is exact; ``variables`` are sorted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variables: Annotated[tuple[VariableName, ...], Field(min_length=2, max_length=3)]
    by: Strata


class AnalysisSet(BaseModel):
    """A set of subjects who have a value of each of these variables (rule ``complete``).

    ``joint``: of which two or three of them the counts of combinations are exact, numbers being
    counted on their declared grid. ``products``: of which two the sums of products are, of two
    numbers, or of a number over each level of a category.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    variables: Annotated[tuple[VariableName, ...], Field(min_length=1, max_length=1000)]
    rule: Literal["complete"] = "complete"
    by: Strata | None = None
    """By which strata it may be asked; None: not at all, it is too small."""
    joint: tuple[Joint, ...] = ()
    products: tuple[Joint, ...] = ()

    def joint_by(self, names: Collection[str]) -> Strata | None:
        """Return by which strata counts of combinations of these are exact; None: by none."""
        return _by(self.joint, names)

    def products_by(self, names: Collection[str]) -> Strata | None:
        """Return by which strata sums of products of these two are exact; None: by none."""
        return _by(self.products, names)


def _by(declared: Collection[Joint], names: Collection[str]) -> Strata | None:
    wanted = tuple(sorted(set(names)))
    return next((one.by for one in declared if one.variables == wanted), None)


class Declaration(BaseModel):
    """What a release can be asked exactly: its cells, its sets, and of what each may be asked.

    A cell is a list of combinations of the strata's values, each as their numbers. What is proved
    of exact answers from this, and how it is made: ``docs/reference/disclosure.md``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    minimum_cohort: Annotated[int, Field(ge=1)]
    minimum_cell: Annotated[int, Field(ge=1)]
    strata: Annotated[tuple[Stratum, ...], Field(max_length=MAX_STRATA)] = ()
    cells: tuple[tuple[tuple[int, ...], ...], ...] = ()
    variables: tuple[DeclaredVariable, ...] = ()
    analyses: Annotated[tuple[AnalysisSet, ...], Field(max_length=MAX_ANALYSES)] = ()
    sums_only: bool = False
    """Whether it is asked in secure sums over such releases alone ("small sites")."""

    def variable(self, name: str) -> DeclaredVariable | None:
        """Return what is declared of a variable, or None."""
        return next((v for v in self.variables if v.name == name), None)

    def analysis(self, name: str) -> AnalysisSet | None:
        """Return the analysis set called ``name``, or None."""
        return next((a for a in self.analyses if a.name == name), None)


class ReleaseManifest(BaseModel):
    """What a release holds. No time is in it, so that the same content has the same digest.

    ``files`` are all files but the assets: these are named by content, and listed in
    ``assets.parquet`` with what they are. Format 1 listed them here.

    Format 3 declares what can be asked exactly, format 4 of several variables at once too,
    and has derived columns.

    ``rows`` are the table's; ``subjects`` are the distinct pseudonyms. They differ when a subject
    has several rows. ``table`` is None for a release of assets alone; ``subjects`` are then theirs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1, 2, 3, 4] = 4
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
    declaration: Declaration | None = None
    """What can be asked exactly; None of an older release, and of one without a table."""
    derived: dict[VariableName, Sha256] = Field(default_factory=dict)
    """Of each derived column the digest of how it was made."""
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
        values = self.model_dump(mode="json", exclude=_LATER.get(self.format))
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
