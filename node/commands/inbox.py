"""``inbox``: what waits for the steward, and the steward's signed decisions on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from contract.documents import Job, Project, printable
from contract.envelope import Envelope
from contract.errors import DocumentError, NotFound, Refused, SignatureError, UsageError
from contract.keys import SigningKey
from contract.work import StatisticsWork, TrainingWork
from foundation import commands
from foundation.blobs import BlobFolder
from foundation.clock import now
from node.catalog.asked import Asked, ConsortiumRow
from node.catalog.inbox import Inbox, InboxRow
from node.catalog.rows import ReleaseRow
from node.catalog.store import Catalog
from node.commands.documents import StewardOption, YesOption
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, node_home, record
from node.commands.recipe import (
    OwnVersionsOption,
    WheelhouseOption,
    WithoutOption,
    describe_candidate,
    fetch_bundle,
    let_in,
)
from node.commands.steward import present_key
from node.gate.inbox.decisions import REASONS, Verdict, What, decide, verdict
from node.gate.inbox.stewards import allowed_keys
from node.gate.ledger import Ledger
from node.gate.policy import Policy, load_policy
from node.home import NodeHome

if TYPE_CHECKING:
    from node.work.training.dependencies import Sources

app = commands.application("What waits for the steward.")

NumberArgument = Annotated[int, typer.Argument(help="The number that 'inbox list' shows.")]


@dataclass(frozen=True)
class Opened:
    """One thing of the inbox with what is known of it."""

    home: NodeHome
    catalog: Catalog
    inbox: Inbox
    row: InboxRow
    consortium: ConsortiumRow
    policy: Policy
    job: Job
    project: Project
    release: ReleaseRow | None

    @property
    def what(self) -> What:
        """What is decided on."""
        return "output" if self.row.what == "output" else "job"

    @property
    def place(self) -> tuple[str, str]:
        """Consortium and site, to which a decision is bound."""
        return self.consortium.name, self.consortium.site

    @property
    def allowed(self) -> frozenset[str]:
        """The ids of the keys that decide."""
        registered = (r.envelope for r in self.inbox.stewards())
        return allowed_keys(self.consortium.anchor, registered)

    def verdict(self, people: int) -> Verdict | None:
        """Return what the stewards decided so far, if ``people`` of them were enough."""
        return verdict(
            self.inbox.decisions(self.row.subject),
            self.allowed,
            self.what,
            self.row.subject,
            self.place,
            people,
        )

    def approvals(self) -> int:
        """Return how many stewards approved so far."""
        found = self.verdict(1)
        return len(found.keys) if found is not None and found.refusal is None else 0


@app.callback(invoke_without_command=True, no_args_is_help=False)
def inbox(context: typer.Context, home: HomeOption = DEFAULT_HOME) -> None:
    """What waits for the steward."""
    if not commands.subcommand_named(context):
        list_(home=home)


@app.command("list")
def list_(
    everything: Annotated[
        bool, typer.Option("--all", help="Also what was decided, or is over.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """List what waits for the steward, oldest first.

    Example: wardgate-node inbox list
    """
    table = Table("number", "what", "kind", "project", "researcher", "why", "since", "state")
    place = node_home(home)
    with catalogue(place) as catalog:
        rows = Inbox(catalog.engine).rows(*(() if everything else ("waiting",)))
    for row in rows:
        over = row.state == "waiting" and now() >= _job(row).expires_at
        table.add_row(
            str(row.number),
            row.what,
            row.kind,
            printable(row.project),
            printable(row.researcher),
            ", ".join(row.reasons),
            f"{row.arrived_at:%F %H:%M}",
            "expired" if over else row.state,
        )
    if rows:
        Console(markup=False).print(table)
    else:
        print("Nothing waits.")


@app.command()
def show(
    number: NumberArgument,
    code: Annotated[
        bool, typer.Option("--code", help="Show the recipe's code and its differences too.")
    ] = False,
    wheelhouse: WheelhouseOption = None,
    home: HomeOption = DEFAULT_HOME,
    own_versions: OwnVersionsOption = False,
    without: WithoutOption = None,
) -> None:
    """Show who asks, for what, of whom, what would leave, and what is new in a recipe.

    Example: wardgate-node inbox show 3 --code
    """
    from node.work.training.dependencies import Sources

    with _opened(home, number) as opened:
        lines = list(_preview(opened))
        if "recipe" in opened.row.reasons:
            assert isinstance(opened.job.work, TrainingWork)
            data = fetch_bundle(opened.home, opened.consortium, opened.job.work.bundle)
            sources = Sources(wheelhouse, own_versions, frozenset(without or ()))
            lines += describe_candidate(opened.catalog, opened.home, data, sources, code=code)
    text = "\n".join(lines)
    if code:
        typer.echo_via_pager(text + "\n")
    else:
        typer.echo(text)


@app.command()
def approve(
    number: NumberArgument,
    hold_outputs: Annotated[
        bool, typer.Option("--hold-outputs", help="Let it work, but see each answer first.")
    ] = False,
    wheelhouse: WheelhouseOption = None,
    key: StewardOption = None,
    yes: YesOption = False,
    home: HomeOption = DEFAULT_HOME,
    own_versions: OwnVersionsOption = False,
    without: WithoutOption = None,
) -> None:
    """Let a job work. A recipe that it waits for is let in with it.

    Where the policy asks for several people, each runs this with a key of their own.

    Example: wardgate-node inbox approve 3
    """
    from node.work.training.dependencies import Sources

    with _opened(home, number) as opened:
        if opened.what != "job":
            raise UsageError("It is an answer, not a job: use 'inbox release' or 'inbox refuse'.")
        sources = Sources(wheelhouse, own_versions, frozenset(without or ()))
        _approve(opened, key, yes, sources, hold_outputs=hold_outputs)


@app.command()
def release(
    number: NumberArgument,
    key: StewardOption = None,
    yes: YesOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Let a held answer leave, exactly as it was shown.

    Example: wardgate-node inbox release 4
    """
    from node.work.training.dependencies import Sources

    with _opened(home, number) as opened:
        if opened.what != "output":
            raise UsageError("It is a job, not an answer: use 'inbox approve' or 'inbox refuse'.")
        _approve(opened, key, yes, Sources(), hold_outputs=False)


@app.command()
def refuse(
    number: NumberArgument,
    reason: Annotated[
        str,
        typer.Option("--reason", help=f"One of {', '.join(REASONS)}; or words, which stay here."),
    ],
    tell: Annotated[
        bool, typer.Option("--tell", help="Let the researcher read the words too.")
    ] = False,
    key: StewardOption = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Refuse a job, or a held answer. One steward is enough to refuse.

    The researcher is told a reason of a closed list; words of your own only with --tell.

    Example: wardgate-node inbox refuse 3 --reason purpose
    """
    code = reason if reason in REASONS else "declined"
    note = "" if reason in REASONS else printable(reason, 300)
    with _opened(home, number) as opened:
        steward = _steward(opened, key)
        _sign(opened, steward, code=code, note=note, tell=tell)
    print(f"refused {number}: {note if note and tell else REASONS[code]}")


@app.command()
def hold(
    job: Annotated[str, typer.Argument(help="The job's digest, or its first 8 digits or more.")],
    key: StewardOption = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Hold the answers of a job that is under way, from the next one on.

    Example: wardgate-node inbox hold 89537fe4
    """
    place = node_home(home)
    if len(job) < 8:
        raise UsageError("Give 8 digits or more of the job's digest.")
    with catalogue(place) as catalog:
        asked, inbox = Asked(catalog.engine), Inbox(catalog.engine)
        found = [
            (row, digest)
            for row in asked.consortia()
            for digest, _ in asked.open_jobs(row.name)
            if digest.startswith(job)
        ]
        if len(found) != 1:
            raise NotFound(f"{len(found)} jobs under way have a digest that begins with {job}.")
        row, digest = found[0]
        steward = present_key(place, key)
        if steward.id not in allowed_keys(row.anchor, (r.envelope for r in inbox.stewards())):
            raise SignatureError("This key is no steward's at this site.")
        envelope = decide(steward, "job", digest, (row.name, row.site), now(), hold_outputs=True)
        record(
            place,
            "steward-decided",
            consortium=row.name,
            job=digest,
            what="job",
            subject=digest,
            verdict="approve",
            hold_outputs=True,
            key=steward.id,
            decision=Envelope.parse(envelope).digest,
        )
        inbox.add_decision(digest, steward.id, envelope, now())
    print(f"the answers of {digest[:12]} are held from now on")


def _approve(
    opened: Opened, path: Path | None, yes: bool, sources: Sources, *, hold_outputs: bool
) -> None:
    if now() >= opened.job.expires_at:
        raise DocumentError(f"Number {opened.row.number} waited too long: its job has expired.")
    steward = _steward(opened, path)
    bundle = b""
    for line in _preview(opened):
        typer.echo(line)
    if "recipe" in opened.row.reasons:
        assert isinstance(opened.job.work, TrainingWork)
        bundle = fetch_bundle(opened.home, opened.consortium, opened.job.work.bundle)
        lines = describe_candidate(opened.catalog, opened.home, bundle, sources, code=False)
        typer.echo("\n".join(lines))
    people = opened.policy.approval.people
    if not yes and not typer.confirm("Sign it?"):
        raise UsageError("Nothing was signed.")
    _sign(opened, steward, hold_outputs=hold_outputs)
    if opened.verdict(people) is not None:
        if bundle:
            let_in(opened.catalog, opened.home, bundle, sources)
        print(f"{'released' if opened.what == 'output' else 'approved'} {opened.row.number}")
        return
    print(f"signed {opened.row.number}: {opened.approvals()} of {people} stewards so far")
    if len(opened.allowed) < people:
        print(
            f"The policy asks for {people} people and {len(opened.allowed)} decide here: "
            "see wardgate-node steward add."
        )


def _steward(opened: Opened, path: Path | None) -> SigningKey:
    """Return the key to decide with; refused unless it is a steward's, and it still waits."""
    if opened.row.state != "waiting":
        raise UsageError(f"Number {opened.row.number} doesn't wait: it is {opened.row.state}.")
    steward = present_key(opened.home, path)
    if steward.id not in opened.allowed:
        raise SignatureError("This key is no steward's at this site; see wardgate-node steward.")
    return steward


def _sign(
    opened: Opened,
    steward: SigningKey,
    *,
    code: str = "",
    note: str = "",
    tell: bool = False,
    hold_outputs: bool = False,
) -> None:
    envelope = decide(
        steward,
        opened.what,
        opened.row.subject,
        opened.place,
        now(),
        code=code,
        note=note,
        tell=tell,
        hold_outputs=hold_outputs,
    )
    record(
        opened.home,
        "steward-decided",
        consortium=opened.consortium.name,
        job=opened.row.job,
        what=opened.what,
        subject=opened.row.subject,
        verdict="refuse" if code else "approve",
        **({"code": code} if code else {}),
        **({"hold_outputs": True} if hold_outputs else {}),
        key=steward.id,
        decision=Envelope.parse(envelope).digest,
    )
    opened.inbox.add_decision(opened.row.subject, steward.id, envelope, now())


def _preview(opened: Opened) -> Iterator[str]:
    from node.gate.inbox import preview

    row = opened.row
    yield f"number {row.number}: {row.what} of {row.kind}, job {row.job}"
    for reason in row.reasons:
        yield _line("waits because", preview.REASONS.get(reason, reason))
    for name, text in preview.about(opened.job, opened.project, opened.release, opened.policy):
        yield _line(name, text)
    if opened.what == "job":
        yield from (_line(name, text) for name, text in _account(opened))
    people = opened.policy.approval.people
    if people > 1:
        yield _line("signed by", f"{opened.approvals()} of {people} stewards")
    if row.payload is not None:
        for name, text in _output(opened, row.payload):
            yield _line(name, text)


def _account(opened: Opened) -> Iterator[tuple[str, str]]:
    """Yield how the privacy account stands, and would with this question's answers with noise."""
    from node.gate import exact
    from node.gate.account import Payer, PrivacyAccount
    from node.gate.dp.draws import Draws
    from node.gate.dp.lane import DpLane
    from node.gate.prospect import account, with_noise

    work, release = opened.job.work, opened.release
    if not isinstance(work, StatisticsWork) or release is None:
        return
    try:
        plan = exact.lanes(work, opened.project, release.manifest, opened.policy)
    except (Refused, DocumentError):
        return  # it would be refused before anything is spent
    asked = with_noise(
        Payer(opened.row.consortium, opened.row.project),
        opened.row.job,
        opened.project,
        release.digest,
        work,
        plan,
        opened.policy,
        now(),
    )
    if asked is None:
        yield "noise", "none: the release declares exact answers"
        return
    ledger = Ledger(opened.home.ledger)
    try:
        lane = DpLane(PrivacyAccount(opened.catalog.engine, ledger), Draws(opened.catalog.engine))
        yield from account(asked, lane)
    finally:
        ledger.close()


def _output(opened: Opened, payload: bytes) -> Iterator[tuple[str, str]]:
    from node.gate.inbox import preview

    if opened.row.kind == "statistics":
        yield from preview.output_of_statistics(opened.job, payload)
        return
    tensors = b""
    if opened.row.tensors_digest:
        blobs = BlobFolder(opened.home.jobs / opened.row.job / "out")
        tensors = blobs.path(opened.row.tensors_digest).read_bytes()
    yield from preview.output_of_training(payload, tensors)


def _line(name: str, text: str) -> str:
    return f"  {name:<17} {text}".rstrip()


def _job(row: InboxRow) -> Job:
    return Job.read(Envelope.parse(row.envelope).body)


@contextmanager
def _opened(home: Path, number: int) -> Iterator[Opened]:
    place = node_home(home)
    with catalogue(place) as catalog:
        asked, inbox = Asked(catalog.engine), Inbox(catalog.engine)
        row = inbox.row(number)
        consortium = asked.consortium(row.consortium)
        job = _job(row)
        known = next(p for p in asked.projects(row.consortium) if p.name == row.project)
        project = Project.read(Envelope.parse(known.envelope).body)
        wanted = job.releases.get(consortium.site)
        granted = catalog.granted(row.consortium, row.project)
        yield Opened(
            place,
            catalog,
            inbox,
            row,
            consortium,
            load_policy(place.policy),
            job,
            project,
            next((r for r in granted if r.digest == wanted), None),
        )
