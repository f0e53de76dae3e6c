"""Run one peer over a folder, under the peer's own Python: ``peer_run.py NAME IN OUT WAY``.

WAY is plain (one after the other), threads or processes (two of them). The last line of the output
is a JSON object: files, failed, seconds. Only the peer's packages can be imported here.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

Act = Callable[[Path, Path], None]


def dicom_anonymizer() -> Act:
    from dicomanonymizer import anonymize_dicom_file

    return lambda source, target: anonymize_dicom_file(str(source), str(target))


def deid() -> Act:
    from deid.config import DeidRecipe
    from deid.dicom import replace_identifiers

    recipe = DeidRecipe()

    def act(source: Path, target: Path) -> None:
        replace_identifiers(
            [str(source)], deid=recipe, save=True, overwrite=True, output_folder=str(target.parent)
        )

    return act


def dicognito() -> Act:
    import pydicom
    from dicognito.anonymizer import Anonymizer

    anonymizer = Anonymizer()

    def act(source: Path, target: Path) -> None:
        with pydicom.dcmread(source, force=True) as dataset:
            anonymizer.anonymize(dataset)
            dataset.save_as(target, enforce_file_format=False)

    return act


def idiscore() -> Act:
    import pydicom
    from idiscore.defaults import create_default_core

    core = create_default_core()

    def act(source: Path, target: Path) -> None:
        dataset = core.deidentify(pydicom.dcmread(source, force=True))
        dataset.save_as(target, enforce_file_format=False)

    return act


def dcmanon() -> Act:
    from dcmanon import Anonymizer

    anonymizer = Anonymizer()

    def act(source: Path, target: Path) -> None:
        target.write_bytes(anonymizer.anonymize(str(source)))

    return act


TOOLS: dict[str, Callable[[], Act]] = {
    "dicom-anonymizer": dicom_anonymizer,
    "deid": deid,
    "dicognito": dicognito,
    "idiscore": idiscore,
    "dcmanon": dcmanon,
}
_acts: dict[str, Act] = {}


def one(name: str, pair: tuple[str, str]) -> bool:
    """De-identify one file; say whether it worked."""
    if name not in _acts:
        _acts[name] = TOOLS[name]()
    try:
        _acts[name](Path(pair[0]), Path(pair[1]))
    except Exception:
        return False
    return Path(pair[1]).is_file()


def main(name: str, source: Path, target: Path, way: str) -> dict[str, Any]:
    """Run and count."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    pairs = []
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        into = target / path.relative_to(source)
        into.parent.mkdir(parents=True, exist_ok=True)
        pairs.append((str(path), str(into)))
    act = partial(one, name)
    warm = (pairs[0][0], str(target / "warm"))
    act(warm)
    if way == "plain":
        start = time.perf_counter()
        worked = [act(pair) for pair in pairs]
    else:
        pools: dict[str, Any] = {"threads": ThreadPoolExecutor, "processes": ProcessPoolExecutor}
        with pools[way](2) as pool:
            list(pool.map(act, [warm] * 8))
            chunk = {"chunksize": 8} if way == "processes" else {}
            start = time.perf_counter()
            worked = list(pool.map(act, pairs, **chunk))
    seconds = time.perf_counter() - start
    (target / "warm").unlink(missing_ok=True)
    return {"files": len(pairs), "failed": worked.count(False), "seconds": seconds}


if __name__ == "__main__":
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        result = main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    print(json.dumps(result))
