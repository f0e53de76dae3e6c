"""What a researcher sees: an answer that names who is missing, and receipts that must hold."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

import researcher
from contract import wire_pb2 as wire
from contract.dictionary import Variable
from contract.documents import Job
from contract.envelope import Envelope
from contract.errors import DocumentError, NotFound, SignatureError, UsageError
from contract.statistics import forms
from contract.statistics.answers import Noise, NoiseTerm, Part
from contract.statistics.summaries import CoMoments, Counts, Moments, Shape
from contract.work import Statistic, StatisticsWork
from researcher import cli
from researcher.analyses import numbers
from researcher.consortium import Consortium
from researcher.live import rounds_table
from researcher.options import parameter_of
from researcher.questions import comoments, count, histogram, levels, mean, shape, table_one
from researcher.statistics import StatisticsAnswer, bins
from researcher.training import Round
from tests.contract.world import SITES, VARIABLES, World

ASK = (mean("age"), mean("age", "arm"), levels("arm"), histogram("age"), count("age"))


@pytest.fixture
def world() -> World:
    return World()


def merged() -> list[Part]:
    return [
        Part({"": Moments(100, 10, 50.5, 990.0)}),
        Part({"A": Moments(60, 0, 51.0, 500.0), "B": Moments(40, 0, 49.75, 400.0)}),
        Part({}, withheld=True),
        Part({"": Counts((0, 0, 0, 30, 40, 30, 0, 0, 0, 0), 10)}),
        Part({"": Counts((100,), 10)}),
    ]


class Answer:
    """A coordinator's result, to be bent by a test."""

    def __init__(self, world: World, ask: tuple[Statistic, ...] = ASK) -> None:
        self.world = world
        self.job: Job = world.job(work=StatisticsWork(ask=ask))
        self.digest = self.job.seal("x").digest
        present = SITES[:3]
        self.result = wire.JobResult(
            statistics=forms.encode(merged()[: len(ask)]),
            answered=present,
            receipts=[world.receipt(site, self.digest) for site in present],
            parts=[wire.SitesOfPart(answered=present) for _ in ask],
        )
        if len(ask) > 2:
            self.result.parts[2].withheld.extend(present)
            del self.result.parts[2].answered[:]
        self.result.status.job = self.digest
        self.result.status.sites.add(site="new-york", state="absent", sentence="It was away.")

    def read(self) -> StatisticsAnswer:
        """Read it as the researcher does."""
        view = self.world.settled()
        return StatisticsAnswer.from_result(self.job, self.world.project(), self.result, view)


def test_an_answer_has_its_figures_by_place_and_by_name(world: World) -> None:
    answer = Answer(world).read()
    assert answer[0].moments().mean == 50.5
    assert answer["moments", "age"].moments().n == 100
    assert answer[1].moments("B").n == 40
    assert answer[4].counts().n == 100
    with pytest.raises(KeyError):
        answer["levels", "age"]
    with pytest.raises(KeyError):
        answer[0].counts()


def test_notes_name_who_is_missing_and_who_withheld_what(world: World) -> None:
    notes = Answer(world).read().notes
    assert notes == [
        "new-york is not in the answer (It was away.).",
        "kentucky, minnesota, mississippi withheld levels of arm: left out of numerator and "
        "denominator alike.",
    ]


def test_notes_say_what_absent_sites_mean_for_the_estimate(world: World) -> None:
    made = Answer(world)
    made.result.status.sites.add(site="utah", state="refused", sentence="Too often.")
    made.result.status.sites.add(site="ohio", state="absent", sentence="It did not answer.")
    made.result.absent_share = 0.42
    assert made.read().notes[3] == (
        "42% of the listed subjects are at sites that are not in this answer (2 offline or too "
        "late, 1 refused): it is of the others' patients."
    )
    made.result.absent_share = 0.001
    assert made.read().notes[3].startswith("under 1% of the listed subjects")


@pytest.mark.parametrize(("share", "withheld"), [(0.05, False), (0.0501, True), (math.nan, True)])
def test_an_estimate_that_misses_too_many_is_none_whatever_the_coordinator_says(
    world: World, share: float, withheld: bool
) -> None:
    made = Answer(world)
    made.result.parts[0].missing_share = share
    made.result.parts[0].withheld.append("new-york")
    found = made.read()
    assert found[0].part.withheld is withheld
    assert found[0].too_much_missing is withheld
    assert any("No estimate of moments of age" in note for note in found.notes) is withheld
    assert found[1].moments("B").n == 40


def test_a_secure_sum_that_a_third_of_the_sites_lack_is_none_and_says_it_in_sites(
    world: World,
) -> None:
    made = Answer(world, ASK[:1])
    made.job = world.job(work=StatisticsWork(ask=ASK[:1], lane="exact", secure=True))
    digest = made.job.seal("x").digest
    made.result.status.job = digest
    del made.result.receipts[:]
    made.result.receipts.extend(world.receipt(site, digest) for site in SITES[:3])
    assert made.read()[0].moments().n == 100
    made.result.parts[0].unnamed = 1
    made.result.parts[0].missing_share = 0.0  # as one would say who wants the estimate used
    assert made.read()[0].part.withheld
    made.result.parts[0].missing_share = 1 / 3
    notes = made.read().notes
    assert "one site withheld moments of age (33% of sites): left out of" in notes[1]
    assert notes[2].endswith("the project allows 5% of sites to be missing, and 33% are.")


def test_an_answer_of_everybody_has_no_notes(world: World) -> None:
    made = Answer(world)
    del made.result.status.sites[:]
    del made.result.parts[2].withheld[:]
    assert made.read().notes == []


def test_the_table_fits_80_columns_also_with_long_names(world: World) -> None:
    long = Variable(name="v" * 64, kind="category", levels=("l" * 90, "m" * 90), meaning="x")
    project = world.project(variables=(*VARIABLES, long))
    ask = (levels("v" * 64),)
    made = Answer(world, ask)
    made.result.statistics.CopyFrom(forms.encode([Part({"": Counts((123456789, 5))})]))
    answer = StatisticsAnswer.from_result(made.job, project, made.result, world.settled())
    for text in (str(answer), str(Answer(world).read())):
        assert max(map(len, text.splitlines())) <= 80
    assert "123456789" in str(answer)
    assert "withheld" in str(Answer(world).read())


def test_a_level_in_brackets_is_shown_as_it_is(world: World) -> None:
    odd = Variable(name="stage", kind="category", levels=("[unknown]", "[i]"))
    project = world.project(variables=(*VARIABLES, odd))
    made = Answer(world, (levels("stage"),))
    made.result.statistics.CopyFrom(forms.encode([Part({"": Counts((30, 50))})]))
    answer = StatisticsAnswer.from_result(made.job, project, made.result, world.settled())
    assert "[unknown]" in str(answer)


def test_rows_are_tidy(world: World) -> None:
    rows = list(Answer(world).read().rows())
    named = ("mean", "variance", "standard deviation", "missing")
    assert [(r.statistic, r.group) for r in rows[:12]] == [
        (name, group) for group in ("", "A", "B") for name in named
    ]
    assert rows[12].statistic == "withheld"
    assert [r.value for r in rows if r.level == "30 to 40"] == [30]
    assert rows[1].value == pytest.approx(990 / 99)
    assert rows[2].value == pytest.approx((990 / 99) ** 0.5)
    missing = merged()[0].groups[""].missing
    assert (rows[3].value, rows[-1].statistic) == (missing, "missing")


def noise(epsilon: float, **scales: float) -> Noise:
    terms = tuple(
        NoiseTerm(figure, "discrete-laplace", scale, 3 * scale) for figure, scale in scales.items()
    )
    return Noise(epsilon, 0.0, 0.95, terms)


def noisy(world: World) -> Answer:
    made = Answer(world)
    of_counts = noise(0.1, counts=2.0, missing=2.0)
    of_moments = noise(0.1, n=6.0, missing=6.0, sum=240.0, squares=9600.0)
    exact = merged()
    parts = [
        Part({"": Moments(1000, 10, 50.5, 100_000.0)}, lane="dp", noise=of_moments),
        Part(
            {"A": Moments(990, 0, 51.0, 99_000.0), "B": Moments(3, -7, -400.0, -8.0)},
            lane="dp",
            noise=of_moments,
        ),
        exact[2],
        Part(
            {"": Counts((-2, 0, 0, 30, 40, 30, 0, 0, 0, 0), -1, 3, -4)}, lane="dp", noise=of_counts
        ),
        exact[4],
    ]
    made.result.statistics.CopyFrom(forms.encode(parts))
    made.result.accounts.add(site="kentucky", account=wire.Account(spent=0.3, remaining=7.7))
    return made


def test_figures_with_noise_say_how_far_they_may_be_off(world: World) -> None:
    answer = noisy(world).read()
    rows = list(answer.rows())
    assert answer.lane == "dp and exact"
    assert {row.lane for row in rows if row.variable == "age"} == {"dp", "exact"}
    first = rows[0]
    assert (first.value, first.n) == (50.5, 1000)
    assert 0.5 < first.half_width < 1.5
    nothing = [row for row in rows if row.group == "B"]
    assert all(math.isnan(row.value) and math.isnan(row.half_width) for row in nothing)
    bins_found = [row for row in rows if row.level]
    assert [row.value for row in bins_found][-2:] == [3, -4]
    assert {row.half_width for row in bins_found} == {6}
    assert rows[-1].half_width == 0
    text = str(answer)
    assert "±" in text
    assert "undefined" in text
    assert max(map(len, text.splitlines())) <= 80


def test_shapes_correlations_and_quantiles_with_noise_say_how_far_they_may_be_off(
    world: World,
) -> None:
    ask = (shape("age"), comoments("age", "score"), histogram("age"))
    made = Answer(world, ask)
    small = noise(
        0.5, n=6.0, missing=6.0, sum=300.0, squares=1e4, cubes=1e5, fourths=1e6, products=300.0
    )
    values = np.random.default_rng(1).normal(50, 10, 4000).clip(0, 100)
    others = (values / 2 + np.random.default_rng(2).normal(20, 4, 4000)).clip(0, 100)
    counted = np.histogram(values, np.linspace(0, 100, 11))[0]
    parts = [
        Part({"": Shape.of(values)}, lane="dp", noise=small),
        Part({"": CoMoments.of([values, others])}, lane="dp", noise=small),
        Part({"": Counts(tuple(map(int, counted)))}, lane="dp", noise=noise(0.5, counts=4.0)),
    ]
    made.result.statistics.CopyFrom(forms.encode(parts))
    del made.result.parts[2].withheld[:]
    made.result.parts[2].answered.extend(SITES[:3])
    score = Variable(name="score", kind="number", minimum=0, maximum=100)
    project = world.project(variables=(*VARIABLES, score))
    answer = StatisticsAnswer.from_result(made.job, project, made.result, world.settled())
    rows = {row.statistic: row for row in answer.rows() if not row.level or row.level == "score"}
    assert rows["skewness"].value == pytest.approx(Shape.of(values).skewness)
    assert 0 < rows["skewness"].half_width < 1
    assert rows["correlation"].value == pytest.approx(np.corrcoef(values, others)[0, 1])
    assert 0 < rows["correlation"].half_width < 0.5
    described = numbers.describe(answer, None)
    mean_width = rows["mean"].half_width
    assert (
        f"age: with noise, in 95 % of draws within {mean_width:.3g} of the mean"
        in (described.notes[0])
    )
    assert not any("±" in note for note in described.notes), "its table has no ±"
    assert not described.glance()
    alone = Answer(world, ask[2:])
    alone.result.statistics.CopyFrom(forms.encode(parts[2:]))
    counted_only = StatisticsAnswer.from_result(alone.job, project, alone.result, world.settled())
    found = numbers.quantile_table(counted_only, (0.25, 0.5), None)
    for row, share in zip(found.rows, (0.25, 0.5), strict=True):
        _, _, _, value, low, high, *_ = row
        assert float(low) <= np.quantile(values, share) <= float(high)
        assert float(low) <= float(value) <= float(high)


def test_an_answer_with_noise_says_what_it_cost_and_what_is_left(world: World) -> None:
    answer = noisy(world).read()
    assert [(s.site, s.epsilon, s.remaining) for s in answer.spent] == [("kentucky", 0.3, 7.7)]
    assert "kentucky: epsilon 0.3 spent; the project has 7.7 left there." in answer.notes
    assert not Answer(world).read().spent


def test_noise_on_a_variable_without_bounds_is_nothing_that_a_site_says(world: World) -> None:
    unbounded = tuple(
        v.model_copy(update={"minimum": None, "maximum": None}) if v.name == "age" else v
        for v in VARIABLES
    )
    made = noisy(world)
    answer = StatisticsAnswer.from_result(
        made.job, world.project(variables=unbounded), made.result, world.settled()
    )
    with pytest.raises(DocumentError):
        list(answer.rows())


class Asked:
    """A consortium that gives the one answer, so that the command's printing is what is tested."""

    def __init__(self, answer: StatisticsAnswer) -> None:
        self.answer = answer

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def statistics(self, *_: object, **__: object) -> StatisticsAnswer:
        return self.answer


def printed(monkeypatch: pytest.MonkeyPatch, world: World, *options: str) -> str:
    answer = Answer(world).read()
    monkeypatch.setattr(Consortium, "connect", lambda _home: Asked(answer))
    done = CliRunner().invoke(cli.app, ["statistics", "-p", "birth", "--mean", "age", *options])
    assert done.exit_code == 0
    return done.stdout


def test_rows_as_json_lines_are_json(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    for line in printed(monkeypatch, world, "--json").splitlines():
        assert json.loads(line, parse_constant=refuse)["variable"]


def test_the_command_prints_a_row_for_each_figure(
    monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    rows = [json.loads(line) for line in printed(monkeypatch, world, "--json").splitlines()]
    assert len([row for row in rows if row["statistic"] not in ("variance", "missing")]) == 18
    assert set(rows[0]) == {
        *("statistic", "variable", "group", "level", "value", "n"),
        *("lane", "half_width"),
    }
    assert rows[0]["value"] == 50.5


def test_the_command_prints_notes_and_counts_receipts(
    monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    text = printed(monkeypatch, world)
    assert "new-york is not in the answer" in text
    assert "3 receipts verified" in text


@pytest.mark.parametrize("low", [0.0, -5.0, 0.1])
def test_bins_are_named_by_their_edges(low: float) -> None:
    names = bins(low, low + 10, 4)
    assert len(names) == 4
    assert names[0].startswith(f"{low:g} to ")
    assert names[-1].endswith(f"to {low + 10:g}")
    assert [n.split(" to ")[1] for n in names[:-1]] == [n.split(" to ")[0] for n in names[1:]]


# ---- receipts ----------------------------------------------------------------------------------


def test_receipts_that_hold_are_in_the_answer(world: World) -> None:
    assert {r.site for r in Answer(world).read().receipts} == set(SITES[:3])


def test_a_forged_receipt_is_refused(world: World) -> None:
    made = Answer(world)
    bare = Envelope.parse(made.result.receipts[0]).model_copy(update={"signatures": ()})
    for key in (world.coordinator, world.sites["minnesota"], world.stewards["kentucky"]):
        made.result.receipts[0] = bare.sign(key).to_bytes()
        with pytest.raises(SignatureError):
            made.read()


def test_a_site_counted_without_a_receipt_is_refused(world: World) -> None:
    made = Answer(world)
    made.result.answered.append("new-york")
    with pytest.raises(SignatureError, match="without a receipt of theirs: new-york"):
        made.read()
    made = Answer(world)
    del made.result.receipts[0]
    with pytest.raises(SignatureError, match="kentucky"):
        made.read()


def test_a_receipt_of_another_job_does_not_count_for_this_one(world: World) -> None:
    made = Answer(world)
    made.result.receipts[0] = world.receipt("kentucky", "00" * 32)
    with pytest.raises(SignatureError, match="kentucky"):
        made.read()


def test_an_old_jobs_whole_result_does_not_pass_for_this_ones(world: World) -> None:
    old, new = Answer(world), Answer(world)
    new.result.CopyFrom(old.result)
    assert old.digest != new.digest
    with pytest.raises((SignatureError, DocumentError)):
        new.read()


@pytest.mark.parametrize("how", ["parts", "statistics"])
def test_a_result_of_another_length_than_the_question_is_refused(world: World, how: str) -> None:
    made = Answer(world)
    if how == "parts":
        del made.result.parts[0]
    else:
        del made.result.statistics.parts[0]
    with pytest.raises(DocumentError):
        made.read()


# ---- questions and parameters ------------------------------------------------------------------


def test_table_one_asks_by_what_the_dictionary_says(world: World) -> None:
    project = world.project()
    assert table_one(project, ["age", "arm"], "arm") == [mean("age", "arm"), levels("arm", "arm")]
    with pytest.raises(NotFound, match=r"dictionary \(did you mean weight\?\); 'wardgate"):
        table_one(project, ["height"], "arm")


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("a=1", "a", 1),
        ("a=-3", "a", -3),
        ("a=1.5", "a", 1.5),
        ("a=1e-3", "a", 0.001),
        ("a=true", "a", True),
        ("a=false", "a", False),
        ("a=True", "a", "True"),
        ("a=adam", "a", "adam"),
        ("a=", "a", ""),
        ("a=b=c", "a", "b=c"),
        ("learning-rate=1", "learning-rate", 1),
    ],
)
def test_a_parameter_has_the_type_that_it_looks_like(text: str, name: str, value: Any) -> None:
    found = parameter_of(text)
    assert found == (name, value)
    assert type(found[1]) is type(value)


@pytest.mark.parametrize("text", ["", "a", "=1"])
def test_a_parameter_needs_a_name_and_a_value(text: str) -> None:
    with pytest.raises(UsageError, match="NAME=VALUE"):
        parameter_of(text)


@given(st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_as_it_was_written(number: float) -> None:
    assert parameter_of(f"x={number!r}") == ("x", number)
    assert type(parameter_of(f"x={number!r}")[1]) is type(number)


def test_rounds_are_a_line_each() -> None:
    rounds = [Round(1, "train", {"loss": 0.5}), Round(1, "evaluate", {"auc": 0.7}),
              Round(2, "train", {"loss": 0.25})]  # fmt: skip
    console = Console(width=80)
    with console.capture() as captured:
        console.print(rounds_table(rounds))
    lines = [line for line in captured.get().splitlines() if line.strip("│┃ ")[:1].isdigit()]
    assert len(lines) == 2
    assert "0.5" in lines[0]
    assert "0.7" in lines[0]
    assert "0.25" in lines[1]


def test_the_sdk_names_what_it_exports() -> None:
    for name in researcher.__all__:
        assert getattr(researcher, name).__doc__, name
