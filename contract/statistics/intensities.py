"""Constants by which images of several sites are normalised, from moments of subjects' figures.

Each subject's images together weigh 1 (``contract.derivations.Intensity``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from contract.statistics.summaries import Moments


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of intensities over all subjects, in the modality's unit."""

    subjects: int
    mean: float
    standard_deviation: float


def normalisation(means: Moments, deviations: Moments) -> Normalisation:
    """Return the constants from the moments of subjects' means and standard deviations.

    The variance over all is the mean of the subjects' variances and the variance of their means
    (the law of total variance); a mean of squares is a variance and a squared mean.
    """
    if not means.n or means.n != deviations.n:
        return Normalisation(0, math.nan, math.nan)
    within = deviations.m2 / deviations.n + deviations.mean**2
    between = means.m2 / means.n
    return Normalisation(means.n, means.mean, math.sqrt(within + between))
