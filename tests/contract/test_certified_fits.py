"""Linear models have the values that NIST certifies: Statistical Reference Datasets, regression."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray

from contract.statistics.fit import Fit
from tests.contract.fits import fit, number, split

PONTIUS_X = np.tile(np.arange(1, 21) * 150000.0, 2)
PONTIUS_Y = np.array([
    0.11019, 0.21956, 0.32949, 0.43899, 0.54803, 0.65694, 0.76562, 0.87487, 0.98292, 1.09146,
    1.20001, 1.30822, 1.41599, 1.52399, 1.63194, 1.73947, 1.84646, 1.95392, 2.06128, 2.16844,
    0.11052, 0.22018, 0.32939, 0.43886, 0.54798, 0.65739, 0.76596, 0.87474, 0.98300, 1.09150,
    1.20004, 1.30818, 1.41613, 1.52408, 1.63159, 1.73965, 1.84696, 1.95445, 2.06177, 2.16829,
])  # fmt: skip
FILIP = np.array([
    [0.8116, -6.860120914], [0.9072, -4.324130045], [0.9052, -4.358625055], [0.9039, -4.358426747],
    [0.8053, -6.955852379], [0.8377, -6.661145254], [0.8667, -6.355462942], [0.8809, -6.118102026],
    [0.7975, -7.115148017], [0.8162, -6.815308569], [0.8515, -6.519993057], [0.8766, -6.204119983],
    [0.8885, -5.853871964], [0.8859, -6.109523091], [0.8959, -5.79832982], [0.8913, -5.482672118],
    [0.8959, -5.171791386], [0.8971, -4.851705903], [0.9021, -4.517126416], [0.909, -4.143573228],
    [0.9139, -3.709075441], [0.9199, -3.499489089], [0.8692, -6.300769497], [0.8872, -5.953504836],
    [0.89, -5.642065153], [0.891, -5.031376979], [0.8977, -4.680685696], [0.9035, -4.329846955],
    [0.9078, -3.928486195], [0.7675, -8.56735134], [0.7705, -8.363211311], [0.7713, -8.107682739],
    [0.7736, -7.823908741], [0.7775, -7.522878745], [0.7841, -7.218819279], [0.7971, -6.920818754],
    [0.8329, -6.628932138], [0.8641, -6.323946875], [0.8804, -5.991399828], [0.7668, -8.781464495],
    [0.7633, -8.663140179], [0.7678, -8.473531488], [0.7697, -8.247337057], [0.77, -7.971428747],
    [0.7749, -7.676129393], [0.7796, -7.352812702], [0.7897, -7.072065318], [0.8131, -6.774174009],
    [0.8498, -6.478861916], [0.8741, -6.159517513], [0.8061, -6.835647144], [0.846, -6.53165267],
    [0.8751, -6.224098421], [0.8856, -5.910094889], [0.8919, -5.598599459], [0.8934, -5.290645224],
    [0.894, -4.974284616], [0.8957, -4.64454848], [0.9047, -4.290560426], [0.9129, -3.885055584],
    [0.9209, -3.408378962], [0.9219, -3.13200249], [0.7739, -8.726767166], [0.7681, -8.66695597],
    [0.7665, -8.511026475], [0.7703, -8.165388579], [0.7702, -7.886056648], [0.7761, -7.588043762],
    [0.7809, -7.283412422], [0.7961, -6.995678626], [0.8253, -6.691862621], [0.8602, -6.392544977],
    [0.8809, -6.067374056], [0.8301, -6.684029655], [0.8664, -6.378719832], [0.8834, -6.065855188],
    [0.8898, -5.752272167], [0.8964, -5.132414673], [0.8963, -4.811352704], [0.9074, -4.098269308],
    [0.9119, -3.66174277], [0.9228, -3.2644011],
])  # fmt: skip
WAMPLER_X = np.arange(21.0)
WAMPLER_E = np.array([
    759, -2048, 2048, -2048, 2523, -2048, 2048, -2048, 1838, -2048, 2048, -2048, 1838, -2048, 2048,
    -2048, 2523, -2048, 2048, -2048, 759,
])  # fmt: skip
"""What Wampler3 adds to Wampler1; Wampler4 a hundred times as much, Wampler5 ten thousand times."""
Vector = NDArray[np.float64]


def of(formula: str, y: Vector, x: Vector, low: float, high: float, sites: int = 3) -> Fit:
    dictionary = [number("y"), number("x", low, high)]
    data = {"y": y, "x": x}
    return fit(formula, "linear", dictionary, data, split(len(y), sites))[1]


@pytest.mark.parametrize("sites", [1, 2, 5])
def test_pontius(sites: int) -> None:
    found = of("y ~ x + I(x^2)", PONTIUS_Y, PONTIUS_X, 0, 4e6, sites)
    assert found.coefficients == pytest.approx(
        [0.673565789473684e-3, 0.732059160401003e-6, -0.316081871345029e-14], rel=1e-9
    )
    assert found.standard_errors == pytest.approx(
        [0.107938612033077e-3, 0.157817399981659e-9, 0.486652849992036e-16], rel=1e-9
    )
    assert np.sqrt(found.dispersion) == pytest.approx(0.205177424076185e-3, rel=1e-9)
    assert 1 - found.deviance / found.null_deviance == pytest.approx(0.999999900178537, rel=1e-12)


@pytest.mark.parametrize("sites", [1, 2, 5])
def test_filip_to_seven_digits(sites: int) -> None:
    """A polynomial of degree 10, of condition 2e15."""
    found = of("y ~ poly(x, 10, raw = TRUE)", FILIP[:, 0], FILIP[:, 1], -9, -3, sites)
    assert found.coefficients == pytest.approx(
        [
            -1467.48961422980, -2772.17959193342, -2316.37108160893, -1127.97394098372,
            -354.478233703349, -75.1242017393757, -10.8753180355343, -1.06221498588947,
            -0.670191154593408e-1, -0.246781078275479e-2, -0.402962525080404e-4,
        ],
        rel=1e-7,
    )  # fmt: skip
    assert found.standard_errors == pytest.approx(
        [
            298.084530995537, 559.779865474950, 466.477572127796, 227.204274477751,
            71.6478660875927, 15.2897178747400, 2.23691159816033, 0.221624321934227,
            0.142363763154724e-1, 0.535617408889821e-3, 0.896632837373868e-5,
        ],
        rel=1e-7,
    )  # fmt: skip
    assert np.sqrt(found.dispersion) == pytest.approx(0.334801051324544e-2, rel=1e-7)


def test_no_intercept_1_and_2() -> None:
    found = of("y ~ 0 + x", np.arange(130.0, 141), np.arange(60.0, 71), 0, 100)
    assert found.coefficients == pytest.approx([2.07438016528926], rel=1e-9)
    assert found.standard_errors == pytest.approx([0.165289256198347e-1], rel=1e-9)
    assert 1 - found.deviance / found.null_deviance == pytest.approx(0.999365492298663, rel=1e-9)
    found = of("y ~ x - 1", np.array([3.0, 4, 4]), np.array([4.0, 5, 6]), 0, 10)
    assert found.coefficients == pytest.approx([0.727272727272727], rel=1e-9)
    assert found.standard_errors == pytest.approx([0.420827318078432e-1], rel=1e-9)
    assert np.sqrt(found.dispersion) == pytest.approx(0.369274472937998, rel=1e-9)


@pytest.mark.parametrize("sites", [1, 3])
def test_longley(sites: int) -> None:
    data = sm.datasets.longley.load_pandas().data
    names = ["GNPDEFL", "GNP", "UNEMP", "ARMED", "POP", "YEAR"]
    dictionary = [number(name) for name in ["TOTEMP", *names]]
    formula = f"TOTEMP ~ {' + '.join(names)}"
    values = {name: data[name].to_numpy(float) for name in data}
    _, found = fit(formula, "linear", dictionary, values, split(16, sites))
    assert found.coefficients == pytest.approx(
        [
            -3482258.63459582, 15.0618722713733, -0.358191792925910e-1, -2.02022980381683,
            -1.03322686717359, -0.511041056535807e-1, 1829.15146461355,
        ],
        rel=1e-9,
    )  # fmt: skip
    assert found.standard_errors == pytest.approx(
        [
            890420.383607373, 84.9149257747669, 0.334910077722432e-1, 0.488399681651699,
            0.214274163161675, 0.226073200069370, 455.478499142212,
        ],
        rel=1e-9,
    )  # fmt: skip
    assert np.sqrt(found.dispersion) == pytest.approx(304.854073561965, rel=1e-9)


@pytest.mark.parametrize("sites", [1, 3, 5])
@pytest.mark.parametrize(
    ("times", "deviation"),
    [(0, 0.0), (1, 2360.14502379268), (100, 236014.502379268), (10000, 23601450.2379268)],
)
def test_wampler_1_3_4_and_5(times: int, deviation: float, sites: int) -> None:
    y = (WAMPLER_X[:, None] ** np.arange(6)).sum(axis=1) + times * WAMPLER_E
    found = of("y ~ poly(x, 5, raw = TRUE)", y, WAMPLER_X, 0, 20, sites)
    assert found.coefficients == pytest.approx(np.ones(6), rel=1e-9)
    errors = np.array(
        [2152.32624678170, 2363.55173469681, 779.343524331583, 101.475507550350, 5.64566512170752,
         0.112324854679312]
    )  # fmt: skip
    if times:
        assert found.standard_errors == pytest.approx(errors * times, rel=1e-9)
        assert np.sqrt(found.dispersion) == pytest.approx(deviation, rel=1e-9)


def test_wampler_2() -> None:
    wanted = 10.0 ** -np.arange(6)
    y = (WAMPLER_X[:, None] ** np.arange(6)) @ wanted
    found = of("y ~ poly(x, 5, raw = TRUE)", np.round(y, 5), WAMPLER_X, 0, 20)
    assert found.coefficients == pytest.approx(wanted, rel=1e-9)


ANSCOMBE_X = np.array([10.0, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5])
ANSCOMBE = {
    "I": (ANSCOMBE_X, [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]),
    "II": (ANSCOMBE_X, [9.14, 8.14, 8.74, 8.77, 9.26, 8.10, 6.13, 3.10, 9.13, 7.26, 4.74]),
    "III": (ANSCOMBE_X, [7.46, 6.77, 12.74, 7.11, 7.81, 8.84, 6.08, 5.39, 8.15, 6.42, 5.73]),
    "IV": (
        np.array([8.0, 8, 8, 8, 8, 8, 8, 19, 8, 8, 8]),
        [6.58, 5.76, 7.71, 8.84, 8.47, 7.04, 5.25, 12.50, 5.56, 7.91, 6.89],
    ),
}
"""Anscombe 1973, Graphs in statistical analysis, The American Statistician 27, table 1."""


@pytest.mark.parametrize("sites", [1, 2, 4])
@pytest.mark.parametrize("name", ANSCOMBE)
def test_anscombes_four_sets_have_the_one_line_that_he_printed(name: str, sites: int) -> None:
    x, y = ANSCOMBE[name][0], np.array(ANSCOMBE[name][1])
    found = of("y ~ x", y, x, 0, 20, sites)
    # As printed: y = 3 + 0.5 x, s.e. 0.118, regression's squares 27.50, residuals' 13.75, R2 0.667.
    assert found.coefficients == pytest.approx([3, 0.5], abs=5e-3)
    assert found.standard_errors[1] == pytest.approx(0.118, abs=5e-4)
    assert found.deviance == pytest.approx(13.75, abs=0.03)
    assert found.null_deviance - found.deviance == pytest.approx(27.50, abs=0.03)
    assert 1 - found.deviance / found.null_deviance == pytest.approx(0.667, abs=1e-3)
    true = sm.OLS(y, sm.add_constant(x)).fit()
    assert found.coefficients == pytest.approx(true.params, rel=1e-9)
    assert found.standard_errors == pytest.approx(true.bse, rel=1e-9)
