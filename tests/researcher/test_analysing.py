"""``wardgate analyse`` does what a study's methods do, and refuses options of other analyses."""

from __future__ import annotations

import pytest

from contract.errors import UsageError
from researcher.analysing import Adjustment, Alternative, Analysis, Particular, run
from tests.researcher.local import LocalConsortium, split
from tests.researcher.test_study import FOLLOWED, LIVES, TABLE, VARIABLES

STUDY = LocalConsortium(VARIABLES, split(TABLE, 3)).study(confidence=0.9)
LESS = Particular(alternative=Alternative.LESS, null=-2.0)


def test_options_of_an_analysis_reach_it() -> None:
    for kind, names, by, found in (
        (Analysis.T_TEST, ["age"], "arm", STUDY.t_test("age", "arm", alternative="less", null=-2)),
        (Analysis.MEAN, ["age"], None, STUDY.mean("age", alternative="less", null=-2)),
    ):
        assert run(STUDY, kind, names, by, LESS).rows == found.rows
    plain = Particular()
    assert run(STUDY, Analysis.TABLE1, ["age"], None, plain).rows == STUDY.table_one("age").rows
    wanted = STUDY.table_one("age", "ill", by="arm", overall=True, medians=["age"])
    asked = Particular(overall=True, median=["age"])
    assert run(STUDY, Analysis.TABLE1, ["age", "ill"], "arm", asked).rows == wanted.rows
    wanted = STUDY.quantiles("age", shares=[0.5], type=1)
    found = run(STUDY, Analysis.QUANTILES, ["age"], None, Particular(share=[0.5], type=1))
    assert found.rows == wanted.rows
    asked = Particular(adjust=Adjustment.BONFERRONI)
    adjusted = STUDY.anova("age", "stage", adjust="bonferroni")
    assert run(STUDY, Analysis.ANOVA, ["age"], "stage", asked).glance() == adjusted.glance()
    shares = run(STUDY, Analysis.PROPORTION, ["ill"], "arm", plain)
    assert shares.rows == STUDY.proportion("ill", "arm").rows
    worth = run(STUDY, Analysis.ACCURACY, ["arm", "ill"], None, plain)
    assert worth.rows == STUDY.accuracy("arm", "ill").rows
    lives = LocalConsortium(FOLLOWED, split(LIVES, 3)).study()
    asked = Particular(at=[12.0], until=36.0, rho=1.0)
    curves = run(lives, Analysis.SURVIVAL, ["months", "died"], "arm", asked)
    wanted = lives.survival("months", "died", "arm", at=[12], until=36, rho=1)
    assert curves.glance() == wanted.glance()


@pytest.mark.parametrize(
    ("particular", "option"),
    [
        (LESS, "--alternative"),
        (Particular(null=1), "--null"),
        (Particular(at=[1.0]), "--at"),
        (Particular(until=3.0), "--until"),
        (Particular(rho=1.0), "--rho"),
        (Particular(stratum="arm"), "--stratum"),
        (Particular(share=[0.5]), "--share"),
        (Particular(type=6), "--type"),
        (Particular(overall=True), "--overall"),
        (Particular(adjust=Adjustment.HOLM), "--adjust"),
        (Particular(score=[1.0]), "--score"),
        (Particular(median=["age"]), "--median"),
    ],
)
def test_an_option_of_another_analysis_is_refused(particular: Particular, option: str) -> None:
    with pytest.raises(UsageError, match=option):
        run(STUDY, Analysis.CROSSTAB, ["arm", "ill"], None, particular)
