"""A result as a table of at most 80 columns."""

from __future__ import annotations

from tests.corpus.score import Result

_WIDTH = 80


def table(result: Result, failures: int) -> str:
    """Return every section and category, then the first failures of each."""
    lines = [f"{'':46}{'passed':>10}{'of':>10}{'%':>10}", "-" * _WIDTH]
    for section, categories in result.sections.items():
        total = sum(c.total for c in categories.values())
        passed = sum(c.passed for c in categories.values())
        lines.append(f"{section.upper():46}{passed:>10}{total:>10}{result.percent(section):>10.2f}")
        for name, category in sorted(categories.items()):
            counts = f"{category.passed:>10}{category.total:>10}{category.percent:>10.2f}"
            lines.append(f"  {name[:43]:44}{counts}")
    for section, categories in result.sections.items():
        for name, category in sorted(categories.items()):
            if category.failures and failures:
                lines.append(f"\n{section} / {name}: {len(category.failures)} failures")
                step = max(1, len(category.failures) // failures)
                lines += [f"  {line[:300]}" for line in category.failures[::step][:failures]]
    return "\n".join(lines)
