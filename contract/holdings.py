"""What a variable is derived of besides its table: images, consents, links to what else is held.

These operations of ``contract.derivations`` are worked out by ``node.catalog``.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from contract.names import Line, VariableName

MAX_BINS = 64
"""Of a histogram of intensities: each bin is a variable of its own."""


def _in_a_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _apart(levels: tuple[str, str]) -> tuple[str, str]:
    if levels[0] == levels[1]:
        raise ValueError("two levels are needed")
    return levels


Number = Annotated[float, Field(strict=True, ge=-1e15, le=1e15)]
NoYes = Annotated[tuple[Line, Line], AfterValidator(_apart)]
"""The level of those for whom something doesn't hold, and of those for whom it does."""
Word = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\r\n\x00]*$")]
Words = Annotated[tuple[Word, ...], BeforeValidator(_in_a_list), Field(min_length=1, max_length=20)]
"""One, or a list."""
Term = Annotated[str, StringConstraints(pattern=r"^[^|\r\n\x00]{0,200}\|[^|\r\n\x00]{1,200}$")]
"""A terminology's URI and a code in it: ``http://loinc.org|8480-6``."""


class Operation(BaseModel):
    """One operation of the closed list. Its first field is its key."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        defer_build=True,  # once, with what they are parts of: each is a part of all others
    )


ImagingParameter = Literal[
    "images",
    "kvp",
    "slice_thickness",
    "pixel_spacing",
    "field_strength",
    "echo_time",
    "repetition_time",
    "magnification",
    "stain",
    "manufacturer",
    "megapixels",
]
IMAGING_CATEGORIES = ("stain", "manufacturer")
"""The parameters that are categories; all others are numbers."""
Modality = Annotated[str, Field(pattern=r"^[A-Za-z0-9 ]{1,16}$")]


class Imaging(Operation):
    """How a subject's images of a modality in the release were taken.

    Of numbers the median, of categories the level that all have, or "mixed".
    """

    imaging: ImagingParameter
    modality: Modality


class Intensity(Operation):
    """The intensities of a subject's images of a modality, each image with a weight of 1.

    ``mean`` and ``sd``, in the modality's unit (Hounsfield units of a CT, of others stored values
    of which more is brighter, of a colour image brightness from 0 to 255), or the share of pixels
    in one of ``bins`` equal bins from ``minimum`` to ``maximum``; what lies outside is counted into
    the first or last.
    """

    intensity: Literal["mean", "sd"] | Annotated[int, Field(ge=0, lt=MAX_BINS)]
    modality: Modality
    minimum: Number
    maximum: Number
    bins: Annotated[int, Field(ge=1, le=MAX_BINS)] = 1

    @model_validator(mode="after")
    def _is_a_grid(self) -> Self:
        if self.minimum >= self.maximum:
            raise ValueError("minimum must be below maximum")
        if isinstance(self.intensity, int) and self.intensity >= self.bins:
            raise ValueError("there are fewer bins")
        return self


class Consent(Operation):
    """Whether a consent for one of these purposes was in force when the release was made.

    ``basis``: on one of these bases alone. A refusal, whose basis is ``refused``, is no consent
    unless that is named.
    """

    consent: Words
    basis: Words | None = None
    levels: NoYes = ("no", "yes")


Holding = Literal["images", "reports", "observations", "table", "group"]
_TO: dict[Holding, str] = {
    "images": "modality",
    "observations": "codes",
    "table": "table",
    "group": "roles",
}
"""By what each kind of link says to what it is."""


class Linked(Operation):
    """Whether a subject was linked to something that the hospital held when the release was made.

    To ``images``, of a ``modality`` if one is named; to ``reports``; to ``observations`` with one
    of some ``codes``; to a row of a ``table``; or by one ``group`` (a lesion, a case) in which each
    of some ``roles`` is filled.
    """

    linked: Holding
    modality: Modality | None = None
    codes: Annotated[tuple[Term, ...], Field(min_length=1, max_length=100)] | None = None
    table: VariableName | None = None
    roles: Words | None = None
    levels: NoYes = ("no", "yes")

    @model_validator(mode="after")
    def _says_to_what(self) -> Self:
        named = [name for name in _TO.values() if getattr(self, name) is not None]
        wanted = _TO.get(self.linked)
        if wanted in ("modality", None):
            wanted = wanted if wanted in named else None
        if named != ([wanted] if wanted else []):
            raise ValueError(
                "a link to images may name a modality, one to observations names codes, to a table "
                "the table, by a group roles"
            )
        return self
