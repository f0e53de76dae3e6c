"""A model's card in Markdown: what is known of it, and by whom it is said.

Sections are those of Mitchell et al. 2019, "Model Cards for Model Reporting", section 4; the block
at the top has the fields of Hugging Face's cards. Nothing is invented: what nobody told is "not
given". A recipe tells its part in its ``pyproject.toml``, in ``[project]`` and ``[tool.wardgate.
card]``, whose keys are ``TOLD``.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from contract.documents import Project, printable
from contract.records import Value
from foundation.bundle import PROJECT, Bundle
from researcher.registry import ModelHistory, SiteShare
from researcher.spending import Spent
from researcher.training import Round

NOT_GIVEN = "not given"
TOLD = (
    "task", "license", "intended_use", "intended_users", "out_of_scope", "factors", "metrics",
    "evaluation_data", "training_data", "ethical_considerations", "caveats",
)  # fmt: skip
MAX_TEXT = 4000
NEWEST_ROUNDS = 50
DIGESTS_SHOWN = 20


def told_by(bundle: Bundle | None) -> dict[str, str]:
    """Return what a recipe says of itself for a card; only ``TOLD``'s keys, as bounded text."""
    if bundle is None:
        return {}
    document: dict[str, Any] = tomllib.loads(bundle.files[PROJECT].decode())
    project = document.get("project", {})
    told = document.get("tool", {}).get("wardgate", {}).get("card", {})
    found = {"task": project.get("description"), "license": project.get("license")}
    if isinstance(told, dict):
        found |= {key: told[key] for key in TOLD if key in told}
    return {k: _plain(v) for k, v in found.items() if isinstance(v, str) and v.strip()}


def _plain(text: str) -> str:
    """Text of a stranger as one paragraph that no Markdown reader takes for more than text."""
    line = printable(" ".join(text.split()), MAX_TEXT)
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!" else c for c in line)


def card(
    history: ModelHistory,
    project: Project | None,
    told: Mapping[str, str],
    *,
    parents: Sequence[str] = (),
) -> str:
    """Return the card. ``parents``: the models that it was started from, the nearest first."""
    model, work = history.model, history.work

    def say(key: str) -> str:
        return told.get(key, NOT_GIVEN)

    ended = model.finished_at.strftime("%Y-%m-%d %H:%M UTC")
    recipe = f"{_plain(model.recipe)} ({_plain(model.bundle_name)} {_plain(model.bundle_version)})"
    lines = [
        *_front(model.recipe, told, history),
        f"# {_plain(model.recipe)} {model.digest[:12]}",
        "",
        "Facts marked † are the coordinator's or the recipe's word; nobody signed them. All others",
        "follow from what the researcher and the sites signed.",
        "",
        "## Model details",
        "",
        *_table(
            {
                "model": f"`{model.digest}` (SHA-256 of its safetensors, {model.size} bytes)",
                "trained by": f"{_plain(model.researcher)}, in {_plain(history.signed.consortium)}",
                "job": f"`{model.job}`",
                "ended †": ended,
                "task": say("task"),
                "recipe †": recipe,
                "recipe's bundle": f"`{work.bundle}`",
                "strategy †": _strategy(model.strategy, model.settings),
                "seed": str(work.seed),
                "parameters": _pairs(work.parameters),
                "started from": _origin(work.start_from, parents),
                "license": say("license"),
                "contact": NOT_GIVEN,
            }
        ),
        "## Intended use",
        "",
        *_table(
            {
                "primary intended uses": say("intended_use"),
                "primary intended users": say("intended_users"),
                "out of scope": say("out_of_scope"),
                "what becomes of the model": _plain(project.model_outcome)
                if project is not None
                else NOT_GIVEN,
            }
        ),
        "## Factors",
        "",
        say("factors"),
        "",
        "## Metrics",
        "",
        say("metrics"),
        "",
        "## Evaluation data",
        "",
        say("evaluation_data"),
        "",
        "## Training data",
        "",
        say("training_data"),
        "",
        *_project(project, history),
        *_sites(history.shares()),
        "## Quantitative analyses",
        "",
        *_rounds(history.rounds),
        "## Privacy",
        "",
        *privacy(history),
        "",
        "## Ethical considerations",
        "",
        say("ethical_considerations"),
        "",
        f"Ethics reference: {_plain(project.ethics_reference)}. "
        f"Legal basis: {_plain(project.legal_basis)}."
        if project is not None
        else f"Ethics reference: {NOT_GIVEN}.",
        "",
        "A model is not anonymous: it can tell of the patients that it learned from.",
        "",
        "## Caveats and recommendations",
        "",
        say("caveats"),
        "",
        *(f"- {_plain(doubt)}" for doubt in history.doubts),
        *([""] if history.doubts else []),
        "## Receipts",
        "",
        *_receipts(history.shares()),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _front(recipe: str, told: Mapping[str, str], history: ModelHistory) -> list[str]:
    license_name = told.get("license", "")
    known = license_name.lower() if license_name.replace("-", "").replace(".", "").isalnum() else ""
    return [
        "---",
        f'license: "{known or "unknown"}"',
        "library_name: safetensors",
        "tags:",
        "- federated-learning",
        "- wardgate",
        *([f'base_model: "{history.work.start_from}"'] if history.work.start_from else []),
        "---",
        "",
    ]


def _table(facts: Mapping[str, str]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items()), ""]


def _strategy(name: str, settings: Mapping[str, Value]) -> str:
    if not name:
        return NOT_GIVEN
    shown = _pairs(settings) if settings else ""
    return f"{_plain(name)}: {shown}" if shown else _plain(name)


def _pairs(values: Mapping[str, Any]) -> str:
    if not values:
        return "the recipe's own"
    return ", ".join(f"{_plain(str(k))} = {_plain(str(v))}" for k, v in sorted(values.items()))


def _origin(start_from: str | None, parents: Sequence[str]) -> str:
    if start_from is None:
        return "no registered model"
    return " ← ".join(f"`{parent}`" for parent in (parents or (start_from,)))


def _project(project: Project | None, history: ModelHistory) -> list[str]:
    signed = history.signed
    facts = {"project": f"{_plain(signed.project)}, version {signed.project_version}"}
    if project is not None:
        facts |= {"title": _plain(project.title), "purpose": _plain(project.purpose)}
    return _table(facts)


def _sites(shares: Sequence[SiteShare]) -> list[str]:
    rows = [
        f"| {_plain(s.site)} | `{s.release}` | {s.receipts} | {s.payload_bytes} |" for s in shares
    ]
    return [
        "| site | release | payloads | bytes that left |",
        "|---|---|---:|---:|",
        *rows,
        "",
        f"Number of patients: {NOT_GIVEN}.",
        "",
    ]


def _rounds(rounds: Sequence[Round]) -> list[str]:
    shown = [r for r in rounds if r.metrics][-NEWEST_ROUNDS:]
    if not shown:
        return [f"Metrics: {NOT_GIVEN}.", ""]
    left = len([r for r in rounds if r.metrics]) - len(shown)
    rows = [
        f"| {r.number} | {_plain(r.step)} | "
        + ", ".join(f"{_plain(k)} = {_figure(v)}" for k, v in r.metrics.items())
        + " |"
        for r in shown
    ]
    return [
        "Metrics †, merged over the sites by the recipe's strategy"
        + (f"; {left} earlier steps are left out:" if left else ":"),
        "",
        "| round | step | metrics |",
        "|---:|---|---|",
        *rows,
        "",
    ]


def _figure(value: float) -> str:
    return "not a number" if math.isnan(value) else f"{value:.6g}"


def privacy(history: ModelHistory) -> list[str]:
    """Return what is known of how updates were protected, a line of a list for each."""
    lines: list[str] = []
    secure = history.work.secure
    if secure is not None:
        lines.append(
            "- Updates were summed securely, as the researcher signed: each clipped to an L2 norm "
            f"of {secure.clip_norm:g}; the sum's noise, in clip norms: {secure.noise_multiplier:g}."
        )
    treatments = {
        "UpdateClipped": "clipped",
        "UpdateNoised": "given noise",
        "UpdateQuantised": "quantised",
    }
    for share in history.shares():
        done = [word for rule, word in treatments.items() if rule in share.rules]
        if done:
            what = f"updates were {' and '.join(done)}, as its receipts say"
        elif secure is not None:
            what = "updates were asked for in sums alone, as the signed job says"
        else:
            what = "updates left as they were, as its receipts say"
        lines.append(f"- {_plain(share.site)}: {what}.{_spent(share.spent)}")
    noised = any("UpdateNoised" in share.rules for share in history.shares())
    noised = noised or (secure is not None and secure.noise_multiplier > 0)
    told = [share.spent.epsilon for share in history.shares() if share.spent.releases]
    if told:
        charged = f"an epsilon of {max(told):.4g} at most, of the sites that tell"
    elif noised:
        charged = "as each site's policy; not told"
    else:
        charged = "no noise by the sites' gates"
    lines.append(f"- Charged to the sites' privacy accounts: {charged}.")
    claimed = [r.metrics["epsilon"] for r in history.rounds if "epsilon" in r.metrics]
    if claimed:
        lines.append(
            f"- The recipe's own epsilon †, the last that it reported: {_figure(claimed[-1])}."
        )
    return lines


def _spent(spent: Spent) -> str:
    """Return a sentence of what a site's noise amounts to; nothing where it doesn't tell."""
    if not spent.releases:
        return ""
    but = f", but for {spent.payloads_without} payloads without" if spent.payloads_without else ""
    return (
        f" Privacy spent: epsilon {spent.epsilon:.4g} at delta {spent.delta:g} "
        f"({spent.releases} {spent.mechanism} releases, {spent.accountant}{but})."
    )


def _receipts(shares: Sequence[SiteShare]) -> list[str]:
    lines = ["Payloads by their SHA-256, as each site's key signed.", ""]
    for share in shares:
        more = len(share.digests) - DIGESTS_SHOWN
        lines += [f"- {_plain(share.site)}: rules {', '.join(map(_plain, share.rules))}"]
        lines += [f"  - `{digest}`" for digest in share.digests[:DIGESTS_SHOWN]]
        lines += [f"  - and {more} more"] if more > 0 else []
    return lines
