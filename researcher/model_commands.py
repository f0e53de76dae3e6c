"""``models``: the registry of finished models, their cards, and their files in other formats."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from contract.documents import Project
from contract.errors import NotFound, UsageError
from foundation import commands
from foundation.files import write_new
from foundation.model_files import pieces
from researcher import cards
from researcher.consortium import Consortium
from researcher.following import Logs, StartFromOption, followed
from researcher.home import DEFAULT_HOME
from researcher.live import rounds_table
from researcher.matrix import Matrix
from researcher.options import (
    HomeOption,
    MinimumOption,
    SitesOption,
    check_folder,
    parameter_of,
)
from researcher.registry import ModelHistory, RegisteredModel

app = commands.application("Finished models: the registry, cards, files, and the way out.")

ModelArgument = Annotated[
    str, typer.Argument(help="The model's digest or its job's, or the first digits of it.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@app.command("list")
def list_models(
    project: Annotated[
        str | None, typer.Option("--project", "-p", help="Only this project's.")
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """List the finished models of your projects, the newest first.

    Example: wardgate models list -p preterm
    """
    with Consortium.connect(home) as consortium:
        models = consortium.registry.models(project)
    if as_json:
        for model in models:
            print(json.dumps(_as_json(model)))
        return
    if not models:
        print("No model has been finished yet.")
        return
    table = Table("model", "ended", "recipe", "strategy", "sites", "from")
    for model in models:
        table.add_row(
            model.digest[:12],
            model.finished_at.strftime("%Y-%m-%d %H:%M"),
            f"{model.recipe} {model.bundle_version}",
            model.strategy,
            str(len(model.answered)),
            model.start_from[:12],
        )
    Console(markup=False).print(table)


def _as_json(model: RegisteredModel) -> dict[str, object]:
    return {
        **{key: value for key, value in vars(model).items() if key not in ("settings",)},
        "finished_at": model.finished_at.isoformat(),
        "settings": dict(model.settings),
    }


@app.command("show")
def show(
    model: ModelArgument,
    as_json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Show where a model comes from, checked against the job's signature and the receipts.

    Example: wardgate models show 3f8a01c2
    """
    with Consortium.connect(home) as consortium:
        history = consortium.registry.history(model)
        line = consortium.registry.lineage(history)
    found = history.model
    if as_json:
        print(json.dumps(_history_json(history, line)))
        return
    print(f"model {found.digest}, {found.size} bytes")
    print(f"job {found.job} of {found.researcher}, ended {found.finished_at:%Y-%m-%d %H:%M} UTC")
    print(f"project {found.project} version {found.project_version}")
    print(f"recipe {found.recipe} ({found.bundle_name} {found.bundle_version})")
    print(f"bundle {history.work.bundle}, seed {history.work.seed}")
    for name, value in sorted(history.work.parameters.items()):
        print(f"  {name} = {value}")
    settings = ", ".join(f"{k} = {v!s}" for k, v in sorted(found.settings.items()))
    print(f"strategy {found.strategy or 'not given'}{': ' if settings else ''}{settings}")
    for parent in line:
        print(f"started from {parent}")
    console = Console(markup=False)
    table = Table("site", "release", "payloads", "bytes", "rules")
    for share in history.shares():
        table.add_row(
            share.site, share.release[:12], str(share.receipts), str(share.payload_bytes),
            ", ".join(share.rules),
        )  # fmt: skip
    console.print(table)
    if any(one.metrics for one in history.rounds):
        console.print(rounds_table(history.rounds))
    for line_of_privacy in cards.privacy(history):
        print(line_of_privacy.removeprefix("- ").replace("\\", ""))
    for doubt in history.doubts:
        print(doubt)
    print(f"{len(history.receipts)} receipts verified; the job's signature is its researcher's"
          if not history.doubts else f"{len(history.receipts)} receipts verified")  # fmt: skip


def _history_json(history: ModelHistory, line: list[str]) -> dict[str, object]:
    return {
        **_as_json(history.model),
        "parameters": dict(history.work.parameters),
        "seed": history.work.seed,
        "lineage": line,
        "rounds": [vars(one) for one in history.rounds],
        "sites": [vars(share) | {"spent": vars(share.spent)} for share in history.shares()],
        "doubts": list(history.doubts),
    }


@app.command("card")
def card(
    model: ModelArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; else it is printed.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Write a model's card (Markdown): what is known of it, and what nobody gave.

    Example: wardgate models card 3f8a01c2 -o README.md
    """
    check_folder(output)
    with Consortium.connect(home) as consortium:
        history = consortium.registry.history(model)
        text = _card(consortium, history)
    if output is None:
        print(text, end="")
        return
    write_new(output, text.encode(), 0o644)
    print(f"{output} written")


def _card(consortium: Consortium, history: ModelHistory) -> str:
    try:
        told = cards.told_by(consortium.registry.bundle(history.work.bundle))
    except NotFound:
        told = {}
    project: Project | None = None
    try:
        project = consortium.project(history.signed.project)
    except NotFound:
        project = None
    if project is not None and project.version != history.signed.project_version:
        project = None  # what it says now need not be what it said then
    return cards.card(history, project, told, parents=consortium.registry.lineage(history))


@app.command("matrix")
def matrix(
    recipe: Annotated[
        str | None, typer.Argument(help="The recipe's name in the project; not with --job.")
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", "-p", help="The project to ask under.")
    ] = None,
    job: Annotated[
        str | None, typer.Option(help="Show the table of a job that ran before.")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE overriding the recipe's run config; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0)] = 0,
    start_from: StartFromOption = None,
    site: SitesOption = None,
    minimum_sites: MinimumOption = 2,
    as_json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Evaluate every site's own model at every site, and show the table.

    Each site trains by itself, as many rounds as the recipe says. The project's grant of the recipe
    must allow it (cross_evaluation), since the other sites get each site's model.

    Example: wardgate models matrix tabular -p preterm --set num-server-rounds=10

    Example: wardgate models matrix --job 3f8a... --json
    """
    with Consortium.connect(home) as consortium:
        if job is not None:
            found = consortium.registry.history(job).rounds
        elif recipe is not None and project is not None:
            handle = consortium.cross_evaluate(
                project,
                recipe,
                dict(map(parameter_of, parameter or ())),
                seed=seed,
                start_from=start_from,
                sites=site,
                minimum_sites=minimum_sites,
            )
            print(f"job {handle.digest}", file=sys.stderr)
            found = followed(handle, Logs(), Console(markup=False, stderr=True)).rounds
        else:
            raise UsageError("Name a recipe and a --project, or a --job.")
    for one in Matrix.of(found).values():
        if as_json:
            for row in one.rows():
                print(json.dumps(row))
        else:
            print(one, end="")


class Format(StrEnum):
    """In which format a model is written."""

    SAFETENSORS = "safetensors"
    ONNX = "onnx"


@app.command("export")
def export(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    file_format: Annotated[
        Format | None, typer.Option("--format", help="Else by the file's name.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Write a model's file, for use within the consortium, and its card beside it.

    ONNX needs a recipe that declares how (in its pyproject.toml), whose code then runs here, in a
    sandbox; the file's outputs are compared with PyTorch's. To take a model out of the consortium
    see 'wardgate models take-out'.

    Example: wardgate models export 3f8a01c2 -o preterm.safetensors

    Example: wardgate models export 3f8a01c2 -o preterm.onnx
    """
    check_folder(output)
    wanted = file_format or _by_name(output)
    beside = output.with_name(output.name + ".card.md")
    for path in (output, beside):
        if path.exists():
            raise UsageError(f"{path} exists already.")
    with Consortium.connect(home) as consortium:
        registry = consortium.registry
        history = registry.history(model)
        arrays = registry.arrays(history)
        text = _card(consortium, history)
        bundle = registry.bundle(history.work.bundle) if wanted is Format.ONNX else None
    if bundle is None:
        data = b"".join(pieces(arrays.items))
        said = f"{len(data)} bytes"
    else:
        from researcher.onnx_export import to_onnx

        exported = to_onnx(bundle, history.work.parameters, arrays)
        data = exported.data
        said = f"{len(data)} bytes, at most {exported.difference:.1e} from PyTorch's outputs"
    write_new(output, data, 0o644)
    write_new(beside, text.encode(), 0o644)
    print(f"{output} written: {said}; {beside.name} beside it")


def _by_name(output: Path) -> Format:
    try:
        return Format(output.suffix.removeprefix("."))
    except ValueError:
        known = " nor ".join(f".{one}" for one in Format)
        raise UsageError(f"{output.name} ends in neither {known}; see --format.") from None
