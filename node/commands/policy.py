"""``policy``: what the hospital's policy says, and what a given job would meet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from contract.envelope import MAX_ENVELOPE_BYTES, Envelope
from contract.errors import Refused, WardgateError
from foundation import commands
from foundation.clock import now
from foundation.defaults import CONFIGS, default_text
from foundation.files import read_bounded, write_durably
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, node_home
from node.config import create_home
from node.gate.ledger import Ledger
from node.gate.policy import Policy, changes, load_policy
from node.home import NodeHome

if TYPE_CHECKING:
    from node.gate.gate import Gate
    from node.gate.rules import Question

app = commands.application("The hospital's policy.")


@app.command("show")
def show(home: HomeOption = DEFAULT_HOME) -> None:
    """Show the policy in force.

    Example: wardgate-node policy show
    """
    policy = load_policy(node_home(home).policy)
    table = Table("key", "value", title=f"policy, profile {policy.profile}")
    for section, values in policy.model_dump(mode="json").items():
        if isinstance(values, dict):
            for key, value in values.items():
                table.add_row(f"{section}.{key}", _shown(value))
    Console(markup=False).print(table)


@app.command("use")
def use(
    profile: Annotated[str, typer.Argument(help="strict, standard, open-research, or a file.")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Put a profile (or a file of your own) in force; what changes is shown and on the ledger.

    Example: wardgate-node policy use strict
    """
    place = create_home(node_home(home))
    known = CONFIGS / "policy" / f"{profile}.toml"
    text = (
        default_text(f"policy/{profile}.toml")
        if known.exists()
        else read_bounded(Path(profile), 1024 * 1024).decode()
    )
    candidate = place.root / "policy.toml.candidate"
    write_durably(candidate, text.encode())
    try:
        policy = load_policy(candidate)
    finally:
        candidate.unlink()
    changed = _changed(place, policy)
    body: dict[str, object] = {"digest": policy.digest, "values": policy.model_dump(mode="json")}
    if changed is not None:
        body["changed"] = {key: list(values) for key, values in changed.items()}
    Ledger(place.ledger).append("policy", body, now())
    write_durably(place.policy, text.encode())
    for key, (old, new) in (changed or {}).items():
        print(f"  {key}: {_shown(old)} -> {_shown(new)}")
    print(f"policy in force: profile {policy.profile}, digest {policy.digest[:16]}…")


def _changed(place: NodeHome, policy: Policy) -> dict[str, tuple[object, object]] | None:
    """Return what a new policy changes; None when the former one can't be read."""
    try:
        return changes(load_policy(place.policy), policy)
    except WardgateError:
        return None


def _shown(value: object) -> str:
    return "nothing" if value is None else json.dumps(value)


@app.command("check")
def check(
    job: Annotated[
        Path | None, typer.Argument(help="A signed job's file; without it, only the policy.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Explain which rules stand, and what a given job would meet. Nothing is recorded or sent.

    It says too whether the job, or its answers, would wait for a steward; by which lane each
    statistic would be answered, or what is done to an update; and what the privacy account would
    be charged. Exit code 8 when the job would be refused.

    Example: wardgate-node policy check job.dsse.json
    """
    from node.catalog.asked import Asked
    from node.gate.before_egress import BEFORE_EGRESS
    from node.gate.before_work import BEFORE_WORK
    from node.gate.gate import Gate
    from node.link.membership import load_membership
    from node.link.server import PolicyFile

    place = node_home(home)
    policy = load_policy(place.policy)
    print(f"policy: profile {policy.profile}, digest {policy.digest[:16]}…")
    if job is None:
        for title, rules in (("before work", BEFORE_WORK), ("before egress", BEFORE_EGRESS)):
            table = Table("rule", "what it asks", title=title)
            for rule in rules:
                table.add_row(type(rule).__name__, (rule.__doc__ or "").split("\n\n")[0])
            Console(markup=False).print(table)
        return
    data = read_bounded(job, MAX_ENVELOPE_BYTES)
    Envelope.parse(data)
    with catalogue(place) as catalog:
        asked = Asked(catalog.engine)
        gate = Gate(catalog, Ledger(place.ledger), PolicyFile(place), now)
        refusals = []
        for row in asked.consortia():
            member = load_membership(place, asked, row, now())
            question = gate.question(member, data)
            refusals.append(_explain(question, row.name))
            if refusals[-1] is None:
                _foretell(question, gate, gate.period_seconds(member, data))
    if all(refusals):
        first = next(r for r in refusals if r is not None)
        raise Refused(first.code, f"The job would be refused: {first.sentence}")


def _explain(question: Question, consortium: str) -> Refused | None:
    from node.gate.before_work import BEFORE_WORK
    from node.gate.inbox import preview
    from node.gate.rules import Waits

    table = Table("rule", "outcome", title=f"before work, in consortium {consortium}")
    objection: Refused | None = None
    for rule in BEFORE_WORK:
        name = type(rule).__name__
        if objection is not None:
            table.add_row(name, "not reached")
            continue
        try:
            rule.check(question)
            table.add_row(name, "passes")
        except Waits as waits:
            why = "; ".join(preview.REASONS.get(reason, reason) for reason in waits.reasons)
            table.add_row(name, f"waits for the steward: {why}")
            people = question.policy.approval.people
            if people > 1:
                table.add_row("", f"{people} stewards must approve")
        except Refused as refusal:
            objection = refusal
            table.add_row(name, f"refuses: {refusal.sentence}")
    Console(markup=False).print(table)
    return objection


def _foretell(question: Question, gate: Gate, period_seconds: float) -> None:
    from node.gate.prospect import prospect

    table = Table("what", "how", title="then, of what would leave")
    for name, text in prospect(question, gate.dp, period_seconds):
        table.add_row(name, text)
    Console(markup=False).print(table)
