"""Of ``models``: ask the stewards to release a finished model, and take it out once they have."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from contract.envelope import MAX_ENVELOPE_BYTES
from contract.errors import DataError, DocumentError, NotFound, UsageError
from contract.membership import (
    MembershipReport,
    auc,
    correct_guesses,
    epsilon_lower_bound,
    true_positive_rate,
)
from contract.model_release import MODEL_RELEASE_TYPE, ModelRelease, read, unsigned, verify
from foundation.files import read_bounded, write_durably, write_new
from researcher.connection import CLOCK_SKEW
from researcher.consortium import Consortium
from researcher.home import DEFAULT_HOME
from researcher.training import Round, TrainingResult

HomeOption = Annotated[
    Path,
    typer.Option("--home", envvar="WARDGATE_HOME", help="The folder that holds your identity."),
]
LIFE = timedelta(days=90)
MAX_SCORES_BYTES = 64 * 2**20
LOSS_ATTACK = "threshold on the loss, at the sites, weighted by their records held out"
ATTACK_METRICS = ("attack_auc", "attack_tpr")
"""What a recipe that measures membership inference at the sites reports."""


def report(
    members: Annotated[Path, typer.Option(help="Scores of records trained on, one a line.")],
    others: Annotated[Path, typer.Option(help="Scores of records not trained on, one a line.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Report to write.")],
    canaries: Annotated[
        Path | None, typer.Option(help="Lines 'SCORE 1' (trained on) or 'SCORE 0'.")
    ] = None,
    delta: Annotated[float, typer.Option(help="Delta of the lower bound.", min=0)] = 1e-5,
    attack: Annotated[str, typer.Option(help="What made the scores.")] = "scores of the researcher",
) -> None:
    """Write a membership-inference report from scores, higher for records that look trained on.

    Example: wardgate models report --members in.txt --others out.txt -o report.json
    """
    inside, outside = [r[0] for r in _scores(members, 1)], [r[0] for r in _scores(others, 1)]
    bound, audited = None, 0
    if canaries is not None:
        rows = _scores(canaries, 2)
        audited = len(rows)
        right, made = correct_guesses([r[0] for r in rows], [r[1] > 0 for r in rows], audited)
        bound = epsilon_lower_bound(right, made, audited, delta)
    found = MembershipReport(
        attack=attack,
        auc=auc(inside, outside),
        true_positive_rate=true_positive_rate(inside, outside),
        empirical_epsilon=bound,
        canaries=audited,
        delta=delta if audited else 0.0,
    )
    write_durably(output, found.model_dump_json().encode(), 0o644)
    print(
        f"AUC {found.auc:.3f}, {found.true_positive_rate:.1%} found at 1% false; {output} written"
    )


def _scores(path: Path, columns: int) -> list[list[float]]:
    if not path.is_file():
        raise NotFound(f"{path} does not exist.")
    text = read_bounded(path, MAX_SCORES_BYTES).decode(errors="replace")
    try:
        rows = [[float(part) for part in line.split()] for line in text.splitlines() if line]
    except ValueError:
        raise DataError(f"{path} holds something else than numbers.") from None
    if not rows or any(len(row) != columns for row in rows):
        raise DataError(f"{path} needs {columns} number(s) on each line.")
    return rows


def request(
    job: Annotated[str, typer.Argument(help="The finished job's digest.")],
    project: Annotated[str, typer.Option("--project", "-p", help="The job's project.")],
    recipient: Annotated[str, typer.Option(help="Where the model is to go, and what for.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Request to write.")],
    report: Annotated[
        Path | None,
        typer.Option(help="A report, when the recipe measured nothing (see 'models report')."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Make the request that each contributing site's steward signs ('wardgate-node model sign').

    Example: wardgate models request 3f8a... -p preterm --recipient "Open weights" -o request.json
    """
    if output.exists():
        raise UsageError(f"{output} exists already.")
    with Consortium.connect(home) as consortium:
        result = consortium.job(job).result()
        made = datetime.now(UTC)
        model = result.safetensors()
        try:
            release = ModelRelease(
                consortium=consortium.name,
                issued_at=made - CLOCK_SKEW,
                expires_at=made + LIFE,
                project=project,
                job=job,
                model=hashlib.sha256(model).hexdigest(),
                model_bytes=len(model),
                sites=tuple(sorted(contributors(result))),
                researcher=consortium.researcher,
                recipient=recipient,
                report=_report(report, result.rounds),
            )
        except ValidationError as error:
            raise DocumentError(f"The request can't be: {error.errors()[0]['msg']}.") from None
        envelope = release.seal(MODEL_RELEASE_TYPE)
    write_new(output, envelope.to_bytes(), 0o644)
    print(f"{output} written; to be signed by the stewards of {', '.join(release.sites)}")


def contributors(result: TrainingResult) -> frozenset[str]:
    """Return the sites that receipted something of the job: their data may be in the model."""
    return frozenset(r.site for r in result.receipts if r.job == result.job)


def _report(path: Path | None, rounds: Sequence[Round]) -> MembershipReport:
    if path is not None:
        if not path.is_file():
            raise NotFound(f"{path} does not exist.")
        try:
            return MembershipReport.model_validate_json(read_bounded(path, 65536))
        except ValidationError:
            raise DataError(f"{path} is no membership-inference report.") from None
    last = next((r for r in reversed(rounds) if set(ATTACK_METRICS) <= r.metrics.keys()), None)
    if last is None:
        raise UsageError(
            "The recipe measured no membership inference; give a report with --report "
            "(see 'wardgate models report')."
        )
    measured, found = (min(max(last.metrics[name], 0.0), 1.0) for name in ATTACK_METRICS)
    return MembershipReport(attack=LOSS_ATTACK, auc=measured, true_positive_rate=found)


def take_out(
    request: Annotated[Path, typer.Argument(help="The request, signed by the stewards.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model to write (safetensors).")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Take a model out of the consortium, once every contributing site's steward released it.

    Beside the model goes the signed release, by which a recipient can check it.

    Example: wardgate models take-out request.json -o preterm.safetensors
    """
    if not request.is_file():
        raise NotFound(f"{request} does not exist.")
    data = read_bounded(request, MAX_ENVELOPE_BYTES)
    with Consortium.connect(home) as consortium:
        roster = consortium.refresh().current_roster(datetime.now(UTC))
        _, claimed = read(data)
        signed = len(claimed.sites) - len(unsigned(data, roster))
        print(f"{signed} of {len(claimed.sites)} sites have signed")
        result = consortium.job(claimed.job).result()
        release = verify(data, roster, contributors(result), datetime.now(UTC))
        model = result.safetensors()
    if hashlib.sha256(model).hexdigest() != release.model:
        raise DocumentError("The job's model is not the one that was released.")
    write_new(output, model, 0o644)
    beside = output.with_name(output.name + ".release.json")
    write_durably(beside, data, 0o644)
    print(f"{output} and {beside.name} written; released by {', '.join(release.sites)}")
