"""Mergeable statistics: a local half, a merge and a finish for each. Pure; no I/O.

Every summary is a small value whose merge is associative and commutative (up to the rounding of
float64), so that any split of the rows over any number of sites gives the pooled answer.
"""

from contract.statistics.answers import answer_locally, merge_answers
from contract.statistics.summaries import CoMoments, Counts, Moments, Shape

__all__ = ["CoMoments", "Counts", "Moments", "Shape", "answer_locally", "merge_answers"]
