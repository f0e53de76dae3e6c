"""``wardgate quality``: a report on data's quality and whom it represents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foundation.files import write_durably
from researcher.analysing import show
from researcher.consortium import Consortium
from researcher.home import DEFAULT_HOME
from researcher.options import (
    ByOption,
    HomeOption,
    JsonOption,
    MethodsOption,
    ProjectOption,
    Protection,
    Whom,
    check_folder,
    grouped,
    say_who_waits,
)
from researcher.reference import read_reference
from researcher.rendering import as_html
from researcher.study import Study


@grouped
def quality(
    *,
    variables: Annotated[list[str], typer.Argument(help="Which variables.")],
    project: ProjectOption,
    by: ByOption = None,
    outcome: Annotated[
        str | None,
        typer.Option(help="Of a planned model; of a category its last level is the event."),
    ] = None,
    predictor: Annotated[
        list[str] | None, typer.Option("--predictor", help="Of a planned model; repeatable.")
    ] = None,
    parameters: Annotated[
        int | None,
        typer.Option(
            help="Of a planned model; one for each predictor or level when absent.", min=1
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="A population to compare with, as TOML.")
    ] = None,
    each_site: Annotated[
        bool, typer.Option("--each-site", help="Ask each site by itself too, to compare them.")
    ] = False,
    whom: Whom,
    protection: Protection,
    html: Annotated[Path | None, typer.Option(help="Write the page into this file, too.")] = None,
    methods: MethodsOption = False,
    as_json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Report what is missing, implausible or unlike a reference, by the four domains of PROBAST.

    Example: wardgate quality age sex bmi -p preterm --by arm --reference census.toml

    Example: wardgate quality age -p preterm --outcome ill --predictor age --predictor stage
    """
    check_folder(html)
    population = None if reference is None else read_reference(reference)
    with Consortium.connect(home) as consortium:
        study = Study(
            consortium,
            project,
            waiting=say_who_waits,
            **whom.terms(),
            **protection.terms(),
        )
        found = study.quality(
            *variables,
            by=by,
            outcome=outcome,
            predictors=predictor or (),
            parameters=parameters,
            reference=population,
            each_site=each_site,
        )
    show(found, as_json=as_json, methods=methods)
    if html is not None:
        write_durably(html, as_html(found.printed()).encode(), 0o644)
