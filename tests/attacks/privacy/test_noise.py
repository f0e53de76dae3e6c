"""Seeing through the noise: its bits, its seed, and the lack of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import beta

from contract.cohorts import Cohort
from contract.dictionary import Variable
from contract.errors import Refused
from contract.statistics.summaries import CoMoments, Counts, Moments, Shape
from contract.work import Statistic
from node.gate.dp import lane as lane_module
from node.gate.dp import measure as measure_module
from node.gate.dp.draws import Draws
from node.gate.dp.lane import DpLane
from node.gate.dp.mechanism import Draw, discrete_laplace
from node.gate.dp.parts import noisy_part
from tests.attacks.privacy.conftest import NewLane
from tests.contract.world import World
from tests.node.gate.dp.conftest import VARIABLES, Lane

ATTACKS = (
    (
        "Least significant bits of floating-point noise",
        "Mironov 2012, On Significance of the Least Significant Bits for Differential Privacy",
        "noise is drawn in whole numbers by exact arithmetic, and added to whole numbers; off with "
        "it: that the link has whole numbers alone for counts",
        "test_the_bits_of_an_answer_tell_nothing",
    ),
    (
        "Prediction of seeded noise",
        "DataSHIELD's known holes: noise seeded alike for every question",
        "noise comes from the operating system and has no seed",
        "test_noise_of_a_known_answer_doesn_t_come_off_another",
    ),
    (
        "Tracker through open cohorts",
        "Denning, Denning and Schwartz 1979, The Tracker",
        "cohorts that the release doesn't declare are answered with noise only",
        "test_a_tracker_finds_noise",
    ),
    (
        "Membership inference by an outlier",
        "Jagielski, Ullman and Oprea 2020, Auditing Differentially Private Machine Learning",
        "a value is moved into the dictionary's bounds before it is summed",
        "test_an_outlier_can_t_be_told_better_than_epsilon_says",
    ),
    (
        "Cohort-size probe",
        "Denning 1982, Cryptography and Data Security, 6.3",
        "in the lane dp nothing is refused or withheld for what is in the data",
        "test_a_refusal_tells_of_nobody",
    ),
    (
        "Attribute disclosure by a rare combination",
        "Hundepool et al. 2012, Statistical Disclosure Control, 5.2",
        "every combination of a crosstab has noise, those that nobody has too",
        "test_a_rare_combination_can_t_be_told_from_none",
    ),
)

MEAN = Statistic(kind="moments", variable="age")


# ---- bits ----------------------------------------------------------------------------------------


def naive(values: Sequence[float], sensitivity: int, epsilon: float) -> list[float]:
    """The textbook's mechanism in floating point, as analysts write it."""
    scale = sensitivity / epsilon
    uniform = np.random.default_rng().random(len(values)) - 0.5
    noise = -scale * np.sign(uniform) * np.log1p(-2 * np.abs(uniform))
    return [float(v) for v in np.asarray(values, dtype=np.float64) + noise]


def on_the_grid_of_one(answer: float) -> bool:
    """Whether an answer could be 1 plus noise: near 0, such sums are multiples of 2^-53."""
    return abs(answer) >= 0.5 or float(answer * 2.0**53).is_integer()


def told(answers: Sequence[float]) -> float:
    """The share of answers whose bits alone say that the true count can't have been one."""
    return sum(not on_the_grid_of_one(answer) for answer in answers) / len(answers)


def rare(draw: Draw, *, there: bool) -> list[float]:
    """How many of 100 have a rare level: one, or nobody; as the lane answers, 5,000 times."""
    statistic = Statistic(kind="levels", variable="arm")
    project = World().project(variables=VARIABLES)
    codes = np.zeros(100, dtype=np.int64)
    codes[0] = 2 if there else 0
    exact = measure_module.measure(statistic, project, {"arm": codes}, None)
    found = []
    for _ in range(5000):
        said = noisy_part(statistic, project, exact, 1.0, draw).groups[""]
        assert isinstance(said, Counts)
        found.append(float(said.counts[2]))
    return found


def test_the_bits_of_an_answer_tell_nothing() -> None:
    """Off is the lane's mechanism, for the textbook's. Before the link, which has whole numbers
    alone for counts."""

    def textbook(
        values: Sequence[int], sensitivity: int, epsilon: float
    ) -> tuple[list[int], float]:
        return naive(values, sensitivity, epsilon), sensitivity / epsilon  # type: ignore[return-value]

    assert told(rare(textbook, there=False)) > 0.2  # of these the attacker knows for certain
    assert told(rare(textbook, there=True)) == 0

    ours = rare(discrete_laplace, there=False)
    theirs = rare(discrete_laplace, there=True)
    assert told(ours) == told(theirs) == 0
    # Whatever is likely for one is possible for the other.
    likely = {value for value in ours if ours.count(value) > 50}
    assert likely <= set(theirs)


# ---- seeds ---------------------------------------------------------------------------------------


def seeded(values: Sequence[int], sensitivity: int, epsilon: float) -> tuple[list[int], float]:
    """Good noise, from a seed that is the same for every question."""
    random = np.random.default_rng(12345)
    ratio = 1 - np.exp(-epsilon / sensitivity)
    noise = random.geometric(ratio, len(values)) - random.geometric(ratio, len(values))
    return [int(v + n) for v, n in zip(values, noise, strict=True)], sensitivity / epsilon


def hits(lane: Lane, draw: Draw) -> int:
    """How often the noise of a cohort that the attacker knows comes off another's answer.

    Everybody's number is in the list of releases; whoever is at least 30 is the secret.
    """
    lane.lane = DpLane(lane.account, Draws(lane.catalog.engine), draw)
    known, found = lane.columns["sex"].size, 0
    for number in range(25):
        secret = Cohort(variable="age", at_least=30 + number)
        true = int(np.count_nonzero(lane.columns["age"] >= 30 + number))
        release = f"{number:064x}"
        noise = lane.count(release=release, epsilon=0.2) - known
        found += lane.count(secret, release=release, epsilon=0.2) - noise == true
    return found


def test_noise_of_a_known_answer_doesn_t_come_off_another(new_lane: NewLane) -> None:
    assert hits(new_lane("off"), seeded) == 25
    # The difference of two draws of epsilon 0.2 is zero once in 20 times, by luck.
    assert hits(new_lane("on"), discrete_laplace) <= 9


# ---- trackers ------------------------------------------------------------------------------------


def exactly(values: Sequence[int], sensitivity: int, epsilon: float) -> tuple[list[int], float]:
    """No noise."""
    return list(values), 0.0


def tracked(lane: Lane, draw: Draw) -> list[bool]:
    """Find out whether each of some subjects relapsed, from three broad cohorts each.

    The target is the one subject of an age; with a tracker T, those who relapsed among (T or
    target) and among (not T or target) less those among everybody are the target alone.
    """
    lane.lane = DpLane(lane.account, Draws(lane.catalog.engine), draw)
    lane.columns["age"][:20] = 90 + np.arange(20) / 8
    lane.columns["age"][20:] = np.minimum(lane.columns["age"][20:], 89)
    tracker = Cohort(variable="sex", levels=("f",))
    relapsed = Cohort(variable="relapse", levels=("yes",))
    right = []
    for number in range(12):
        age = 90 + number / 8
        target = Cohort(variable="age", at_least=age) & Cohort(variable="age", at_most=age)
        padded = lane.count((tracker | target) & relapsed, epsilon=0.5)
        rest = lane.count((~tracker | target) & relapsed, epsilon=0.5)
        everybody = lane.count(relapsed, epsilon=0.5)
        right.append(padded + rest - everybody == lane.columns["relapse"][number])
    return right


def test_a_tracker_finds_noise(new_lane: NewLane) -> None:
    assert all(tracked(new_lane("off"), exactly))
    # Three draws of epsilon 0.5 add up to zero less than once in eight times.
    assert sum(tracked(new_lane("on"), discrete_laplace)) <= 7


# ---- sizes ---------------------------------------------------------------------------------------


def outcomes(lane: Lane) -> list[str]:
    """Ask about the 19 oldest with and without one more, who is there or isn't."""
    ages = lane.columns["age"]
    found = []
    for there in (True, False):
        ages[:] = 40
        ages[:19] = 95
        ages[19] = 92 if there else 40
        release = f"{there:064x}"
        try:
            lane.count(Cohort(variable="age", at_least=90), release=release)
        except Refused as refusal:
            found.append(refusal.code)
        else:
            found.append("answered")
    return found


def test_a_refusal_tells_of_nobody(new_lane: NewLane, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = lane_module.measure

    def withholding(*arguments: object) -> object:
        found = measure(*arguments)  # type: ignore[arg-type]
        if found.counts[0] < 20:
            raise Refused("small-cell", "The cohort is smaller than the policy's minimum.")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(lane_module, "measure", withholding)
        assert outcomes(new_lane("off")) == ["answered", "small-cell"]

    assert outcomes(new_lane("on")) == ["answered", "answered"]


# ---- outliers ------------------------------------------------------------------------------------


DOSE = Variable(name="dose", kind="number", minimum=0, maximum=2)
SUMMED = (
    Statistic(kind="shape", variable="age"),
    Statistic(kind="comoments", variable="age", across=("dose",)),
)


def sums(statistic: Statistic, *, there: bool, draws: int) -> list[float]:
    """A noisy sum, again and again, with somebody whose values are written down as 5,000 or not:
    of ages, or of their products with doses."""
    project = World().project(variables=(*VARIABLES, DOSE))
    columns = {"age": np.full(300, 58.0), "dose": np.full(300, 1.0)}
    if there:
        columns = {name: np.append(column, 5000.0) for name, column in columns.items()}
    exact = measure_module.measure(statistic, project, columns, None)
    found = []
    for _ in range(draws):
        said = noisy_part(statistic, project, exact, 1.0, discrete_laplace).groups[""]
        if isinstance(said, CoMoments):
            found.append(said.products[1] + (said.means[0] - 58) * (said.means[1] - 1) * said.n)
        else:
            assert isinstance(said, Moments | Shape)
            found.append((said.mean - 58) * said.n)
    return found


def audited(statistic: Statistic, draws: int) -> float:
    """A lower bound of epsilon, right in 999 of 1,000 audits: how well the best guess does.

    One half of the draws chooses where to guess, the other is guessed.
    """
    without = sums(statistic, there=False, draws=draws)
    with_one = sums(statistic, there=True, draws=draws)
    half = draws // 2
    places = np.quantile(without[:half] + with_one[:half], np.linspace(0.05, 0.95, 19))
    place = max(
        places, key=lambda p: np.mean(np.array(with_one[:half]) > p) - np.mean(without[:half] > p)
    )
    told = int(np.sum(np.array(with_one[half:]) > place))
    wrong = int(np.sum(np.array(without[half:]) > place))
    # Clopper and Pearson 1934: bounds of both rates.
    low = float(beta.ppf(0.0005, told, draws - half - told + 1)) if told else 0.0
    high = float(beta.ppf(0.9995, wrong + 1, draws - half - wrong)) if wrong < half else 1.0
    return float(np.log(low / high)) if low > high else 0.0


@pytest.mark.parametrize(
    "statistic",
    [MEAN, *(pytest.param(one, marks=pytest.mark.slow) for one in SUMMED)],
    ids=lambda statistic: statistic.kind,
)
def test_an_outlier_can_t_be_told_better_than_epsilon_says(
    monkeypatch: pytest.MonkeyPatch, statistic: Statistic
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(measure_module, "_bounded", lambda values, low, high: values)
        assert audited(statistic, 600) > 3

    assert audited(statistic, 600) < 1.0


# ---- combinations --------------------------------------------------------------------------------


def rare_counts(statistic: Statistic, draw: Draw, *, there: bool) -> list[int]:
    """The count of a combination that one subject has or nobody, again and again."""
    project = World().project(variables=VARIABLES)
    columns = {"sex": np.array([0, 1] * 50), "arm": np.zeros(100, dtype=np.int64)}
    if there:
        columns["arm"][0] = 2
    exact = measure_module.measure(statistic, project, columns, None)
    found = []
    for _ in range(400):
        said = noisy_part(statistic, project, exact, 0.5, draw).groups[""]
        assert isinstance(said, Counts)
        found.append(said.counts[2])
    return found


def test_a_rare_combination_can_t_be_told_from_none() -> None:
    """A crosstab's cell of one: whether somebody has this combination at all."""

    def none(values: Sequence[int], sensitivity: int, epsilon: float) -> tuple[list[int], float]:
        return list(values), sensitivity / epsilon

    crossed = Statistic(kind="crosstab", variable="sex", across=("arm",))
    assert set(rare_counts(crossed, none, there=True)) == {1}
    assert set(rare_counts(crossed, none, there=False)) == {0}

    # One moves from one cell to another: two subjects' worth, so twice epsilon.
    share = [
        float(np.mean(np.array(rare_counts(crossed, discrete_laplace, there=there)) >= 1))
        for there in (True, False)
    ]
    assert share[0] / share[1] < np.exp(2 * 0.5) * 1.5
