"""Options that several of the researcher's commands share, alone and in groups.

A command that takes a group, a dataclass of options, is passed through ``grouped``: typer then
sees the group's options as the command's own.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

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
    int,
    typer.Option(
        "--minimum-sites",
        help="Fewest sites that the answer may be of; of a secure sum, as many as sites want.",
        min=1,
    ),
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
ConfidenceOption = Annotated[float, typer.Option(help="Of the intervals.", min=0.5, max=0.9999)]
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


JsonOption = Annotated[bool, typer.Option("--json", help="Print tidy rows as JSON lines.")]
MethodsOption = Annotated[
    bool, typer.Option("--methods", help="Print a methods paragraph for a paper, too.")
]


@dataclass(frozen=True)
class Whom:
    """Of whom a question is, and which sites it is put to."""

    where: WhereOption = None
    cohort: CohortOption = None
    site: SitesOption = None
    minimum_sites: MinimumOption = 1

    def terms(self) -> dict[str, Any]:
        """Return them as the consortium takes them; ``UsageError`` for what is no cohort."""
        return {
            "cohort": cohort_of(self.where, self.cohort),
            "sites": self.site,
            "minimum_sites": self.minimum_sites,
        }


@dataclass(frozen=True)
class Protection:
    """How the answer may be protected."""

    lane: LaneOption = Lane.ANY
    epsilon: EpsilonOption = None

    def terms(self) -> dict[str, Any]:
        """Return it as the consortium takes it."""
        return {"lane": self.lane.value, "epsilon": self.epsilon}


@dataclass(frozen=True)
class Summed:
    """Whether the sites' parts are summed so that nobody sees one."""

    secure: SecureOption = False
    small_sites: SmallSitesOption = False

    def terms(self) -> dict[str, Any]:
        """Return it as the consortium takes it."""
        return {"secure": self.secure, "small_sites": self.small_sites}


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that typer sees with the options of its groups, in their places."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            options = [(name, parameter.default, hints[name])]
        else:
            inner = get_type_hints(groups[name], include_extras=True)
            options = [(f.name, f.default, inner[f.name]) for f in fields(groups[name])]
        parameters += [
            inspect.Parameter(option, parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for option, default, kind in options
        ]

    @functools.wraps(command)
    def called(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{f.name: values.pop(f.name) for f in fields(kind)})
        command(**values)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    return called


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


def check_folder(*files: Path | None) -> None:
    """Raise ``UsageError`` when a file that is to be written has no folder: before all the work."""
    for file in files:
        if file is not None and not file.absolute().parent.is_dir():
            raise UsageError(f"There is no folder {file.parent} to write {file.name} into.")


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
