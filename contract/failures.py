"""What it means that a site gave no answer to a task, by the code that it gives.

A site says no more than the code, and for an exception the line of the recipe: a text of its own
could hold a patient's data. So what to do about it is said here.
"""

from __future__ import annotations

from collections.abc import Mapping

MEANINGS: Mapping[str, str] = {
    "absent": "it was away for too long",
    "absurd-values": "an array of its update holds a number beyond 1e18",
    "bad-weight": "what weighs its update is no number from 0 to 1e9",
    "budget": "the hospital's privacy budget is spent",
    "draft": "the recipe left a draft that it may not leave",
    "exception": "the recipe's code raised an exception; its text stays in the hospital's log",
    "few-scores": "the squared residuals, for robust standard errors, are those of too few",
    "imprint": "the weights are made so that an update tells single records",
    "killed": "its process was ended: too much memory or processor time, or a forbidden call",
    "malformed": "the recipe's reply can't be read, or has no content",
    "malformed-trees": "its trees can't be put together with the others'",
    "not-finite": "an array or a metric is NaN or infinite",
    "out-of-range": "a metric is outside its range in the project",
    "small-cell": "num-examples is below the hospital's minimum cohort; where it counts no "
    'patients, the project says num_examples = "other"',
    "timeout": "it took longer than the message or the hospital's policy allows",
    "too-few-sites": "the hospital's policy wants more sites in a secure sum: ask for at least so "
    "many with --minimum-sites",
    "too-large": "the reply is larger than the project or the hospital allows",
    "undeclared-arrays": "its arrays have other names, shapes or dtypes than those it got, "
    "or it wasn't asked to train",
    "undeclared-metric": "a metric isn't among the project's metrics, or is no single number",
    "undeclared-output": "a record of the reply has a name or kind that the project doesn't grant",
    "undeclared-range": "the hospital adds noise, and a metric has no range in the project",
    "unlike-instruction": "its arrays have other names, shapes or dtypes than those it got",
    "unlike-the-others": "its reply is laid out unlike most of the others",
}


def with_meaning(code: str, location: str = "") -> str:
    """Return a code with the place in the recipe, and in brackets what it means, if known."""
    said = f"{code} {location}".rstrip()
    meaning = MEANINGS.get(code)
    return f"{said} ({meaning})" if meaning else said
