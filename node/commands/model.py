"""``model``: let a finished model go, as the steward of a site that contributed to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from contract.documents import Roster
from contract.envelope import MAX_ENVELOPE_BYTES, Envelope
from contract.errors import DocumentError, NotFound, SignatureError, UsageError
from contract.keys import SigningKey
from contract.model_release import ModelRelease, read
from foundation import commands
from foundation.clock import now
from foundation.files import read_bounded, write_durably
from node.catalog.asked import Asked
from node.commands.documents import StewardOption, YesOption, find_consortium
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, node_home, record
from node.commands.steward import present_key

app = commands.application("Finished models: which may leave the consortium.")


@app.command("sign")
def sign(
    request: Annotated[Path, typer.Argument(help="The request that the researcher made.")],
    key: StewardOption = None,
    yes: YesOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Show a request to release a model, and sign it into the file as this site's steward.

    Every contributing site's steward must sign; pass the file on to the next. What membership
    inference measured is in the request. It bounds what the model gives away from below only.

    Example: wardgate-node model sign preterm-model.json
    """
    place = node_home(home)
    if not request.is_file():
        raise NotFound(f"{request} does not exist.")
    envelope, release = read(read_bounded(request, MAX_ENVELOPE_BYTES))
    with catalogue(place) as catalog:
        row = find_consortium(catalog, release.consortium)
        release.check_validity(now())
        if row.site not in release.sites:
            raise DocumentError(f"The request doesn't name site {row.site} as contributing.")
        if release.job not in {job.digest for job in Asked(catalog.engine).newest_jobs(10**6)}:
            raise NotFound("The job that the request names was never asked of this node.")
        if row.roster is None:
            raise NotFound("This node knows no roster yet.")
        steward = present_key(place, key)
        _check_key(Roster.read(Envelope.parse(row.roster).body), row.site, steward)
        _show(release, envelope)
        if not yes and not typer.confirm("Let this model leave the consortium?"):
            raise UsageError("Not signed.")
        record(
            place,
            "model-released",
            consortium=row.name,
            document=envelope.digest,
            job=release.job,
            model=release.model,
        )
        write_durably(request, envelope.sign(steward).to_bytes())
    print(f"signed {request}; {len(release.sites)} sites must")


def _check_key(roster: Roster, site: str, steward: SigningKey) -> None:
    if steward.id not in {m.key_id for m in roster.stewards if m.name == site}:
        raise SignatureError(f"This key is not that of site {site}'s steward on the roster.")


def _show(release: ModelRelease, envelope: Envelope) -> None:
    report = release.report
    table = Table(show_header=False, title="request to release a model")
    for name, value in (
        ("project", release.project),
        ("job", release.job),
        ("model", f"{release.model}, {release.model_bytes:,} bytes"),
        ("of sites", ", ".join(release.sites)),
        ("asked by", release.researcher),
        ("to go to", release.recipient),
        ("valid until", f"{release.expires_at:%F}"),
        ("attack", report.attack),
        ("AUC", f"{report.auc:.3f} (0.5 is chance)"),
        (
            f"found at {report.false_positive_rate:.1%} false",
            f"{report.true_positive_rate:.1%} of those trained on",
        ),
        (
            "epsilon, at least",
            "not measured"
            if report.empirical_epsilon is None
            else f"{report.empirical_epsilon:.2f} by {report.canaries} canaries, at delta "
            f"{report.delta:g} and confidence {report.confidence:.0%}",
        ),
        ("fingerprint", envelope.digest),
    ):
        table.add_row(name, value)
    Console(markup=False).print(table)
