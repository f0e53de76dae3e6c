"""Write an invented stroke table, so that the tutorials can be followed without real patients."""

from __future__ import annotations

import csv
import math
import random
import sys
from pathlib import Path

HEADER = ["patient", "age", "sex", "nihss", "arm", "good_outcome", "days", "died"]
FOLLOWED_DAYS = 365


def rows(hospital: str, number: int) -> list[list[object]]:
    """Return ``number`` invented patients of a hospital; the same name gives the same rows."""
    chance = random.Random(hospital)  # noqa: S311 (invented data)
    found: list[list[object]] = []
    for i in range(number):
        age = min(95, max(20, round(chance.gauss(70, 12))))
        nihss = min(42, max(0, round(chance.gauss(9, 5))))
        arm = chance.choice(["treatment", "control"])
        risk = 0.9 - 0.004 * age - 0.03 * nihss + (0.08 if arm == "treatment" else 0.0)
        good = "yes" if chance.random() < risk else "no"
        sex = chance.choice("FM")
        days = math.ceil(chance.expovariate(math.exp(0.05 * (age - 70) + 0.1 * nihss - 8.0)))
        died = "yes" if days <= FOLLOWED_DAYS else "no"
        days = min(days, FOLLOWED_DAYS)
        found.append([f"{hospital}-{i:05d}", age, sex, nihss, arm, good, days, died])
    return found


def main() -> None:
    """Write ``HOSPITAL NUMBER FILE``, as named on the command line."""
    hospital, number, file = sys.argv[1:]
    with Path(file).open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(HEADER)
        writer.writerows(rows(hospital, int(number)))


if __name__ == "__main__":
    main()
