"""``make demo``: the whole way of a question, on four hospitals' real records."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from contract.errors import WardgateError
from contract.statistics.summaries import Counts, Moments
from contract.work import Scalar
from demo import data, evaluation
from demo.federation import AT_ONCE, PROJECT, RECIPE, Federation
from demo.processes import Processes, free_port, new_password
from node.gate.ledger import read_entries, verify
from node.gate.summary import summarise
from researcher import Consortium, StatisticsAnswer
from researcher.live import follow

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE / ".demo"
SITES = [hospital.name for hospital in data.HOSPITALS]
PUBLISHED = {"T": "12.0 %", "C": "12.8 %"}
TOLERANCE = 1e-9


class Demo:
    """The demo's seven steps, each with a line of progress."""

    def __init__(self, console: Console, once: bool) -> None:
        self.console = console
        self.once = once
        self.started = time.monotonic()
        self.federation = Federation(ROOT, Processes(ROOT))

    def say(self, text: str) -> None:
        """Print a line with the time since the start."""
        passed = time.monotonic() - self.started
        self.console.print(f"[dim]{passed:6.1f} s[/dim]  {text}", highlight=False)

    def step(self, number: int, title: str) -> None:
        """Print the headline of a step."""
        self.console.print()
        self.console.rule(f"[bold]{number}/7  {title}[/bold]", align="left")

    def run(self) -> None:
        """Run all steps."""
        if ROOT.exists():
            shutil.rmtree(ROOT)
        ROOT.mkdir(mode=0o700)
        try:
            data.prepare(data.CACHE, self.say)
            self.join()
            self.take_in()
            self.freeze()
            with Consortium.connect(self.federation.researcher) as consortium:
                self.wait_for_sites(consortium)
                self.ask(consortium)
                self.train(consortium)
            self.ledgers()
            self.consoles()
        finally:
            self.say("stopping")
            self.federation.processes.stop()

    # ---- the steps -----------------------------------------------------------------------------

    def join(self) -> None:
        """Found the consortium and let four hospitals and a researcher join."""
        self.step(1, "A coordinator, four hospitals, each with its own key and certificate")
        address = self.federation.found()
        self.say(f"coordinator serves on {address} (mutual TLS, one port)")
        self.federation.everywhere(self._joined(self.federation.join, "joined"))
        self.federation.join_researcher()
        self.say("researcher ana joined")

    def take_in(self) -> None:
        """Take each hospital's records in."""
        self.step(2, "Intake at each hospital: the trial's records and real DICOM files")
        self.federation.everywhere(
            self._joined(
                lambda site: self.federation.take_in(site, data.CACHE / site), "took its data in"
            )
        )
        for site, said in sorted(self.federation.intake.items()):
            self.console.print(f"[bold]{site}[/bold]\n{said}", highlight=False)
        self.console.print(
            "De-identified by the basic profile of PS3.15 with moved dates. The default profile, "
            "research,\nalso looks for text in pixels, and takes longer."
        )

    def _joined(self, step: Callable[[str], object], what: str) -> Callable[[str], None]:
        def done(site: str) -> None:
            step(site)
            self.say(f"{site} {what}")

        return done

    def freeze(self) -> None:
        """Freeze releases, agree on roster and project, bring the nodes up."""
        self.step(3, "A frozen release at each, and what the hospitals agree to")
        self.federation.everywhere(self.federation.freeze)
        for site, folder in self.federation.release_folders().items():
            self.say(f"{site}: release trial [bold]{folder.name[:16]}…[/bold]")
        self.federation.agree()
        self.say("four stewards signed the roster and the project, and approved the recipe")
        self.federation.everywhere(self._joined(self.federation.serve, "is linked"))

    def wait_for_sites(self, consortium: Consortium) -> None:
        """Wait until every hospital said what can be asked."""
        deadline = time.monotonic() + 120
        while len({r.site for r in consortium.releases(PROJECT)}) < len(SITES):
            if time.monotonic() > deadline:
                raise WardgateError("Not every hospital offers its release; see .demo/*.log.")
            time.sleep(0.2)

    def ask(self, consortium: Consortium) -> None:
        """Ask for table 1 by arm, and compare with what only the demo can know."""
        self.step(4, "The researcher asks: table 1 by arm, preterm birth by arm")
        before = time.perf_counter()
        answer = consortium.statistics(PROJECT, data.table_1_questions(), lane="exact")
        milliseconds = (time.perf_counter() - before) * 1000
        self.say(
            f"{len(answer.parts)} statistics from {len(answer.answered)} hospitals in "
            f"{milliseconds:.0f} ms, {len(answer.receipts)} receipts verified"
        )
        withheld = {p.statistic.variable: p.withheld for p in answer.parts if p.withheld}
        frame = evaluation.told_frame(self.federation.release_folders())
        truth = evaluation.pooled_table1(frame, withheld)
        self.console.print(table_1(answer, truth))
        for note in answer.notes:
            self.console.print(f"  {note}", highlight=False)
        self.console.print(
            "  published: preterm birth before 37 weeks 12.0 % (treatment) against 12.8 % "
            "(control), N Engl J Med 2006;355:1885",
            highlight=False,
        )
        self.fit(consortium)

    def fit(self, consortium: Consortium) -> None:
        """Fit the trial's main result, and compare with the pooled rows' and the published one."""
        before = time.perf_counter()
        model = consortium.model(
            PROJECT, data.HAZARD, "cox", analysis=data.LASTED, minimum_sites=len(SITES)
        )
        milliseconds = (time.perf_counter() - before) * 1000
        self.console.print()
        self.say(f"Cox regression across {len(model.answered)} hospitals in {milliseconds:.0f} ms")
        before = time.perf_counter()
        summed = consortium.model(
            PROJECT, data.HAZARD, "cox", analysis=data.LASTED, minimum_sites=len(SITES), secure=True
        )
        milliseconds = (time.perf_counter() - before) * 1000
        self.say(f"by secure sums, of which nobody sees a hospital's own, in {milliseconds:.0f} ms")
        found, hidden = (next(iter(one.ratios().values())) for one in (model, summed))
        pooled = evaluation.pooled_hazard(self.federation.release_folders())
        same = all(
            math.isclose(a, c, rel_tol=1e-6) and math.isclose(b, c, rel_tol=1e-6)
            for a, b, c in zip(found, hidden, pooled, strict=True)
        )
        table = Table("delivered before 37 weeks, treatment against control", "hazard ratio")
        table.add_row("federated, hospitals as strata", _interval(*found))
        table.add_row("the same by secure sums", _interval(*hidden))
        table.add_row("the pooled rows, the same way", _interval(*pooled))
        table.add_row("published (N Engl J Med 2006;355:1885)", data.PUBLISHED_HAZARD_RATIO)
        self.console.print(table)
        self.console.print(f"  federated and pooled are {'the same' if same else 'NOT THE SAME'}")
        for note in model.notes:
            self.console.print(f"  {note}", highlight=False)

    def train(self, consortium: Consortium) -> None:
        """Standardise by federated moments, train with Flower, compare."""
        self.step(5, "Training with Flower (FedAvg) across the four, standardised together")
        scaling = consortium.statistics(PROJECT, data.scaling_questions())
        self.say("means and standard deviations came from the federation, not from a pool")
        parameters: dict[str, Scalar] = {
            **data.training_parameters([p.part for p in scaling.parts]),
            "minimum-nodes": len(SITES),
        }
        before = time.perf_counter()
        handle = consortium.train(PROJECT, "tabular", parameters, seed=1, minimum_sites=len(SITES))
        follow(handle, self.console)
        result = handle.result()
        self.say(
            f"{len(result.answered)} hospitals, {len(result.rounds)} steps in "
            f"{time.perf_counter() - before:.1f} s, {len(result.receipts)} receipts verified"
        )
        frame = evaluation.pooled_frame(self.federation.release_folders())
        rows = evaluation.compare(result.arrays.items, frame, run_config(parameters))
        self.console.print(evaluation.table(rows))

    def ledgers(self) -> None:
        """Verify and sum up each hospital's ledger."""
        self.step(6, "What left each hospital: verified ledgers")
        table = Table("hospital", "what", "payloads", "bytes", "under the rules")
        for site in SITES:
            folder = self.federation.node(site) / "ledger"
            head = verify(folder)
            self.say(f"{site}: {head.sequence + 1} entries verified, head {head.hash[:16]}…")
            for (what, _), (count, size, rules) in summarise(read_entries(folder)).items():
                table.add_row(site, what, str(count), f"{size:,}", ", ".join(rules))
        self.console.print(table)

    def consoles(self) -> None:
        """Bring the pages up, and stay until Ctrl-C."""
        self.step(7, "The consoles")
        password = new_password()
        places = [("coordinator", "wardgate-coordinator", self.federation.coordinator)]
        shown = SITES[:1] if self.once else SITES  # of what stops at once, one shows all
        places += [(site, "wardgate-node", self.federation.node(site)) for site in shown]

        def bring_up(place: tuple[str, str, Path]) -> str:
            name, command, home = place
            port = free_port()
            self.federation.processes.run(
                command, "console", "password", "--stdin", "--home", home, stdin=password + "\n"
            )
            self.federation.processes.serve(
                f"{name}-console",
                [command, "console", "--port", str(port), "--home", home],
                "http://",
            )
            return f"{name}: http://127.0.0.1:{port}/"

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for line in pool.map(bring_up, places):
                self.say(line)
        self.say(f"password for all of them: {password}")
        if self.once:
            return
        self.console.print("\nEverything stays up until Ctrl-C.")
        while True:
            time.sleep(3600)


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def run_config(parameters: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the recipe's whole run config: its defaults, overridden by ``parameters``."""
    project = tomllib.loads((RECIPE / "pyproject.toml").read_text())
    return {**project["tool"]["flwr"]["app"]["config"], **parameters}


def table_1(answer: StatisticsAnswer, truth: dict[str, dict[str, Moments | Counts]]) -> Table:
    """Return federated figures beside the pooled truth, row by row of table 1."""
    table = Table(title="Table 1 by arm: federated beside pooled")
    for column in ("variable", "arm", "federated", "pooled truth", "same"):
        table.add_column(column, overflow="fold")
    for part in answer.parts:
        name = part.statistic.variable
        variable = answer.project.variable(name)
        assert variable is not None
        if part.part.withheld:
            table.add_row(name, "", "withheld by every hospital", "", "")
            continue
        for arm, found in part.part.groups.items():
            assert isinstance(found, Moments | Counts)
            pooled = truth[name][arm]
            shown, true = (_figure(s, variable.levels) for s in (found, pooled))
            table.add_row(name, arm, shown, true, "yes" if _same(found, pooled) else "NO")
    return table


def _figure(summary: Moments | Counts, levels: tuple[str, ...]) -> str:
    if isinstance(summary, Moments):
        return f"{summary.mean:.4g} (SD {summary.standard_deviation:.4g}), n {summary.n}"
    if len(levels) == 2:
        share = summary.counts[1] / summary.n
        return f"{levels[1]} {summary.counts[1]} of {summary.n} ({share:.1%})"
    return ", ".join(f"{lv} {c}" for lv, c in zip(levels, summary.counts, strict=True))


def _same(found: Moments | Counts, pooled: Moments | Counts) -> bool:
    if isinstance(found, Moments) and isinstance(pooled, Moments):
        return found.n == pooled.n and all(
            math.isclose(a, b, rel_tol=TOLERANCE)
            for a, b in ((found.mean, pooled.mean), (found.m2, pooled.m2))
        )
    return (
        isinstance(found, Counts) and isinstance(pooled, Counts) and (found.counts == pooled.counts)
    )


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop by itself at the end")
    once = parser.parse_args().once
    console = Console(width=None if sys.stdout.isatty() else 100)
    try:
        Demo(console, once).run()
    except KeyboardInterrupt:
        console.print("stopped")
    except WardgateError as error:
        console.print(f"demo: {error}", style="bold red", highlight=False)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
