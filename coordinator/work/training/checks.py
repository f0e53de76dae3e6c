"""What a reply must be before a strategy sees it, and how many must be left.

FedAvg takes a NaN, a negative weight and a weight of 1e9, and one odd key ends its run. So a reply
that isn't sound counts as that site's failure, and the run goes on without it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from contract.records import Arrays, Metrics, Records
from foundation.stored import StoredArray, StoredArrays, StoredRecords

WEIGHTS = frozenset({"num-examples", "num_examples"})
MAX_WEIGHT = 1e9
MOST = 1e18
"""Largest number of an update: the sum of many squares of larger ones isn't finite in 32 bits."""

Layout = tuple[object, ...]
Trees = Literal["no", "cyclic", "bagging"]
"""Whether a strategy's model is an ensemble of trees, as bytes, and how it is put together."""


def objection(
    sent: Records,
    reply: Records | StoredRecords,
    *,
    train: bool,
    weights: frozenset[str],
    trees: Trees = "no",
) -> str:
    """Return why a reply isn't sound, as a code, or an empty string.

    ``not-finite``: an array or a metric is NaN or infinite. ``absurd-values``: a trained array
    holds a number beyond 1e18 and beyond all that it was sent with. ``bad-weight``: what weighs the
    update is not a number from 0 to 1e9. ``unlike-instruction``: a trained model's arrays have
    other names, shapes or dtypes than a group of those that were sent. With ``trees``, a model is
    one array of bytes of any length; ``malformed-trees``: Flower's bagging can't take it in.
    """
    instruction, answer = _arrays(sent), _arrays(reply)
    if train and instruction:
        if trees != "no":
            if not _are_bytes(answer) or answer.keys() != instruction.keys():
                return "unlike-instruction"
            if trees == "bagging" and not all(is_ensemble(array) for array in answer.values()):
                return "malformed-trees"
        elif _shapes(answer) not in (_shapes(instruction), *_group_shapes(sent)):
            return "unlike-instruction"
    code = _objection_to_values(instruction if train else {}, answer)
    return code or _objection_to_metrics(reply, weights)


def _objection_to_values(
    instruction: Mapping[str, NDArray[np.generic] | StoredArray],
    answer: Mapping[str, NDArray[np.generic] | StoredArray],
) -> str:
    for key, array in answer.items():
        if _is_within(array, MOST):
            continue
        if not is_finite(array):
            return "not-finite"
        if key in instruction and not _is_within(array, largest(instruction[key])):
            return "absurd-values"
    return ""


def _objection_to_metrics(reply: Records | StoredRecords, weights: frozenset[str]) -> str:
    for record in reply.values():
        if isinstance(record, Metrics):
            if not all(is_weight(record.items[key]) for key in weights & record.items.keys()):
                return "bad-weight"
            if not all(_is_sound(value) for value in record.items.values()):
                return "not-finite"
    return ""


def _are_bytes(arrays: Mapping[str, NDArray[np.generic] | StoredArray]) -> bool:
    return len(arrays) == 1 and all(
        a.dtype == np.uint8 and len(a.shape) == 1 for a in arrays.values()
    )


def is_ensemble(array: NDArray[np.generic] | StoredArray) -> bool:
    """Say whether bytes are an ensemble of trees that ``aggregate_bagging`` adds to another.

    XGBoost's JSON model schema, 3.2: what Flower reads of it, and as many trees as it says.
    """
    data = array.read() if isinstance(array, StoredArray) else array
    try:
        model = json.loads(data.tobytes())["learner"]["gradient_booster"]["model"]
        numbers = model["gbtree_model_param"]
        trees, parallel = int(numbers["num_trees"]), int(numbers["num_parallel_tree"])
        whole = isinstance(model["trees"], list) and isinstance(model["tree_info"], list)
        starts = model["iteration_indptr"]
        return (
            whole
            and 1 <= parallel <= trees == len(model["trees"])
            and all(isinstance(tree, dict) for tree in model["trees"])
            and isinstance(starts, list)
            and type(starts[-1]) is int
        )
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return False


def is_weight(value: object) -> bool:
    """Say whether a value may weigh a site's update."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value <= MAX_WEIGHT  # type: ignore[operator,arg-type]


def _is_sound(metric: object) -> bool:
    values = metric if isinstance(metric, list) else [metric]
    return all(math.isfinite(value) for value in values if isinstance(value, float))


def is_finite(array: NDArray[np.generic] | StoredArray) -> bool:
    """Say whether an array holds neither NaN nor infinity; a stored one is read in pieces."""
    return _is_within(array, np.inf)


def _is_within(array: NDArray[np.generic] | StoredArray, most: float) -> bool:
    """Say whether all of an array's numbers are finite and at most so large."""
    if array.dtype.kind != "f":
        return True
    if isinstance(array, StoredArray):
        return all(_is_within(piece, most) for piece in array.pieces())
    if array.dtype.itemsize > 2 and most >= MOST:
        with np.errstate(all="ignore"):
            flat: NDArray[np.floating[Any]] = array.reshape(-1)  # type: ignore[assignment]
            # No term is larger than the sum of squares; only a large one needs the slower look.
            if float(np.vdot(flat, flat)) <= MOST**2:
                return True
    return bool(np.isfinite(array).all()) and largest(array) <= most


def largest(array: NDArray[np.generic] | StoredArray) -> float:
    """Return the largest absolute value of an array, 0 without any."""
    if isinstance(array, StoredArray):
        return max((largest(piece) for piece in array.pieces()), default=0.0)
    return float(np.abs(array).max()) if array.size else 0.0


def _arrays(records: Records | StoredRecords) -> dict[str, NDArray[np.generic] | StoredArray]:
    return {
        key: array
        for record in records.values()
        if isinstance(record, Arrays | StoredArrays)
        for key, array in record.items.items()
    }


def _group_shapes(records: Records) -> list[dict[str, tuple[str, tuple[int, ...]]]]:
    return [_shapes(record.items) for record in records.values() if isinstance(record, Arrays)]


def _shapes(
    arrays: Mapping[str, NDArray[np.generic] | StoredArray],
) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {key: (array.dtype.name, array.shape) for key, array in arrays.items()}


def layout(records: Records | StoredRecords, weights: Collection[str] = WEIGHTS) -> Layout:
    """Return the names of a reply's records, its arrays and, of its metrics, of what weighs it."""
    kinds = {Arrays: "arrays", StoredArrays: "arrays", Metrics: "metrics"}
    found: list[object] = []
    for name, record in sorted(records.items()):
        if type(record) in kinds:
            names = frozenset(record.items)
            if isinstance(record, Metrics):
                names &= frozenset(weights)
            found.append((kinds[type(record)], name, names))
    return tuple(found)


def set_apart(
    replies: Sequence[StoredRecords], weights: Collection[str] = WEIGHTS, minimum: int = 1
) -> dict[str, float]:
    """Take metrics out of replies that not all have alike, as a strategy wants the same of all.

    Alike: all have one number, or a list of as many. Return under ``NAME-sites`` how many sites
    have one, and, if these are at least ``minimum``, their mean, weighted by their examples. What
    fewer sites say isn't told.
    """
    found: dict[str, float] = {}
    records = [(n, r) for reply in replies for n, r in reply.items() if isinstance(r, Metrics)]
    for group in {name for name, _ in records}:
        metrics = [record for name, record in records if name == group]
        forms: dict[str, set[int | None]] = {}
        for one in metrics:
            for key, value in one.items.items():
                forms.setdefault(key, set()).add(len(value) if isinstance(value, list) else None)
        common = frozenset.intersection(*(frozenset(one.items) for one in metrics))
        alike = {key for key in common if len(forms[key]) == 1}
        partial = forms.keys() - alike - set(weights)
        for key in sorted(partial):
            having = [one for one in metrics if key in one.items]
            found[f"{key}-sites"] = len(having)
            pairs = [(one.items[key], _examples(one)) for one in having]
            total = sum(weight for _, weight in pairs)
            enough = len(having) >= minimum and total > 0
            if enough and all(_is_number(value) for value, _ in pairs):
                found[key] = sum(value * weight for value, weight in pairs) / total  # type: ignore[operator,misc]
        for reply in replies:
            record = reply.get(group)
            if partial and isinstance(record, Metrics):
                kept = {k: v for k, v in record.items.items() if k not in partial}
                reply[group] = Metrics(kept)
    return found


def _is_number(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]


def _examples(metrics: Metrics) -> float:
    value = next((metrics.items[key] for key in sorted(WEIGHTS) if key in metrics.items), 1)
    return float(value) if is_weight(value) else 1.0  # type: ignore[arg-type]


def odd_ones(layouts: Sequence[Layout]) -> list[int]:
    """Return which replies are laid out unlike most; among equals the first is the norm."""
    if not layouts:
        return []
    [(norm, _)] = Counter(layouts).most_common(1)
    return [index for index, found in enumerate(layouts) if found != norm]
