"""The researcher's side: ask a consortium of hospitals, train across it, read the answers.

>>> from researcher import Consortium, column
>>> with Consortium.connect() as consortium:  # doctest: +SKIP
...     study = consortium.study("preterm", cohort=column("age") >= 18)
...     print(study.table_one("age", "smoker", by="arm"))
"""

import foundation  # noqa: F401  (before gRPC is imported)
from researcher.columns import column
from researcher.consortium import Consortium
from researcher.findings import Finding
from researcher.matrix import Matrix
from researcher.questions import (
    comoments,
    count,
    crosstab,
    histogram,
    levels,
    mean,
    shape,
    table_one,
)
from researcher.statistics import StatisticsAnswer
from researcher.study import Study
from researcher.training import TrainingHandle, TrainingResult

__all__ = [
    "Consortium",
    "Finding",
    "Matrix",
    "StatisticsAnswer",
    "Study",
    "TrainingHandle",
    "TrainingResult",
    "column",
    "comoments",
    "count",
    "crosstab",
    "histogram",
    "levels",
    "mean",
    "shape",
    "table_one",
]
