"""Replies of apps in Flower's older form (``client_fn``, ``NumPyClient``), in today's.

Flower lays such a reply out in four records with names of its own. What they hold is the same
arrays and numbers; the rules look at them in one form.
"""

from __future__ import annotations

from collections.abc import Mapping

from contract.records import Arrays, Config, Metrics, Records

ARRAYS_NAME = "arrays"
METRICS_NAME = "metrics"
_STATUSES = ({"code": 0, "message": ""}, {"code": 0, "message": "Success"})
_FORMS: Mapping[str, frozenset[str]] = {
    "fitres": frozenset({"metrics", "num_examples", "parameters", "status"}),
    "evaluateres": frozenset({"metrics", "num_examples", "loss", "status"}),
}


def in_todays_form(records: Records) -> Records:
    """Return the records of an older app's reply as arrays and metrics; any others as they are.

    Only exactly the older layout is taken for one, with a status that says success and no more.
    """
    kind = next(iter(records), "").partition(".")[0]
    wanted = _FORMS.get(kind)
    if wanted is None or records.keys() != {f"{kind}.{name}" for name in wanted}:
        return records
    status = records[f"{kind}.status"]
    if not isinstance(status, Config) or status.items not in _STATUSES:
        return records
    found = Metrics()
    for name, record in records.items():
        part = name.partition(".")[2]
        if part in ("status", "parameters"):
            continue
        if isinstance(record, Arrays) or (part == "num_examples" and set(record.items) != {part}):
            return records
        for key, value in record.items.items():
            known = "num-examples" if part == "num_examples" else key
            if known in found.items:
                return records
            found.items[known] = value
    if kind == "evaluateres":
        return {METRICS_NAME: found}
    arrays = records[f"{kind}.parameters"]
    return {ARRAYS_NAME: arrays, METRICS_NAME: found} if isinstance(arrays, Arrays) else records
