"""The researcher's side: ask a consortium of hospitals, train across it, read the answers.

>>> from researcher import Consortium, mean, levels
>>> with Consortium.connect() as consortium:  # doctest: +SKIP
...     answer = consortium.statistics("preterm", [mean("age", by="arm")])
...     print(answer)
"""

import foundation  # noqa: F401  (before gRPC is imported)
from researcher.consortium import Consortium
from researcher.questions import count, histogram, levels, mean, table_one
from researcher.statistics import StatisticsAnswer
from researcher.training import TrainingHandle, TrainingResult

__all__ = [
    "Consortium",
    "StatisticsAnswer",
    "TrainingHandle",
    "TrainingResult",
    "count",
    "histogram",
    "levels",
    "mean",
    "table_one",
]
