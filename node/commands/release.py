"""``wardgate-node release``: freeze what is held, and say who may ask it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from contract.documents import Name
from contract.errors import DataError, UsageError
from foundation.commands import application
from node.commands.declaring import (
    AnalysisOption,
    CellsOption,
    GridOption,
    SmallSiteOption,
    lost,
    told,
    wishes_of,
    with_grids,
    without_grid,
)
from node.commands.deriving import (
    DictionaryOption,
    derived_lines,
    deriving_of,
    with_dictionary,
)
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, node_home, record
from node.commands.progress import Progress
from node.commands.selecting import (
    AllAssetsOption,
    BodyPartOption,
    DeviceOption,
    FromOption,
    HasOption,
    KindOption,
    ModalityOption,
    PurposeOption,
    StainOption,
    TableOption,
    UntilOption,
    WhereOption,
    day_of,
    days_for,
    selection_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contract.dictionary import Variable
    from node.catalog.freezing import Plan
    from node.catalog.lineage import Apart
    from node.catalog.manifest import ReleaseManifest
    from node.catalog.rows import ReleaseRow
    from node.catalog.store import Catalog
    from node.catalog.withdrawals import Held
    from node.gate.policy import Policy
    from node.home import NodeHome

app = application("Freeze what is held, and say who may ask it.")

ReleaseArgument = Annotated[
    str, typer.Argument(help="The release's name, digest, or 8 digits or more of its digest.")
]
ProjectOption = Annotated[
    str, typer.Option("--project", metavar="CONSORTIUM/PROJECT", help="The project.")
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="The release's name: lower case, - and _.")],
    where: WhereOption = None,
    table: TableOption = None,
    columns: Annotated[
        str | None, typer.Option(help="Its columns, separated by commas; all when absent.")
    ] = None,
    kind: KindOption = None,
    modality: ModalityOption = None,
    body_part: BodyPartOption = None,
    stain: StainOption = None,
    device: DeviceOption = None,
    first: FromOption = None,
    until: UntilOption = None,
    has: HasOption = None,
    purpose: PurposeOption = None,
    all_assets: AllAssetsOption = False,
    cells: CellsOption = None,
    analysis: AnalysisOption = None,
    grid: GridOption = None,
    small_site: SmallSiteOption = False,
    dictionary: DictionaryOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would hold; write nothing.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Freeze columns of a table, assets and observations as an immutable release.

    With a table, everything is that of the table's subjects. Whoever withdrew is left out, and
    with them others at random (the policy says how many). The same content under the same name is
    the same release. Variables that a dictionary derives are made now.

    Example: wardgate-node release create trial-2026 --table trial --columns age,arm --modality CT

    Example: wardgate-node release create lesions --where lesions.toml --purpose research

    Example: wardgate-node release create bp-2026 --table bp --dictionary bp.toml --dry-run
    """
    from node.catalog.freezing import check_modalities, plan_release
    from node.catalog.releases import write_release
    from node.gate.policy import Policy, load_policy

    _check_name(name)
    node = node_home(home)
    selection = selection_of(
        where,
        table=table,
        columns=None if columns is None else [c.strip() for c in columns.split(",") if c.strip()],
        kind=kind,
        modality=modality,
        body_part=body_part,
        stain=stain,
        device=device,
        first=day_of(first),
        until=day_of(until),
        has=has,
        purpose=purpose,
        all_assets=all_assets,
    )
    now = datetime.now(UTC)
    with catalogue(node) as catalog:
        check_modalities(catalog, modality or [])
        policy = load_policy(node.policy) if node.policy.exists() else Policy()
        variables, image_table = deriving_of(node, catalog, dictionary, selection.table)
        wishes = wishes_of(cells, analysis, policy, catalog, selection.table, small_site)
        progress = {what: Progress(unit=what) for what in ("images", "draws", "combinations")}
        plan = plan_release(
            catalog,
            node,
            name,
            selection,
            today=now.date(),
            days=days_for(node, selection, variables),
            omissions=policy.disclosure.omissions,
            wishes=with_grids(with_dictionary(wishes, variables), grid),
            variables=variables,
            image_table=image_table,
            observe=lambda what, done, count: progress[what](
                "counting" if what == "combinations" else "deriving", done, count
            ),
        )
        for line in progress.values():
            line.end()
        plan, beside = _beside_earlier(node, catalog, plan, policy, variables)
        left = _left_out(plan.held)
        if dry_run:
            typer.echo(f"{name} would hold {_content(plan.manifest)}.{left}")
            _say_declared(plan)
            _say_beside(beside)
            return
        record(node, "release-created", release=plan.manifest.digest, name=name)
        release = write_release(catalog, node, plan, now=now)
    if release.revoked_at is not None:
        raise UsageError("A release of this content was revoked; it isn't made again.")
    typer.echo(f"Release {release.name}: {_content(release.manifest)}.{left}")
    _say_declared(plan)
    _say_beside(beside)
    typer.echo(release.digest)


@app.command("list")
def list_(home: HomeOption = DEFAULT_HOME) -> None:
    """List the releases, newest first.

    Example: wardgate-node release list
    """
    with catalogue(node_home(home)) as catalog:
        releases = catalog.list_releases()
    for release in releases:
        state = "revoked" if release.revoked_at else "valid"
        typer.echo(
            f"{release.digest[:16]}  {release.created_at:%Y-%m-%d %H:%M}  {state:7}  "
            f"{release.name}  ({_content(release.manifest)})"
        )
    if not releases:
        typer.echo("No releases yet; `release create` makes one.")


@app.command()
def show(release: ReleaseArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """Show a release: its columns with missing values, its files and its grants.

    Example: wardgate-node release show trial-2026
    """
    from node.catalog.releases import missing_counts

    node = node_home(home)
    with catalogue(node) as catalog:
        row = catalog.find_release(release)
        grants = catalog.grants_of(row.digest)
    manifest = row.manifest
    typer.echo(f"name      {row.name}")
    typer.echo(f"digest    {row.digest}")
    typer.echo(f"created   {row.created_at.isoformat(timespec='seconds')}")
    if row.revoked_at:
        why = f"  ({row.revoked_reason})" if row.revoked_reason else ""
        typer.echo(f"revoked   {row.revoked_at.isoformat(timespec='seconds')}{why}")
    typer.echo(f"holds     {_content(manifest)}")
    missing = missing_counts(node.release(row.digest), manifest)
    if manifest.columns:
        typer.echo(f"table     {manifest.table}")
    for column in manifest.columns:
        unit = f" in {column.unit}" if column.unit else ""
        levels = f": {', '.join(column.levels)}" if column.levels else ""
        derived = "derived, " if column.name in manifest.derived else ""
        said = f"({derived}{missing[column.name]} missing)"
        typer.echo(f"  {column.name}  {column.type}{unit}{levels}  {said}")
    if manifest.declaration is not None:
        for line in told(manifest.declaration):
            typer.echo(line)
    typer.echo("files")
    for file in manifest.files:
        if not file.path.startswith("assets/"):
            typer.echo(f"  {file.sha256[:16]}  {file.size_bytes:>12} bytes  {file.path}")
    if manifest.assets:
        # Format 1 listed the assets with the other files.
        listed = sum(f.size_bytes for f in manifest.files if f.path.startswith("assets/"))
        size = manifest.asset_bytes or listed
        typer.echo(f"  {sum(manifest.assets.values())} assets  {size} bytes")
    typer.echo("grants" if grants else "grants    none")
    for grant in grants:
        typer.echo(f"  {grant.consortium}/{grant.project}  since {grant.granted_at:%Y-%m-%d}")


@app.command()
def verify(release: ReleaseArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """Hash every file of a release again, and say whether it is still what it was.

    Example: wardgate-node release verify trial-2026
    """
    from node.catalog.releases import verify_release

    node = node_home(home)
    with catalogue(node) as catalog:
        row = catalog.find_release(release)
    verify_release(node, row.digest)
    count = sum(not file.path.startswith("assets/") for file in row.manifest.files)
    count += sum(row.manifest.assets.values())
    typer.echo(f"Release {row.name} is unchanged ({count} files).")


@app.command()
def revoke(release: ReleaseArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """Let nobody ask a release any more. Its files stay, so that past answers can be explained.

    Example: wardgate-node release revoke trial-2026
    """
    node = node_home(home)
    with catalogue(node) as catalog:
        row = catalog.find_release(release)
        record(node, "release-revoked", release=row.digest)
        catalog.revoke_release(row.digest, datetime.now(UTC))
    typer.echo(f"Release {row.name} ({row.digest[:16]}) is revoked.")


@app.command()
def grant(
    release: ReleaseArgument, project: ProjectOption, home: HomeOption = DEFAULT_HOME
) -> None:
    """Let a project ask a release.

    Example: wardgate-node release grant trial-2026 --project north/stroke
    """
    consortium, name = _project(project)
    node = node_home(home)
    with catalogue(node) as catalog:
        row = catalog.find_release(release)
        if row.revoked_at is not None:
            raise UsageError("The release is revoked, so no project can be let ask it.")
        _check_dictionary(catalog, row, consortium, name)
        _check_beside(catalog, row)
        record(node, "release-granted", release=row.digest, consortium=consortium, project=name)
        catalog.grant(row.digest, consortium, name, datetime.now(UTC))
    typer.echo(f"{project} may ask release {row.name} ({row.digest[:16]}).")


@app.command()
def ungrant(
    release: ReleaseArgument, project: ProjectOption, home: HomeOption = DEFAULT_HOME
) -> None:
    """Take a grant back.

    Example: wardgate-node release ungrant trial-2026 --project north/stroke
    """
    consortium, name = _project(project)
    node = node_home(home)
    with catalogue(node) as catalog:
        row = catalog.find_release(release)
        record(node, "release-ungranted", release=row.digest, consortium=consortium, project=name)
        there = catalog.ungrant(row.digest, consortium, name)
    typer.echo(
        f"{project} may {'no longer ask' if there else 'not ask anyway'} release {row.name} "
        f"({row.digest[:16]})."
    )


def _check_beside(catalog: Catalog, row: ReleaseRow) -> None:
    """Raise ``UsageError`` where one release of a table is for secure sums alone, and another not:
    the other's answers would be taken out of the sums.
    """
    for other in catalog.list_releases():
        if (
            other.revoked_at is None
            and other.manifest.table == row.manifest.table
            and _is_of_sums(other) != _is_of_sums(row)
            and catalog.grants_of(other.digest)
        ):
            raise UsageError(
                f"Release {other.name} of the same table is granted, and one of both is for secure "
                "sums alone; take that grant back first."
            )


def _is_of_sums(row: ReleaseRow) -> bool:
    return row.manifest.declaration is not None and row.manifest.declaration.sums_only


def _check_dictionary(catalog: Catalog, row: ReleaseRow, consortium: str, name: str) -> None:
    """Raise ``DataError`` unless the release fits the project's dictionary, if that is known."""
    from contract.documents import Project
    from contract.envelope import Envelope
    from node.catalog.asked import Asked
    from node.catalog.columns import check_dictionary

    known = next((p for p in Asked(catalog.engine).projects(consortium) if p.name == name), None)
    if known is None or row.manifest.table is None:
        return
    variables = Project.read(Envelope.parse(known.envelope).body).variables
    problems = check_dictionary(row.manifest, variables)
    if problems:
        raise DataError(f"The release doesn't fit the project: {'; '.join(problems[:5])}.")


def _beside_earlier(
    node: NodeHome, catalog: Catalog, plan: Plan, policy: Policy, variables: Sequence[Variable]
) -> tuple[Plan, Apart | None]:
    """Return the plan with what it may declare beside earlier releases."""
    from node.catalog.deriving import of_no_table
    from node.catalog.lineage import beside_earlier

    disclosure = policy.disclosure
    if plan.manifest.declaration is None or not disclosure.releases_apart:
        return plan, None
    share, common = disclosure.largest_contribution, of_no_table(variables)
    return beside_earlier(node, plan, catalog.list_releases(), share, common)


def _say_beside(beside: Apart | None) -> None:
    """Say what earlier releases cost this one."""
    if beside is not None and beside.elsewhere:
        typer.echo(
            f"Not exact, nor is anything by cells of them: {', '.join(beside.elsewhere)}. A "
            "release of another table tells of them too, and the two differ by few subjects."
        )
    if beside is None or not (beside.small or beside.lost or beside.derived):
        return
    if beside.derived:
        typer.echo(
            "Nothing is exact: earlier releases of the table have other columns, or derived ones "
            "in another way. See releases_apart in the policy."
        )
        return
    if beside.small:
        typer.echo(
            f"Nothing is exact: beside earlier releases of the table ({beside.releases}), exact "
            f"answers would tell of too few subjects who came, left or changed, in {beside.small} "
            "groups. Make it after more has changed, or see releases_apart in the policy."
        )
        return
    typer.echo(f"Not exact, beside earlier releases of the table: {', '.join(beside.lost)}.")


def _check_name(name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise UsageError("A release's name is lower case letters, digits, . _ and -.") from None


def _project(text: str) -> tuple[str, str]:
    consortium, _, project = text.partition("/")
    if not consortium or not project or "/" in project:
        raise UsageError("Name a project as CONSORTIUM/PROJECT.")
    return consortium, project


def _content(manifest: ReleaseManifest) -> str:
    parts = [f"{manifest.subjects} subjects"]
    if manifest.table is not None:
        parts.append(f"{manifest.rows} rows of {len(manifest.columns)} columns")
    parts += [f"{count} {modality}" for modality, count in manifest.assets.items()]
    parts += [f"{manifest.observations} observations"] if manifest.observations else []
    parts += [f"{manifest.groups} groups"] if manifest.groups else []
    return ", ".join(parts)


def _say_declared(plan: Plan) -> None:
    """Say what was derived, what can be asked exactly, and what that leaves out."""
    for line in derived_lines(plan.made):
        typer.echo(line)
    if plan.manifest.declaration is None or plan.loss is None:
        return
    declared = (*told(plan.manifest.declaration), *lost(plan.loss), *without_grid(plan.manifest))
    for line in declared:
        typer.echo(line)


def _left_out(held: Held) -> str:
    """Return who isn't in a planned release, for the hospital's own eyes."""
    if not held.left and not held.omitted:
        return ""
    return f" Left out: {held.left} who withdrew, {held.omitted} others at random."
