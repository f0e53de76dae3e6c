"""A model fitted over sites: tidy rows with intervals, a table, receipts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from contract import wire_pb2 as wire
from contract.documents import JOB_TYPE, Job, Model, Project, StatisticsWork
from contract.errors import SignatureError
from contract.receipts import Receipt
from contract.statistics import models
from contract.statistics.regression import Fit
from contract.trust import TrustedDocuments
from researcher.receipts import check_answered, verify_receipts
from researcher.statistics import Missing

EXPONENTIATED = {
    "logistic": "odds ratio",
    "poisson": "rate ratio",
    "gamma": "mean ratio",
    "cox": "hazard ratio",
}


@dataclass(frozen=True)
class Coefficient:
    """One coefficient: estimate, standard error, Wald interval and p.

    ``ratio`` and its bounds are exponentials, NaN for a linear model.
    """

    name: str
    estimate: float
    standard_error: float
    low: float
    high: float
    p: float
    ratio: float
    ratio_low: float
    ratio_high: float


@dataclass(frozen=True)
class ModelAnswer:
    """A fitted model, who is in it, and who isn't."""

    job: str
    model: Model
    fit: Fit
    columns: tuple[str, ...]
    answered: tuple[str, ...]
    missing: tuple[Missing, ...]
    receipts: tuple[Receipt, ...]

    @classmethod
    def from_result(
        cls, job: Job, project: Project, result: wire.JobResult, trusted: TrustedDocuments
    ) -> ModelAnswer:
        """Read a result, checking every receipt. ``SignatureError`` when one doesn't hold."""
        work = job.work
        assert isinstance(work, StatisticsWork) and work.fit is not None
        if result.status.job != job.seal(JOB_TYPE).digest:
            raise SignatureError("The coordinator sent the result of another job.")
        receipts = verify_receipts(result.receipts, trusted)
        check_answered(receipts, result.answered, result.status.job)
        columns = models.check(work, project)
        return cls(
            job=result.status.job,
            model=work.fit,
            fit=models.decode_fit(result.fit, work.fit, columns),
            columns=tuple(column.name for column in columns),
            answered=tuple(result.answered),
            missing=tuple(
                Missing(s.site, s.state, s.sentence)
                for s in result.status.sites
                if s.site not in result.answered
            ),
            receipts=tuple(receipts),
        )

    def rows(self, confidence: float = 0.95) -> Iterator[Coefficient]:
        """Yield the coefficients; intervals are Wald's.

        By Student's t where the dispersion is estimated (linear, gamma), else by the normal.
        """
        from scipy.stats import norm, t

        estimated = self.model.family in ("linear", "gamma")
        law = t(self.fit.residual_degrees) if estimated else norm()
        reach = float(law.ppf(0.5 + confidence / 2))
        errors = self.fit.standard_errors
        for name, estimate, error in zip(self.columns, self.fit.coefficients, errors, strict=True):
            low, high = estimate - reach * error, estimate + reach * error
            ratios = (estimate, low, high)
            if self.model.family in EXPONENTIATED:
                ratios = tuple(math.exp(min(value, 700.0)) for value in ratios)  # type: ignore[assignment]
            else:
                ratios = (math.nan,) * 3
            p = 2 * float(law.sf(abs(estimate / error))) if error > 0 else math.nan
            yield Coefficient(name, float(estimate), float(error), low, high, p, *ratios)

    def __getitem__(self, name: str) -> Coefficient:
        """Return a coefficient by its column's name; ``KeyError`` without one."""
        for row in self.rows():
            if row.name == name:
                return row
        raise KeyError(name)

    @property
    def notes(self) -> list[str]:
        """What a reader must know beside the figures, in sentences."""
        said = [f"{m.site} is not in the model ({m.sentence or m.state})." for m in self.missing]
        if not self.fit.converged:
            said.append(
                "The fit did not converge: a level or a combination may tell the outcome apart "
                "perfectly. Its figures are not estimates."
            )
        if self.model.family == "cox":
            said.append("Stratified by site: each has a baseline hazard of its own.")
        return said

    def table(self) -> Table:
        """Return the model as a table that fits 80 columns."""
        ratio = EXPONENTIATED.get(self.model.family)
        title = f"{self.model.family} model, {self.fit.n} subjects at {len(self.answered)} sites"
        table = Table(title=title)
        table.add_column("", overflow="fold")
        for column in ("estimate", "std. error", *([ratio] if ratio else []), "95 %", "p"):
            table.add_column(column, justify="right")
        for row in self.rows():
            low, high = (row.ratio_low, row.ratio_high) if ratio else (row.low, row.high)
            table.add_row(
                row.name,
                f"{row.estimate:.4g}",
                f"{row.standard_error:.3g}",
                *([f"{row.ratio:.3f}"] if ratio else []),
                f"{low:.4g} to {high:.4g}",
                "<0.001" if row.p < 0.001 else f"{row.p:.3f}",
            )
        return table

    def __str__(self) -> str:
        console = Console(width=80, markup=False)
        with console.capture() as captured:
            console.print(self.table())
            for note in self.notes:
                console.print(note, markup=False)
        return captured.get()

    def _repr_html_(self) -> str:
        console = Console(record=True, width=100, quiet=True, markup=False)
        console.print(self.table())
        for note in self.notes:
            console.print(note, markup=False)
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
