"""Schedules of a number that goes out with each round, such as the learning rate.

A schedule is a function of the round, which counts from 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from learning.strategies.wrapping import Wrapper

Schedule = Callable[[int], float]


def steps(initial: float, *, factor: float, every: int) -> Schedule:
    """Return ``initial``, multiplied by ``factor`` after every so many rounds."""
    return lambda server_round: float(initial * factor ** ((server_round - 1) // every))


def exponential(initial: float, *, factor: float) -> Schedule:
    """Return ``initial``, multiplied by ``factor`` after every round."""
    return steps(initial, factor=factor, every=1)


def cosine(initial: float, *, rounds: int, final: float = 0.0, warm_up: int = 0) -> Schedule:
    """Return half a cosine from ``initial`` in round 1 to ``final`` in the last of ``rounds``.

    In the first ``warm_up`` rounds it rises in equal steps to ``initial``, and falls from there.
    Source: Loshchilov and Hutter 2017, "SGDR", equation 5 without restarts.
    """

    def schedule(server_round: int) -> float:
        if server_round <= warm_up:
            return initial * server_round / (warm_up + 1)
        after = max(1, rounds - warm_up - 1)
        done = min(1.0, (server_round - warm_up - 1) / after)
        return final + (initial - final) * (1 + math.cos(math.pi * done)) / 2

    return schedule


class Scheduled(Wrapper):
    """Sends with each round of training what its schedules say, in the config.

    ``Scheduled(FedAvg(), {"learning-rate": cosine(0.1, rounds=20)})``; a site finds it as
    ``message.content["config"]["learning-rate"]``.
    """

    def __init__(self, strategy: Strategy, schedules: Mapping[str, Schedule]) -> None:
        super().__init__(strategy)
        self.schedules = dict(schedules)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Add the round's numbers to the config."""
        for key, schedule in self.schedules.items():
            config[key] = float(schedule(server_round))
        return super().configure_train(server_round, arrays, config, grid)
