"""Mods for a ClientApp, and what its training loop needs for them: each is an ordinary Flower mod.

``KeepLocal`` (FedBN, personalised heads), ``Ditto`` and ``scaffold``. Mods run in the order in
which ``ClientApp(mods=[...])`` lists them. One that clips or noises what leaves comes first: it
then sees what the others send.
"""

from learning.mods.ditto import Ditto
from learning.mods.local import KeepLocal, norm_layers
from learning.mods.scaffold import corrections, gradients_from, keep_control, scaffold

__all__ = [
    "Ditto",
    "KeepLocal",
    "corrections",
    "gradients_from",
    "keep_control",
    "norm_layers",
    "scaffold",
]
