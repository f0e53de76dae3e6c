"""Options that several of the researcher's commands share."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from contract import wire_pb2 as wire
from contract.cohorts import Cohort
from contract.conditions import all_of
from contract.errors import UsageError
from contract.work import Scalar
from researcher.columns import read_cohort
from researcher.ending import held_by

HomeOption = Annotated[
    Path,
    typer.Option("--home", envvar="WARDGATE_HOME", help="The folder that holds your identity."),
]
ProjectOption = Annotated[str, typer.Option("--project", "-p", help="The project to ask under.")]
SitesOption = Annotated[
    list[str] | None, typer.Option("--site", help="Ask only this site; repeatable.")
]
MinimumOption = Annotated[
    int, typer.Option("--minimum-sites", help="Fewest sites that the answer may be of.", min=1)
]
ByOption = Annotated[str | None, typer.Option(help="For each level of this category.")]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Only of whom this is true: 'age >= 65', 'sex = f', 'stage = I|II', 'stage != I', "
        "'age missing', 'age known'. Repeatable: all must be true.",
    ),
]


CohortOption = Annotated[
    Path | None, typer.Option("--cohort", help="Only of a cohort written in this JSON file.")
]
AnalysisOption = Annotated[
    str | None, typer.Option(help="The releases' analysis set, answered exactly.")
]
EpsilonOption = Annotated[
    float | None, typer.Option(help="What to spend on noise at each site, at most.", min=1e-4)
]
SecureOption = Annotated[
    bool, typer.Option("--secure", help="Sum so that nobody sees a single site's part.")
]
SmallSitesOption = Annotated[
    bool,
    typer.Option(
        "--small-sites",
        help="Sum so over releases that are made for such sums alone: see release create.",
    ),
]


class Lane(StrEnum):
    """How an answer may be protected."""

    ANY = "any"
    EXACT = "exact"
    DP = "dp"


LaneOption = Annotated[
    Lane, typer.Option(help="exact refuses noise; dp wants it also where it isn't needed.")
]


def say_who_waits(status: wire.JobStatus) -> None:
    """Say on standard error whose stewards are to decide, and how to come back later."""
    said = "waits for its steward" if len(held_by(status)) == 1 else "wait for their stewards"
    print(f"{', '.join(held_by(status))} {said}; job {status.job}", file=sys.stderr)
    print(
        "Ctrl-C ends the waiting, not the job; later: wardgate answer JOB, or wardgate job JOB.",
        file=sys.stderr,
        flush=True,
    )


def cohort_of(where: list[str] | None, file: Path | None) -> Cohort | None:
    """Return the cohort of those who fit all conditions and are in the file's cohort."""
    typed = all_of(where or ())
    if file is None:
        return typed
    read = read_cohort(file)
    return read if typed is None else read & typed


def parameter_of(text: str) -> tuple[str, Scalar]:
    """Read NAME=VALUE as TOML would read the value; a bare word is text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{text!r} is not of the form NAME=VALUE.")
    if value in ("true", "false"):
        return name, value == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value
