"""``roster`` and ``project``: what a hospital's steward reads, signs and approves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from contract import wire_pb2 as wire
from contract.derivation_words import in_words
from contract.dictionary import Variable
from contract.documents import ParameterRange, Project, Roster
from contract.envelope import Envelope
from contract.errors import DataError, NotFound, SignatureError, UsageError
from contract.keys import SigningKey
from foundation import commands, rpc
from foundation.clock import now
from node.catalog.asked import Asked, ConsortiumRow
from node.catalog.columns import check_dictionary
from node.catalog.store import Catalog
from node.commands.consortium import steward_key
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, node_home
from node.gate.ledger import Ledger
from node.home import NodeHome
from node.link.membership import signing_key, transport_identity

roster = commands.application("The roster: who is in the consortium.")
project = commands.application("Projects: what this hospital agrees to, once.")

ConsortiumOption = Annotated[
    str | None, typer.Option("--consortium", help="Which consortium (when there are several).")
]
StewardOption = Annotated[
    Path | None, typer.Option("--steward-key", help="The steward's key, if kept elsewhere.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Don't ask for confirmation.")]


def find_consortium(catalog: Catalog, name: str | None) -> ConsortiumRow:
    """Return the consortium called ``name``, or the only one."""
    asked = Asked(catalog.engine)
    if name is not None:
        return asked.consortium(name)
    rows = asked.consortia()
    if len(rows) != 1:
        raise UsageError(
            f"This node is in {len(rows)} consortia; say which with --consortium."
            if rows
            else "This node has joined no consortium; run 'wardgate-node join' first."
        )
    return rows[0]


def _documents(home: NodeHome, row: ConsortiumRow, *, proposed: bool) -> wire.Documents:
    credentials = transport_identity(home, row.name).channel_credentials()
    with rpc.calling(row.address, credentials) as stub:
        found: wire.Documents = stub.GetDocuments(
            wire.DocumentsRequest(proposed=proposed), timeout=30
        )
        return found


def _sign(home: NodeHome, row: ConsortiumRow, envelope: Envelope) -> None:
    credentials = transport_identity(home, row.name).channel_credentials()
    with rpc.calling(row.address, credentials) as stub:
        stub.SignDocument(wire.SignDocumentRequest(envelope=envelope.to_bytes()), timeout=30)


@roster.command("sign")
def sign_roster(
    consortium: ConsortiumOption = None,
    key: StewardOption = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="The fingerprint that the other stewards read out.")
    ] = None,
    yes: YesOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Show the proposed roster and sign it as this hospital's steward.

    Check that this site's keys are its own, and compare the fingerprint with the other stewards.

    Example: wardgate-node roster sign
    """
    place = node_home(home)
    with catalogue(place) as catalog:
        row = find_consortium(catalog, consortium)
        documents = _documents(place, row, proposed=True)
        data = documents.roster or _documents(place, row, proposed=False).roster
        if not data:
            raise NotFound("No roster is proposed; ask the coordinator to propose one.")
        envelope = Envelope.parse(data)
        if fingerprint is not None and fingerprint.lower() != envelope.digest:
            raise SignatureError(
                "The proposed roster has another fingerprint than the one given; not signed."
            )
        document = Roster.read(envelope.body)
        steward = steward_key(place, key)
        _check_own_keys(place, row, document, steward)
        _show_roster(document, envelope)
        if not yes and not typer.confirm("Sign it?"):
            raise UsageError("Not signed.")
        _record(place, "roster-signed", row, envelope.digest)
        _sign(place, row, envelope.sign(steward))
        print(f"signed roster version {document.version}")


def _check_own_keys(
    home: NodeHome, row: ConsortiumRow, document: Roster, steward: SigningKey
) -> None:
    """Raise unless the roster names this site with the keys that it made itself."""
    listed = document.site(row.site)
    if listed is None or listed.key != signing_key(home, row.name).public:
        raise SignatureError(
            f"The proposed roster doesn't name site {row.site} with this site's own key; "
            "not signed."
        )
    if steward.id not in document.steward_keys:
        raise SignatureError("The proposed roster doesn't name this steward's key; not signed.")


def _show_roster(document: Roster, envelope: Envelope) -> None:
    table = Table("role", "name", "key", title=f"roster version {document.version}")
    for role, members in (
        ("steward", document.stewards),
        ("site", document.sites),
        ("researcher", document.researchers),
    ):
        for member in members:
            table.add_row(role, member.name, member.key_id[:32] + "…")
    Console(markup=False).print(table)
    print(f"threshold {document.threshold} stewards; valid until {document.expires_at:%F}")
    print(f"fingerprint {envelope.digest}")


@project.command("list")
def list_projects(consortium: ConsortiumOption = None, home: HomeOption = DEFAULT_HOME) -> None:
    """List projects: proposed, believed and approved here.

    Example: wardgate-node project list
    """
    place = node_home(home)
    table = Table("project", "version", "title", "approved here", "fingerprint")
    with catalogue(place) as catalog:
        row = find_consortium(catalog, consortium)
        approved = {p.approved_digest for p in Asked(catalog.engine).projects(row.name)}
        for proposed in (False, True):
            for data in _documents(place, row, proposed=proposed).projects:
                envelope = Envelope.parse(data)
                document = Project.read(envelope.body)
                table.add_row(
                    document.name,
                    str(document.version),
                    document.title,
                    "yes" if envelope.digest in approved else "no",
                    envelope.digest[:16] + "…",
                )
    Console(markup=False).print(table)


@project.command("approve")
def approve_project(
    name: Annotated[str, typer.Argument(help="The project's name.")],
    release: Annotated[
        list[str], typer.Option("--release", "-r", help="A release to grant to it; repeatable.")
    ],
    consortium: ConsortiumOption = None,
    key: StewardOption = None,
    yes: YesOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Approve a project for this hospital: sign it, and grant releases to it.

    Checks first that each release fits the project's dictionary. Recipes that it names are
    approved one by one, with 'wardgate-node recipe approve'.

    Example: wardgate-node project approve preterm --release trial
    """
    place = node_home(home)
    with catalogue(place) as catalog:
        row = find_consortium(catalog, consortium)
        envelope, document = find_project(place, row, name)
        if row.site not in document.sites:
            raise NotFound(f"Project {name} doesn't name site {row.site}.")
        releases = [catalog.find_release(reference) for reference in release]
        for found in releases:
            variables = document.variables if found.manifest.table else ()
            problems = check_dictionary(found.manifest, variables)
            if problems:
                raise DataError(
                    f"Release {found.name} doesn't fit the project: {'; '.join(problems[:5])}."
                )
        _show_project(document, envelope)
        if not yes and not typer.confirm("Approve it for this hospital?"):
            raise UsageError("Not approved.")
        steward = steward_key(place, key)
        asked = Asked(catalog.engine)
        _record(place, "project-approved", row, envelope.digest, [r.digest for r in releases])
        _sign(place, row, envelope.sign(steward))
        asked.put_project(row.name, document.name, document.version, envelope.to_bytes())
        asked.approve_project(row.name, document.name, envelope.digest, now())
        for found in releases:
            catalog.grant(found.digest, row.name, document.name, now())
    print(f"approved {name} version {document.version}; granted: {', '.join(release)}")


@project.command("withdraw")
def withdraw_project(
    name: Annotated[str, typer.Argument(help="The project's name.")],
    consortium: ConsortiumOption = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Take the approval back: from now on nothing is answered under this project.

    Example: wardgate-node project withdraw preterm
    """
    place = node_home(home)
    with catalogue(place) as catalog:
        row = find_consortium(catalog, consortium)
        _record(place, "project-withdrawn", row, name)
        Asked(catalog.engine).approve_project(row.name, name, None, now())
    print(f"withdrew the approval of {name}")


def find_project(home: NodeHome, row: ConsortiumRow, name: str) -> tuple[Envelope, Project]:
    """Return a project as proposed, else as published, from the coordinator."""
    for proposed in (True, False):
        for data in _documents(home, row, proposed=proposed).projects:
            envelope = Envelope.parse(data)
            document = Project.read(envelope.body)
            if document.name == name:
                return envelope, document
    raise NotFound(f"No project called {name} is proposed or published.")


def _show_project(document: Project, envelope: Envelope) -> None:
    table = _page(f"project {document.name} version {document.version}")
    for key, value in (
        ("title", document.title),
        ("purpose", document.purpose),
        ("ethics reference", document.ethics_reference),
        ("legal basis", document.legal_basis),
        ("researchers", ", ".join(document.researchers)),
        ("sites", ", ".join(document.sites)),
        ("kinds of work", ", ".join(document.kinds)),
        ("fewest sites", str(document.minimum_sites)),
        ("model", document.model_outcome),
        ("valid until", f"{document.expires_at:%F}"),
        ("fingerprint", envelope.digest),
    ):
        table.add_row(key, value)
    console = Console(markup=False)
    console.print(table)
    variables = Table("variable", "kind", "may be counted by", "meaning")
    for variable in document.variables:
        meaning = variable.meaning
        if variable.derive is not None:
            meaning = f"{meaning} = {in_words(variable.derive)}".strip()
        variables.add_row(variable.name, variable.kind, _grid(variable), meaning)
    console.print(variables)
    for recipe in document.recipes:
        table = _page(f"recipe {recipe.name}")
        table.add_row("bundle", recipe.bundle)
        ranges = recipe.metric_ranges
        metrics = [
            f"{name} ({ranges[name].minimum:g} to {ranges[name].maximum:g})"
            if name in ranges
            else name
            for name in recipe.metrics
        ]
        table.add_row("metrics that may leave", ", ".join(metrics))
        for name, longest in recipe.metric_lengths.items():
            table.add_row(f"metric {name}", f"may be a list of at most {longest:,} numbers")
        if recipe.metric_records:
            table.add_row("its record may be called", ", ".join(recipe.metric_records))
        if recipe.num_examples != "subjects":
            table.add_row("num-examples", "counts no subjects: any number may leave")
        table.add_row("largest reply", f"{recipe.max_reply_bytes:,} bytes")
        if recipe.max_model_bytes:
            length = f"may be bytes of any length up to {recipe.max_model_bytes:,}"
            table.add_row("updates", length)
        if recipe.cross_evaluation:
            table.add_row("this site's own model", "may be sent to the others, scored there")
        if recipe.secure:
            table.add_row("updates", "leave in secure sums only")
        for digest in recipe.weights:
            table.add_row("pretrained weights", digest)
        if recipe.drafts:
            table.add_row("drafts", "may be left here; none leaves")
        for name, allowed in recipe.parameters.items():
            table.add_row(f"parameter {name}", _range(allowed))
        console.print(table)


def _page(title: str) -> Table:
    """Return a table of names and values. A digest is there to be compared, so none is cut."""
    table = Table(show_header=False, title=title)
    table.add_column()
    table.add_column(overflow="fold")
    return table


def _grid(variable: Variable) -> str:
    if variable.kind == "category":
        return ", ".join(variable.levels)
    if variable.minimum is None or variable.maximum is None:
        return "no grid"
    return f"{variable.minimum:g} to {variable.maximum:g}, {variable.bins or 'no'} bins"


def _range(allowed: ParameterRange) -> str:
    if allowed.choices:
        return "one of " + ", ".join(map(str, allowed.choices))
    said = []
    if allowed.minimum is not None and allowed.maximum is not None:
        said.append(f"{allowed.minimum:g} to {allowed.maximum:g}")
    if allowed.characters:
        said.append(f"text of {allowed.characters!r}, at most {allowed.max_length} long")
    return " or ".join(said) or "nothing"


def _record(
    home: NodeHome, kind: str, row: ConsortiumRow, document: str, releases: list[str] | None = None
) -> None:
    body: dict[str, object] = {"consortium": row.name, "document": document}
    if releases is not None:
        body["releases"] = releases
    Ledger(home.ledger).append(kind, body, now())
