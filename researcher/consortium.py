"""``Consortium``: the one thing that a researcher must learn."""

from __future__ import annotations

from typing import Any

from researcher.asking import Asking
from researcher.launching import Launching
from researcher.study import Study


class Consortium(Asking, Launching):
    """A connection to a consortium, as one researcher. Use it in a ``with`` block.

    What is there: ``projects``, ``sites``, ``releases``. Ask: ``statistics``, ``model``, ``study``.
    Train: ``train``, ``cross_evaluate``, ``job``, ``registry``.
    """

    def study(self, project: str, **terms: Any) -> Study:
        """Return a study of a project: every analysis by one call. ``terms`` are ``Study``'s."""
        self.project(project)
        return Study(self, project, **terms)
