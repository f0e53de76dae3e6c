"""The ``wardgate`` command: join, look around, ask, train."""

from __future__ import annotations

import json
import math
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from contract.derivation_words import in_words
from contract.errors import UsageError
from contract.work import Statistic
from foundation import commands
from foundation.files import write_durably
from foundation.invitations import Invitation
from researcher import model_commands, releasing
from researcher.analysing import analyse
from researcher.assessing import quality
from researcher.consortium import Consortium
from researcher.fitting import CONFIDENCE, fit, show_model
from researcher.following import (
    LogOption,
    Logs,
    MlflowOption,
    StartFromOption,
    TensorBoardOption,
    followed,
    show_log,
)
from researcher.home import DEFAULT_HOME, ResearcherHome
from researcher.home import join as join_consortium
from researcher.launching import CLIP_NORM
from researcher.models import ModelAnswer
from researcher.offers import ReleaseInfo
from researcher.options import (
    AnalysisOption,
    ByOption,
    HomeOption,
    JsonOption,
    MinimumOption,
    ProjectOption,
    Protection,
    SecureOption,
    SitesOption,
    Summed,
    Whom,
    check_folder,
    grouped,
    parameter_of,
    say_who_waits,
)
from researcher.questions import count, histogram, levels, mean, question, table_one
from researcher.statistics import StatisticsAnswer

app = commands.application("Ask a consortium of hospitals, and train across it.")
recipe_app = commands.application("Recipes: Flower apps that hospitals may approve.")


@app.command("join")
def join(
    invitation: Annotated[Path, typer.Argument(help="The invitation file.")],
    ca_fingerprint: Annotated[
        str | None,
        typer.Option(help="The authority's fingerprint, as the coordinator told it elsewhere."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="host:port, when it isn't the invitation's.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Accept the authority without comparing.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Join a consortium as a researcher: make keys here, exchange the invitation.

    Example: wardgate join ana.invitation --ca-fingerprint 3f8a...
    """
    offered = Invitation.read(invitation)
    if ca_fingerprint is not None:
        offered.check_authority(ca_fingerprint)
    elif not yes:
        print(f"authority fingerprint: {offered.authority_fingerprint}")
        if not typer.confirm("Is it the one that the coordinator told you by another channel?"):
            raise UsageError("Not joined; nothing was sent.")
    place = ResearcherHome(home.expanduser())
    join_consortium(place, offered, address, datetime.now(UTC))
    print(f"joined {offered.consortium} as {offered.name}; your key is {place.key().id}")
    print("next: ask the coordinator for a roster with you on it, and a project")


@app.command("sites")
def sites(home: HomeOption = DEFAULT_HOME) -> None:
    """List the sites and what can be asked about at each.

    Example: wardgate sites
    """
    table = Table("site", "there", "release", "projects", "subjects", "assets")
    with Consortium.connect(home) as consortium:
        for site in consortium.sites():
            there = "revoked" if site.revoked else "online" if site.online else "offline"
            for release in site.releases or (None,):
                table.add_row(
                    site.name,
                    there,
                    release.name if release else "none",
                    ", ".join(release.projects) if release else "",
                    f"{release.subjects}+" if release else "",
                    _assets(release) if release else "",
                )
    Console(markup=False).print(table)


@app.command("projects")
def projects(home: HomeOption = DEFAULT_HOME) -> None:
    """List the projects in force, their variables and recipes.

    Example: wardgate projects
    """
    with Consortium.connect(home) as consortium:
        for project in consortium.projects():
            table = Table("variable", "kind", "unit", "grid or levels", "meaning")
            table.title = f"{project.name} version {project.version}: {project.title}"
            for v in project.variables:
                grid = ", ".join(v.levels)
                if v.kind == "number" and v.minimum is not None and v.maximum is not None:
                    grid = f"{v.minimum:g} to {v.maximum:g}, {v.bins or 'no'} bins"
                meaning = v.meaning
                if v.derive is not None:
                    meaning = f"{meaning} = {in_words(v.derive)}".strip()
                table.add_row(v.name, v.kind, v.unit, grid, meaning)
            Console(markup=False).print(table)
            for recipe in project.recipes:
                print(f"recipe {recipe.name}: {', '.join(recipe.parameters) or 'no parameters'}")


@app.command("statistics")
@grouped
def statistics(
    *,
    project: ProjectOption,
    mean_of: Annotated[
        list[str] | None, typer.Option("--mean", help="Mean and standard deviation; repeatable.")
    ] = None,
    levels_of: Annotated[
        list[str] | None, typer.Option("--levels", help="Counts of a category; repeatable.")
    ] = None,
    histogram_of: Annotated[
        list[str] | None, typer.Option("--histogram", help="Counts on the grid; repeatable.")
    ] = None,
    count_of: Annotated[
        list[str] | None, typer.Option("--count", help="How many have a value; repeatable.")
    ] = None,
    table1: Annotated[
        list[str] | None, typer.Option("--table1", help="A line of table 1; repeatable, with --by.")
    ] = None,
    by: ByOption = None,
    whom: Whom,
    analysis: AnalysisOption = None,
    protection: Protection,
    summed: Summed,
    dry_run: Annotated[
        Path | None,
        typer.Option(help="Sign the job into this file instead of sending it (see policy check)."),
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Ask for statistics across the sites: one round trip, merged exactly.

    What the releases don't declare is answered with noise, which is charged to the project's
    account at each site.

    Example: wardgate statistics -p preterm --mean age --levels preterm --by arm

    Example: wardgate statistics -p preterm --count age --where 'age >= 40' --epsilon 0.25
    """
    check_folder(dry_run)
    of_whom = whom.terms()
    how = protection.terms() | summed.terms()
    with Consortium.connect(home) as consortium:
        ask: list[Statistic] = [
            *(mean(v, by) for v in mean_of or ()),
            *(levels(v, by) for v in levels_of or ()),
            *(histogram(v, by) for v in histogram_of or ()),
            *(count(v, by) for v in count_of or ()),
        ]
        if table1:
            if by is None:
                raise UsageError("--table1 needs --by, such as --by arm.")
            ask += table_one(consortium.project(project), table1, by)
        if not ask:
            raise UsageError("Nothing is asked; see --mean, --levels, --histogram, --count.")
        if dry_run is not None:
            work = question(ask, cohort=of_whom["cohort"], analysis=analysis, **how)
            _, envelope = consortium.sign(project, work, whom.site, whom.minimum_sites)
            write_durably(dry_run, envelope)
            print(f"signed into {dry_run}, not sent; a hospital can run 'policy check' on it")
            return
        answer = consortium.statistics(
            project, ask, analysis=analysis, waiting=say_who_waits, **of_whom, **how
        )
    _print_answer(answer, as_json)


@app.command("answer")
def answer(
    job: Annotated[str, typer.Argument(help="The job's digest, as it was shown.")],
    as_json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Show the answer to a question that had to wait for a hospital's steward.

    Example: wardgate answer 3f8a...
    """
    with Consortium.connect(home) as consortium:
        found = consortium.answer(job, waiting=say_who_waits)
    if isinstance(found, ModelAnswer):
        show_model(found, CONFIDENCE, as_json=as_json)
    else:
        _print_answer(found, as_json)


def _print_answer(answer: StatisticsAnswer, as_json: bool) -> None:
    if as_json:
        for row in answer.rows():
            figures = {"value": row.value, "half_width": row.half_width}
            told = {k: None if math.isnan(v) else v for k, v in figures.items()}
            print(json.dumps({**row.__dict__, **told}))
        for note in answer.notes:
            print(note, file=sys.stderr)
        return
    Console(markup=False).print(answer.table())
    for note in answer.notes:
        print(note)
    print(f"{len(answer.receipts)} receipts verified\njob {answer.job}")


@app.command("train")
def train(
    recipe: Annotated[str, typer.Argument(help="The recipe's name in the project.")],
    project: ProjectOption,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE overriding the recipe's run config; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0)] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write the model (safetensors).")
    ] = None,
    site: SitesOption = None,
    minimum_sites: MinimumOption = 2,
    engine: Annotated[
        Literal["wardgate", "superlink"],
        typer.Option(help="What carries the tasks: the link, or a Flower SuperLink."),
    ] = "wardgate",
    secure: SecureOption = False,
    clip_norm: Annotated[
        float, typer.Option(help="With --secure: largest L2 norm of a site's update.", min=1e-6)
    ] = CLIP_NORM,
    sum_noise: Annotated[
        float, typer.Option(help="With --secure: the sum's noise, in clip norms.", min=0.0)
    ] = 0.0,
    most_examples: Annotated[
        int | None, typer.Option(help="With --secure: most examples of a site.", min=1)
    ] = None,
    sparse: Annotated[
        bool, typer.Option("--sparse", help="With --secure: 200 sites and more, less strong.")
    ] = False,
    start_from: StartFromOption = None,
    tensorboard: TensorBoardOption = None,
    mlflow: MlflowOption = None,
    log: LogOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Train a recipe across the sites, with a live table of rounds and of who is late.

    Example: wardgate train tabular -p preterm --set num-server-rounds=20 -o model.safetensors

    Example: wardgate train tabular -p preterm --secure --minimum-sites 5 --clip-norm 10

    Example: wardgate train tabular -p preterm --start-from 3f8a... --tensorboard runs
    """
    check_folder(output)
    logs = Logs(tensorboard, mlflow, project, printed=log)
    with Consortium.connect(home) as consortium:
        handle = consortium.train(
            project,
            recipe,
            dict(map(parameter_of, parameter or ())),
            seed=seed,
            sites=site,
            minimum_sites=minimum_sites,
            engine=engine,
            secure=secure,
            clip_norm=clip_norm,
            noise_multiplier=sum_noise,
            most_examples=most_examples,
            sparse=sparse,
            start_from=start_from,
        )
        print(f"job {handle.digest}")
        result = followed(handle, logs)
        if not result.rounds and not log:  # its log is all that it said: it asks for itself
            show_log(handle)
    if not result.has_model:
        print("the app asked queries only and left no model")
    elif output is not None:
        result.save(output)
        print(f"model written to {output}")
    if result.has_model:
        print(f"model {result.model}")
    print(f"{', '.join(result.answered)} took part; {len(result.receipts)} receipts verified")


@app.command("job")
def job(
    digest: Annotated[str, typer.Argument(help="The job's digest.")],
    cancel: Annotated[bool, typer.Option("--cancel", help="Stop it.")] = False,
    log: LogOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Show where a job of yours is, or stop it.

    Example: wardgate job 3f8a... --cancel

    Example: wardgate job 3f8a... --log
    """
    with Consortium.connect(home) as consortium:
        handle = consortium.job(digest)
        if log and not cancel:
            show_log(handle)
        if cancel:
            handle.cancel()
        status = handle.status()
    print(f"{status.state} {status.reason}".strip())
    table = Table("site", "state", "why")
    for found in status.sites:
        table.add_row(found.site, found.state, found.sentence)
    Console(markup=False).print(table)


def _assets(release: ReleaseInfo) -> str:
    return ", ".join(f"{m or 'no modality'} {n}+" for m, n in release.assets.items())


@recipe_app.command("build")
def build(
    folder: Annotated[Path, typer.Argument(help="A Flower app's folder.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
) -> None:
    """Build a Flower app's bundle (FAB) and show the digest that hospitals approve.

    Needs Flower, which comes with the extras 'node' and 'coordinator'.

    Example: wardgate recipe build recipes/tabular
    """
    try:
        from foundation.flower import build as build_bundle
    except ImportError:
        raise UsageError("Building a bundle needs Flower: pip install flwr==1.41.0.") from None
    import hashlib

    data = build_bundle(folder)
    digest = hashlib.sha256(data).hexdigest()
    target = output or Path(f"{folder.resolve().name}.fab")
    write_durably(target, data, 0o644)
    print(f"{target}: {len(data)} bytes, digest {digest}")


app.command("fit")(fit)
app.command("analyse")(analyse)
app.command("quality")(quality)
app.add_typer(recipe_app, name="recipe")
model_commands.app.command("report")(releasing.report)
model_commands.app.command("request")(releasing.request)
model_commands.app.command("take-out")(releasing.take_out)
app.add_typer(model_commands.app, name="models")


def main() -> None:
    """Run the command; errors end it with one line and their exit code."""
    commands.run(app, "wardgate")
