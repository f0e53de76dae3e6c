"""A site that is slow, broken or hostile in a round: it is named, and is not in that round's model.

North has a gate, as every hospital. West has none: what its recipe says is stopped by the
coordinator or by nobody. The model that must come out is that of the sites that took part.
"""

from __future__ import annotations

import pytest

from contract.failures import with_meaning
from researcher.training import TrainingResult
from tests.end_to_end import canaries
from tests.end_to_end.federation import APPS, PROJECT, Federation, weight
from tests.end_to_end.test_fault_points import model_of

SITES = ("north", "south", "west")
EXPECTED = {
    # what the recipe does: (stopped at a hospital's gate, stopped at the coordinator)
    "nan": ("not-finite", "not-finite"),
    "infinite": ("not-finite", "not-finite"),
    "huge": ("absurd-values", "absurd-values"),
    "odd-key": ("undeclared-arrays", "unlike-instruction"),
    "one-more": ("undeclared-arrays", "unlike-instruction"),
    "odd-shape": ("undeclared-arrays", "unlike-instruction"),
    "odd-dtype": ("undeclared-arrays", "unlike-instruction"),
    "none": ("undeclared-arrays", "unlike-instruction"),
    "heavy": ("bad-weight", "bad-weight"),
    "negative": ("small-cell", "bad-weight"),
    "no-weight": ("not-finite", "bad-weight"),
    "odd-metric": ("not-finite", "not-finite"),
}


def train(federation: Federation, plan: str, site: str) -> tuple[TrainingResult, list[str]]:
    """Let one site follow a plan; return what came out, and by which codes it was named."""
    with federation.connect() as ana:
        asked = {"amiss": plan, "place": SITES.index(site)}
        handle = ana.train(PROJECT, "unruly", asked, seed=3, minimum_sites=2)
        result = handle.result()
        failed = [e for e in handle.events() if e.kind == "site" and e.text.startswith("failed")]
    assert {event.site for event in failed} == {site}
    return result, [event.text.removeprefix("failed: ") for event in failed]


def is_that_of(federation: Federation, result: TrainingResult, left_out: str, rounds: int) -> None:
    """Check, bit by bit, that the model is one of the others alone in so many rounds.

    Before them and after them there is a round of all.
    """
    others = [site for site in SITES if site != left_out]
    expected = model_of(federation, [list(SITES), *[others] * rounds, list(SITES)])
    assert result.arrays.items["w"].tobytes() == expected.tobytes()
    assert result.answered == SITES


@pytest.mark.parametrize("site", [pytest.param("north", marks=pytest.mark.slow), "west"])
def test_what_is_no_update_is_in_no_model_and_its_site_is_named_with_the_reason(
    partly: Federation, site: str
) -> None:
    result, said = train(partly, "unsound", site)
    assert said == [codes[site == "west"] for codes in EXPECTED.values()]
    assert all(with_meaning(code) != code for code in said)
    is_that_of(partly, result, site, len(EXPECTED))
    partly.ledgers_verify()


def test_a_site_that_raises_or_is_slow_costs_itself_that_round_and_tells_no_patient(
    partly: Federation,
) -> None:
    result, said = train(partly, "broken", "north")
    place = "unruly/client_app.py:"
    assert said[0].startswith(f"exception {place}")
    # Named by the coordinator at the deadline, and then by its own node, which ended the work.
    assert set(said[1:]) == {"timeout"}
    is_that_of(partly, result, "north", 2)

    raised = (APPS / "unruly" / place.strip(":")).read_text().splitlines()
    assert "raise ValueError" in raised[int(said[0].removeprefix(f"exception {place}")) - 1]
    # What the exception says of a patient is nowhere outside.
    wanted = canaries.traces(["Zebediah Quillfeather weighs"], [weight("north", 0)])
    outside = [partly.coordinator_home, partly.researcher_home("ana")]
    files = [path for home in outside for path in home.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert not canaries.find(path.read_bytes(), wanted), path
    assert not canaries.find(partly.coordinator.log.encode(), wanted)
    for line in [*said, *(str(event) for event in result.rounds)]:
        assert not canaries.find(line.encode(), wanted)
