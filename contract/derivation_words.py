"""A derivation in words, for whoever is to approve it."""

from __future__ import annotations

from contract.cohorts import Cohort
from contract.derivations import (
    Add,
    Bins,
    Days,
    Divide,
    Exp,
    FirstKnown,
    Impute,
    Known,
    Log,
    MissingIf,
    Multiply,
    Of,
    Power,
    Recode,
    Sqrt,
    Subtract,
    Where,
    Years,
)
from contract.holdings import Consent, Imaging, Intensity, Linked, Operation

_SIGNS: dict[type[Operation], str] = {Add: " + ", Subtract: " - ", Multiply: " * ", Divide: " / "}
_SHOWN = 8
"""Levels of a recoding that are written out."""


def in_words(node: Operation | float) -> str:
    """Return what an expression makes: "weight / height ^ 2"."""
    if not isinstance(node, Operation):
        return f"{node:g}"
    match node:
        case Of():
            said = node.variable
        case Add() | Subtract() | Multiply() | Divide():
            ((_, operands),) = [(k, getattr(node, k)) for k in type(node).model_fields]
            said = _SIGNS[type(node)].join(_inside(one) for one in operands)
        case Power():
            said = f"{_inside(node.power[0])} ^ {node.power[1]:g}"
        case Log() | Exp() | Sqrt():
            ((name, of),) = [(k, getattr(node, k)) for k in type(node).model_fields]
            said = f"{name}({in_words(of)})"
        case Days() | Years():
            ((name, dates),) = [(k, getattr(node, k)) for k in type(node).model_fields]
            said = f"{name} from {dates[0]} to {dates[1]}"
        case FirstKnown():
            said = "first known of " + ", ".join(in_words(one) for one in node.first_known)
        case Known():
            said = "how many are known of " + ", ".join(in_words(one) for one in node.known)
        case _:
            said = _coded(node)
    return said


def _coded(node: Operation) -> str:
    said = type(node).__name__
    match node:
        case MissingIf():
            values = ", ".join(v if isinstance(v, str) else f"{v:g}" for v in node.values)
            said = f"{_inside(node.missing_if)}, missing if {values}"
        case Bins():
            edges = ", ".join(f"{edge:g}" for edge in node.edges)
            said = f"{_inside(node.bins)} in bins at {edges}: {', '.join(node.levels)}"
        case Recode():
            pairs = [f"{old} = {new}" for old, new in list(node.levels.items())[:_SHOWN]]
            pairs += ["..."] if len(node.levels) > _SHOWN else []
            pairs += [f"others = {node.otherwise}"] if node.otherwise is not None else []
            pairs += [f"missing = {node.absent}"] if node.absent is not None else []
            said = f"{_inside(node.recode)} recoded: {', '.join(pairs)}"
        case Where():
            said = f"{node.levels[1]} where {_condition(node.where)}"
        case Imaging():
            said = f"{node.imaging} of {node.modality} images"
        case Intensity() if isinstance(node.intensity, int):
            width = (node.maximum - node.minimum) / node.bins
            low = node.minimum + node.intensity * width
            said = f"share of {node.modality} pixels from {low:g} to {low + width:g}"
        case Intensity():
            said = f"{node.intensity} of {node.modality} pixels"
        case Consent():
            bases = f" on the basis {' or '.join(node.basis)}" if node.basis else ""
            said = f"{node.levels[1]} where consent for {' or '.join(node.consent)} is held{bases}"
        case Linked():
            said = f"{node.levels[1]} where {_link(node)} held"
        case Impute():
            said = f"{node.impute} imputed by {', '.join(node.using)}, draw {node.imputation}"
    return said


def _link(node: Linked) -> str:
    """Return what is held, with its verb but for "held"."""
    match node.linked:
        case "images":
            return f"{node.modality} images are" if node.modality else "images are"
        case "reports":
            return "reports are"
        case "observations":
            codes = " or ".join((node.codes or ())[:_SHOWN])
            return (
                f"observations of {codes}{' or ...' if len(node.codes or ()) > _SHOWN else ''} are"
            )
        case "table":
            return f"a row of {node.table} is"
        case "group":
            return f"a group of {' and '.join(node.roles or ())} is"


def _condition(cohort: Cohort) -> str:
    """Return a condition in words, with brackets around what is joined."""
    if cohort.not_ is not None:
        return f"not {_condition(cohort.not_)}"
    for word, some in (("and", cohort.all), ("or", cohort.any)):
        if some is not None:
            return "(" + f" {word} ".join(_condition(one) for one in some) + ")"
    if cohort.missing is not None:
        return f"{cohort.variable} is {'missing' if cohort.missing else 'known'}"
    if cohort.levels is not None:
        return f"{cohort.variable} is {' or '.join(cohort.levels[:_SHOWN])}" + (
            " or ..." if len(cohort.levels) > _SHOWN else ""
        )
    bounds = (
        (">=", cohort.at_least),
        (">", cohort.above),
        ("<=", cohort.at_most),
        ("<", cohort.below),
    )
    return " and ".join(
        f"{cohort.variable} {sign} {bound:g}" for sign, bound in bounds if bound is not None
    )


def _inside(node: Operation | float) -> str:
    """Return an expression as a part of another, in brackets where it needs them."""
    plain = not isinstance(node, Operation) or isinstance(node, Of | Log | Exp | Sqrt)
    return in_words(node) if plain else f"({in_words(node)})"
