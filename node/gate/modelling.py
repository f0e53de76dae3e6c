"""Whether a model may be fitted here: by the policy, its size, and what its sums tell at once.

What is decided follows from the question, the project's dictionary, the release's manifest and the
policy. No row is looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import DocumentError, Refused
from contract.models import Model
from contract.statistics import design, knots, models
from contract.terms import Factor, Polynomial, Power, Spline, Transformed, Value
from contract.work import StatisticsWork
from node.catalog.manifest import AnalysisSet, Declaration, Grid, Strata
from node.catalog.strata import Blocks
from node.gate import exact
from node.gate.rules import Question
from node.gate.undeclared import NOT_DECLARED

MOST_TOGETHER = 3
"""Of how many variables at once a release declares counts."""
MOST_POWER = 3
"""Sums of higher powers are mostly the largest value's, whatever the others are."""
MOST_SPREAD = 3.0
"""Of all offsets, from their least value to their largest: they weigh nobody 20 times as another,
but for the logarithm of a number that is declared as a weight would be."""
_PLACES = 129
"""How many places of a range a function is looked at."""


class ModelWithinLimits:
    """A model is of the dictionary, has few coefficients, and its sums tell what is declared.

    Guarantee: each figure of a site's part is a sum over subjects of the analysis set, in the
    cohort's cells, of products of at most two of the model's terms, or of a term and the outcome,
    times a weight that follows from the coefficients. Of each such product the categories are
    declared jointly, so that it is of nobody or at least ``minimum_cell``; two numbers, or a number
    and a category, are declared as a product. Coefficients are few for the subjects as listed.
    With ``model_categories = "all"`` a model of several steps has all its categories declared
    together: then no set of steps tells smaller groups either.
    Not guaranteed with ``"pairs"``: a step weighs each combination of all categories otherwise, and
    from several steps the counts of more of them than two terms have can be solved.
    Assumption: nobody chooses coefficients (``node.work.coefficients``).
    Source: DataSHIELD's nfilter.glm, applied to subjects; ``docs/reference/disclosure.md``.
    """

    code = "not-in-dictionary"

    def check(self, question: Question) -> None:
        """Refuse a model that can't be, is too large, or would tell what isn't declared."""
        work = question.job.work
        if not isinstance(work, StatisticsWork) or work.fit is None:
            return
        assert question.project is not None
        assert question.release is not None
        disclosure = question.policy.disclosure
        if not disclosure.models:
            raise Refused("models-off", "The policy of this site allows no models.")
        if any(one is None or one is exact.WITHHELD for one in question.plan):
            raise NOT_DECLARED
        try:
            columns = models.check(work, question.project)
        except DocumentError as error:
            raise Refused(self.code, str(error)) from None
        cell = disclosure.minimum_cell
        least = question.release.subjects // cell * cell
        chosen = {one.groups.get("", ()) for one in question.plan if one is not None}
        if work.cohort is not None:
            cells = min((len(some) for some in chosen), default=0)
            least = min(least, disclosure.minimum_cohort * cells)
        if len(columns) * disclosure.subjects_per_coefficient > least:
            raise Refused("too-many-coefficients", "The model has too many coefficients here.")
        declaration = exact.declared(question.release.manifest, question.policy)
        # Squared residuals of a linear model weigh each combination otherwise, as a step does.
        squared = work.fit.family == "linear" and work.fit.robust in ("HC0", "HC1")
        wide = disclosure.model_categories == "all" and (squared or work.fit.family != "linear")
        for cells_of in chosen:
            together = Together(work, question.project, declaration, cells_of)
            together.check(everything=wide)
            if squared:
                together.check_shapes()


class Together:
    """What a model's sums tell of several variables at once, beside what a release declares."""

    def __init__(
        self,
        work: StatisticsWork,
        project: Project,
        declaration: Declaration,
        cells: Sequence[int],
    ) -> None:
        found = declaration.analysis(work.analysis) if work.analysis is not None else None
        if found is None or work.fit is None:
            raise NOT_DECLARED
        self._set: AnalysisSet = found
        self._model: Model = work.fit
        self._project = project
        self._declaration = declaration
        self._joint = {one.variables: one.by for one in found.joint}
        self._products = {one.variables: one.by for one in found.products}
        self._blocks = Blocks(declaration.strata, declaration.cells)
        self._inside = np.zeros(len(declaration.cells), dtype=np.bool_)
        self._inside[list(cells)] = True
        self._passed: dict[Strata, bool] = {}

    def check(self, *, everything: bool) -> None:
        """Raise ``Refused`` for the first that isn't declared."""
        model = self._model
        # The logarithm of a number as an offset makes it a factor, where there are weights.
        offsets = [f for f in model.offset if model.family == "linear" or not _is_log(f)]
        functions = [f for term in model.terms for f in term.factors]
        functions += [f for f in offsets if not (isinstance(f, Power) and f.power == 1)]
        gridded = {f.variable for f in functions if _is_gridded(f)}
        self._check_offsets(offsets)
        for factor in functions:
            self._check_function(factor)
        if model.transform is not None:
            self._check_function(Transformed(variable=model.outcome, function=model.transform))
        if model.family == "cox" and model.time_scale == "log":
            self._check_function(Transformed(variable=model.outcome, function="log"))
        for names in self._at_once():
            self._check_names(names, gridded)
        if everything:
            self._check_joint({n for n in self._model.variables if self._counts(n, gridded)})

    def check_shapes(self) -> None:
        """Raise ``Refused`` for a number of which sums of fourth powers aren't declared.

        A linear model's squared residuals times two of its columns hold them.
        """
        model = self._model
        for name in sorted({model.outcome, *(n for term in model.terms for n in term.variables)}):
            variable, declared = self._project.variable(name), self._declaration.variable(name)
            if variable is None or variable.kind == "category":
                continue
            if (
                declared is None
                or "shape" not in declared.in_analyses
                or not self._is_declared(declared.by.get("shape"))
            ):
                raise Refused(
                    "not-declared-together",
                    f"Robust errors of a linear model hold sums of fourth powers, and the shape of "
                    f"{name} is not declared in {self._set.name}. Ask for errors by site, or "
                    "none that are robust.",
                )

    def _at_once(self) -> Iterator[frozenset[str]]:
        """Yield the variables of each product that a part has sums of."""
        model = self._model
        always = {model.weights} if model.weights is not None else set()
        always |= {factor.variable for factor in model.offset}
        some = [frozenset(term.variables) for term in model.terms]
        some += [frozenset({n}) for n in (model.outcome, model.event, model.entry) if n is not None]
        some += [frozenset({n}) for n in model.strata]
        seen = set()
        for one, other in itertools.combinations_with_replacement(some, 2):
            names = one | other | always
            if names not in seen:
                seen.add(names)
                yield names

    def _check_names(self, names: frozenset[str], gridded: set[str]) -> None:
        self._check_joint({n for n in names if self._counts(n, gridded)})
        for pair in itertools.combinations(sorted(names), 2):
            if all(self._counts(n, gridded) for n in pair):
                continue
            if not self._is_declared(self._products.get(pair)):
                raise Refused(
                    "not-declared-together",
                    f"Sums of products of {pair[0]} and {pair[1]} are not declared in "
                    f"{self._set.name}.",
                )

    def _check_joint(self, counted: set[str]) -> None:
        names = tuple(sorted(counted))
        if len(names) < 2:
            return
        if len(names) > MOST_TOGETHER or not self._is_declared(self._joint.get(names)):
            raise Refused(
                "not-declared-together",
                f"Counts of {', '.join(names[:-1])} and {names[-1]} together are not declared in "
                f"{self._set.name}, and the model's sums would tell them. "
                f"{self._once_declared(counted)}",
            )

    def _once_declared(self, names: set[str]) -> str:
        """Return how to declare counts; what is held says nothing here, only what is asked."""
        if len(names) > MOST_TOGETHER:
            return f"No more than {MOST_TOGETHER} are ever counted together."
        found = []
        for name in sorted(names):
            variable = self._project.variable(name)
            if variable is not None and variable.kind == "number":
                told = variable if variable.bins is not None else None
                found.append(_grid(name, told))
        how = " ".join([*(f"--grid {one}" for one in found), f"--analysis {self._set.name}=..."])
        coarse = "a coarser grid" if found else "fewer levels"
        return f"Make the release again with {how}; small counts need {coarse}, or fewer variables."

    def _check_function(self, factor: Factor) -> None:
        """Refuse a function of a number that would single out values."""
        if not _is_gridded(factor):
            return
        name = factor.variable
        declared = self._declaration.variable(name)
        if (
            declared is None
            or declared.grid is None
            or "histogram" not in declared.in_analyses
            or not self._is_declared(declared.by.get("histogram"))
        ):
            raise Refused(
                "not-declared-together",
                f"{factor.label} needs counts of {name} on its grid, which are not declared in "
                f"{self._set.name}. {self._once_declared({name})}",
            )
        if _power(factor) > MOST_POWER:
            raise Refused(
                "not-declared-together",
                f"A model has powers up to {MOST_POWER}, and {factor.label} is a higher one.",
            )
        if isinstance(factor, Spline):
            edges = np.linspace(
                declared.grid.minimum, declared.grid.maximum, declared.grid.bins + 1
            )
            variable = self._project.variable(name)
            assert variable is not None
            places = _knots(factor, variable)
            near = 1e-9 * (declared.grid.maximum - declared.grid.minimum)
            if any(np.abs(edges - knot).min() > near for knot in places):
                raise Refused(
                    "not-declared-together",
                    f"The knots of {factor.label} are not edges of {name}'s grid, which is "
                    f"{_grid(name, declared.grid)}.",
                )

    def _check_offsets(self, offsets: Sequence[Factor]) -> None:
        """Refuse offsets that would weigh some rows far above others, all together."""
        named = [factor.variable for factor in self._model.offset]
        if len(set(named)) < len(named):
            raise Refused("not-declared-together", "A model's offsets name a variable twice.")
        spread = 0.0
        for factor in offsets:
            variable = self._project.variable(factor.variable)
            assert variable is not None
            values = design.basis(factor, variable, np.linspace(*design.bounds(variable), _PLACES))
            spread += float(np.ptp(values))
            if spread > MOST_SPREAD:
                raise Refused(
                    "not-declared-together",
                    f"The offset {factor.label} would weigh some subjects far above others: its "
                    f"range, with those of other offsets, is wider than {MOST_SPREAD:g}.",
                )

    def _counts(self, name: str, gridded: set[str]) -> bool:
        """Say whether sums of products of a variable tell counts: a category, or as one."""
        variable = self._project.variable(name)
        return name in gridded or (variable is not None and variable.kind == "category")

    def _is_declared(self, by: Strata | None) -> bool:
        """Say whether what may be asked by these strata may be asked of the cohort's cells."""
        if by is None:
            return False
        if by not in self._passed:
            block = self._blocks.of(by)
            self._passed[by] = not np.isin(block[~self._inside], block[self._inside]).any()
        return self._passed[by]


def _grid(name: str, grid: Grid | Variable | None) -> str:
    if grid is None:
        return f"{name}=MINIMUM:MAXIMUM:BINS"
    return f"{name}={grid.minimum:g}:{grid.maximum:g}:{grid.bins}"


def _is_gridded(factor: Factor) -> bool:
    """Say whether a factor is a number's function that can tell parts of its range apart."""
    return not isinstance(factor, Value)


def _is_log(factor: Factor) -> bool:
    return isinstance(factor, Transformed) and factor.function == "log"


def _power(factor: Factor) -> int:
    if isinstance(factor, Power):
        return factor.power
    return factor.degree if isinstance(factor, Polynomial | Spline) else 1


def _knots(factor: Spline, variable: Variable) -> list[float]:
    """Return where a spline's pieces meet, its boundary among them."""
    boundary = factor.boundary or design.bounds(variable)
    return [boundary[0], *knots.of(factor, boundary, variable), boundary[1]]
