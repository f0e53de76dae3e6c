"""``privacy``: what answers with noise have cost, and what may still be spent."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from contract.errors import NotFound
from foundation import commands
from foundation.clock import now
from node.catalog.asked import Asked
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, existing_home
from node.gate.account import Limits, Payer, PrivacyAccount, PureRelease
from node.gate.account.account import POOL, SpentRow, Standing
from node.gate.ledger import Ledger
from node.gate.policy import load_policy

app = commands.application("The privacy account: what answers with noise have cost.")


@app.callback()
def _group() -> None:
    """Keep ``show`` a command of its own."""


@app.command("show")
def show(
    project: Annotated[
        str | None, typer.Option("--project", help="Only this project, with each of its questions.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Show what each project spent, and what it and all together may still spend.

    Example: wardgate-node privacy show --project preterm
    """
    place = existing_home(home)
    policy = load_policy(place.policy)
    with catalogue(place) as catalog:
        ledger = Ledger(place.ledger)
        try:
            account = PrivacyAccount(catalog.engine, ledger)
            asked = Asked(catalog.engine)
            known = {
                Payer(consortium.name, row.name)
                for consortium in asked.consortia()
                for row in asked.projects(consortium.name)
            }
            payers = sorted(
                (p for p in known | set(account.payers()) if project in (None, p.project)),
                key=lambda p: (p.consortium, p.project),
            )
            if project is not None and not payers:
                raise NotFound(f"Project {project} is not known here, and spent nothing.")
            moment = now()
            standings = {
                payer: account.standing(payer, Limits.of(policy, payer.project), moment)
                for payer in payers
            }
            everybody = account.standing(Payer("", ""), Limits.of(policy, ""), moment)
            spends = account.spends(project) if project is not None else []
        finally:
            ledger.close()
    if as_json:
        print(json.dumps(_as_object(standings, everybody, spends)))
        return
    _print(standings, everybody, spends)


def _print(standings: dict[Payer, Standing], everybody: Standing, spends: list[SpentRow]) -> None:
    console = Console(markup=False)
    table = Table("project", "spent", "remaining", "of", title=f"epsilon of pool {POOL}")
    for payer, standing in standings.items():
        table.add_row(
            f"{payer.project} ({payer.consortium})",
            f"{standing.epsilon_project:.3f}",
            f"{standing.remaining_project:.3f}",
            f"{standing.limits.epsilon_project:g}",
        )
    table.add_row(
        "all, within 365 days",
        f"{everybody.epsilon_year:.3f}",
        f"{everybody.remaining_year:.3f}",
        f"{everybody.limits.epsilon_year:g}",
    )
    console.print(table)
    console.print(f"delta {everybody.delta:.3g}; the lane exact is not covered by this account")
    if spends:
        questions = Table("spent at", "question", "release", "cost")
        for row in spends:
            questions.add_row(
                f"{row.spent_at:%F %H:%M}", row.question[:12], row.release[:12], _cost(row)
            )
        console.print(questions)


def _cost(row: SpentRow) -> str:
    if isinstance(row.event, PureRelease):
        return f"epsilon {row.event.epsilon:g}"
    sampled = "" if row.event.sampling == 1 else f", sampled {row.event.sampling:g}"
    return f"Gaussian, {row.event.noise_multiplier:g} times the sensitivity{sampled}"


def _as_object(
    standings: dict[Payer, Standing], everybody: Standing, spends: list[SpentRow]
) -> dict[str, object]:
    return {
        "pool": POOL,
        "delta": everybody.delta,
        "year": {
            "spent": everybody.epsilon_year,
            "remaining": everybody.remaining_year,
            "limit": everybody.limits.epsilon_year,
        },
        "projects": [
            {
                "consortium": payer.consortium,
                "project": payer.project,
                "spent": standing.epsilon_project,
                "remaining": standing.remaining_project,
                "limit": standing.limits.epsilon_project,
            }
            for payer, standing in standings.items()
        ],
        "spends": [
            {
                "time": row.spent_at.isoformat(),
                "consortium": row.consortium,
                "project": row.project,
                "question": row.question,
                "release": row.release,
                "cost": _cost(row),
            }
            for row in spends
        ],
    }
