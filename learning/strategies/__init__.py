"""Strategies that Flower doesn't have; each works wherever Flower's own do.

``Scaffold``, ``Cyclic`` and ``QuasiNewton`` are strategies, and so is ``CrossEvaluation``, which
trains a model at each site and evaluates each of them at every site. ``Scheduled`` and
``EarlyStopping`` are put around any strategy. What FedBN, personalised heads and Ditto need is at
the site: ``learning.mods``.

A strategy says by ``needs_single_updates`` why it can't work on a sum of its sites' updates alone;
empty when it can.
"""

from learning.strategies.cross import CrossEvaluation
from learning.strategies.cyclic import Cyclic
from learning.strategies.quasi_newton import QuasiNewton
from learning.strategies.scaffold import Scaffold
from learning.strategies.schedules import Scheduled, cosine, exponential, steps
from learning.strategies.stopping import EarlyStopping
from learning.strategies.wrapping import Wrapper

__all__ = [
    "CrossEvaluation",
    "Cyclic",
    "EarlyStopping",
    "QuasiNewton",
    "Scaffold",
    "Scheduled",
    "Wrapper",
    "cosine",
    "exponential",
    "steps",
]
