"""The partial likelihood of Cox's model, and the concordance of a risk with what happened.

Nothing here knows of tables or messages. Times are in any unit; an event is 1, censoring 0.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ties = Literal["breslow", "efron"]
Doubles = NDArray[np.float64]


def partial_loss(risks: Tensor, times: Tensor, events: Tensor, ties: Ties = "efron") -> Tensor:
    """Return minus the log partial likelihood of one stratum, divided by its number of events.

    ``risks`` are log relative hazards (n). Those at risk at an event are all whose time isn't
    shorter. Ties after Breslow 1974 or Efron 1977. Zero without events.
    Source: Cox 1975, "Partial likelihood"; Katzman et al. 2018, "DeepSurv", equation 4.
    """
    if not bool(events.any()):
        return risks.sum() * 0
    order = torch.argsort(times, descending=True, stable=True)
    risk, time, event = risks[order], times[order], events[order].to(risks.dtype)
    at_risk = torch.logcumsumexp(risk, dim=0)
    # The last of those with one time sees all of them.
    _, place, count = torch.unique_consecutive(time, return_inverse=True, return_counts=True)
    last = torch.cumsum(count, dim=0) - 1
    whole = at_risk[last][place]
    if ties == "breslow":
        return (event * (whole - risk)).sum() / event.sum()
    deaths = torch.zeros(len(count), dtype=risk.dtype, device=risk.device)
    deaths = deaths.index_add(0, place, event)
    minimum = torch.finfo(risk.dtype).min
    dying = torch.where(event > 0, risk, torch.full_like(risk, minimum))
    # The log of the summed hazards of those who die at one time.
    top = torch.full((len(count),), minimum, dtype=risk.dtype, device=risk.device)
    top = top.scatter_reduce(0, place, dying.detach(), "amax")
    summed = torch.zeros(len(count), dtype=risk.dtype, device=risk.device)
    summed = summed.index_add(0, place, event * torch.exp((risk - top[place]).clamp(max=0)))
    # The l-th of d who die at one time has l/d of their hazards taken off (l from 0).
    among = torch.cumsum(event, dim=0)
    before = torch.cat([among.new_zeros(1), among])[last - count + 1]
    rank = among - 1 - before[place]
    share = torch.where(event > 0, rank / deaths[place].clamp(min=1), torch.zeros_like(rank))
    less = share * summed[place] * torch.exp(top[place].clamp(min=-80) - whole)
    less = torch.where(event > 0, less, torch.zeros_like(less)).clamp(max=1 - 1e-7)
    return (event * (whole + torch.log1p(-less) - risk)).sum() / event.sum()


def concordance(risks: Doubles, times: Doubles, events: Doubles) -> tuple[float, int]:
    """Return Harrell's C and the number of pairs that can be compared; 0.5 and 0 without any.

    A pair can be compared when the shorter time is an event's, or both times are the same and one
    is an event's. A higher risk should have the shorter time; the same risk counts half. Source:
    Harrell et al. 1996, "Multivariable prognostic models", as lifelines counts ties.
    """
    order = np.lexsort((1 - events, times))
    risk, time, event = risks[order], times[order], events[order] > 0
    agree, pairs = 0.0, 0
    for index in np.flatnonzero(event):
        later = risk[index + 1 :]
        # Of those with the same time, the events come first: they aren't compared with events.
        other = ~((time[index + 1 :] == time[index]) & event[index + 1 :])
        later = later[other]
        pairs += later.size
        agree += float((later < risk[index]).sum()) + float((later == risk[index]).sum()) / 2
    return (agree / pairs, pairs) if pairs else (0.5, 0)
