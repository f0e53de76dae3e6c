"""OMOP CDM 5.3 and 5.4: the columns of three tables that are read, and the rows they become.

Only columns named here are read. The source's own texts (``*_source_value``), numbers of visits,
providers and places are not.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

from node.deid.pseudonyms import Pseudonyms
from node.intake.clinical import (
    COMPARATOR,
    EARLIEST,
    MAX_NUMBER,
    OBSERVATIONS,
    Person,
    first_day,
    traits,
)
from node.intake.quality import QualityReport
from node.intake.terminologies import OMOP
from node.intake.units import ucum, without_great_age

if TYPE_CHECKING:
    import polars as pl

REQUIRED: Final = {
    "person": ("person_id", "gender_concept_id", "year_of_birth"),
    "condition_occurrence": ("person_id", "condition_concept_id", "condition_start_date"),
    "measurement": ("person_id", "measurement_concept_id", "measurement_date"),
}
"""The tables, and the columns without which a file is not one of them."""
OPTIONAL: Final = {
    "person": ("month_of_birth", "day_of_birth", "race_concept_id", "person_source_value"),
    "condition_occurrence": ("condition_start_datetime", "condition_end_date"),
    "measurement": (
        *("measurement_datetime", "value_as_number", "value_as_concept_id", "operator_concept_id"),
        *("unit_concept_id", "unit_source_value", "range_low", "range_high"),
    ),
}
_SEX = {"8507": "male", "8532": "female", "8521": "other"}
_ACTIVE = "http://terminology.hl7.org/CodeSystem/condition-clinical|active"
_RESOLVED = "http://terminology.hl7.org/CodeSystem/condition-clinical|resolved"
_OPERATORS = {"4171756": "<", "4171754": "<=", "4171755": ">=", "4172704": ">"}
_UNITS = {
    "8554": "%",
    "8582": "cm",
    "8588": "mm",
    "9529": "kg",
    "8504": "g",
    "8576": "mg",
    "9531": "kg/m2",
    "8840": "mg/dL",
    "8713": "g/dL",
    "8636": "g/L",
    "8751": "mg/L",
    "8837": "ug/dL",
    "8748": "ug/L",
    "8817": "ng/dL",
    "8842": "ng/mL",
    "8845": "pg/mL",
    "8753": "mmol/L",
    "8749": "umol/L",
    "8736": "nmol/L",
    "8729": "pmol/L",
    "9557": "meq/L",
    "8645": "U/L",
    "8923": "[IU]/L",
    "8985": "[IU]/mL",
    "8848": "10*3/uL",
    "8815": "10*6/uL",
    "8647": "/uL",
    "8583": "fL",
    "8564": "pg",
    "8876": "mm[Hg]",
    "8541": "/min",
    "8752": "mm/h",
    "586323": "Cel",
    "9289": "[degF]",
    "9448": "a",
    "8580": "mo",
    "8511": "wk",
    "8512": "d",
    "8505": "h",
    "8550": "min",
    "8519": "L",
    "8587": "mL",
}
"""Concepts of UCUM units that laboratories use most, for rows that don't write the unit too."""


def persons(
    frame: pl.DataFrame,
    pseudonyms: Pseudonyms,
    quality: QualityReport,
    known: dict[str, Person],
    seen: set[str],
    today: date,
    *,
    by_person_id: bool,
) -> list[tuple[Any, ...]]:
    """Add a batch of ``person`` to ``known`` (by person_id) and return rows of observations.

    The subject is ``person_source_value``, the hospital's number, unless ``by_person_id``.
    """
    rows: list[tuple[Any, ...]] = []
    for person in frame.iter_rows(named=True):
        number = None if by_person_id else person["person_source_value"]
        if person["person_id"] is None or person["person_id"] in known:
            quality.add("no-key" if person["person_id"] is None else "duplicate", "person")
            continue
        if number is None and not by_person_id:
            quality.add("no-medical-record-number", "person")
        pseudonym = pseudonyms.subject(number or person["person_id"])
        subject = Person(pseudonym, pseudonyms.days(pseudonym), today)
        known[person["person_id"]] = subject
        if pseudonym in seen:
            quality.add("subject-twice", "person")
            continue
        seen.add(pseudonym)
        birth, earliest = _birth(person)
        rule = "missing-required" if earliest is None else subject.refuses(earliest)
        if rule:
            rule = "age-above-89" if rule == "date-tells-age" else rule
            quality.add(rule, "person.year_of_birth")
        sex = _SEX.get(person["gender_concept_id"] or "", "unknown")
        if sex == "unknown":
            quality.add("missing-required", "person.gender_concept_id")
        race = person["race_concept_id"]
        known_race = f"{OMOP}|{race}" if race and race.isdecimal() and race != "0" else None
        rows += traits(subject, sex=sex, birth=birth, earliest_birth=earliest, race=known_race)
    return rows


def _birth(person: dict[str, str | None]) -> tuple[date | None, date | None]:
    """Return the day of birth, or the middle of its year, and the earliest day that it may be."""
    year, month, day = (
        int(text) if text and text.isdecimal() and len(text) < 5 else None
        for text in (person["year_of_birth"], person["month_of_birth"], person["day_of_birth"])
    )
    try:
        if month and day:
            birth = date(year or 0, month, day)
            return birth, birth
        return date(year or 0, 7, 2), date(year or 0, month or 1, 1)
    except ValueError:
        return None, None


def people(known: dict[str, Person]) -> pl.DataFrame:
    """Return what the other tables need of the persons, to join with on ``person_id``."""
    import polars as pl

    rows = [
        (key, person.pseudonym, person.days, first_day(person.last), person.last)
        for key, person in known.items()
    ]
    schema: dict[str, Any] = {
        "person_id": pl.String,
        "subject": pl.String,
        "days": pl.Int64,
        "first": pl.Date,
        "last": pl.Date,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def conditions(frame: pl.DataFrame, persons: pl.DataFrame, quality: QualityReport) -> pl.DataFrame:
    """Return a batch of ``condition_occurrence`` as observations: of its start, and of its end."""
    import polars as pl

    where = "condition_occurrence"
    frame = _of_people(_with_code(frame, "condition_concept_id", where, quality), persons, quality)
    start = _time(frame, "condition_start_date", "condition_start_datetime", where, quality)
    quality.add("no-time", where, start.null_count())
    end = _time(frame, "condition_end_date", None, where, quality, optional=True)
    has_end = end.is_not_null()
    first = pl.select(
        subject=frame["subject"],
        code=frame["code"],
        number=pl.lit(None, pl.Float64),
        value=pl.when(has_end).then(pl.lit(_ACTIVE)).otherwise(None),
        unit=pl.lit(""),
        time=start,
    )
    second = first.with_columns(value=pl.lit(_RESOLVED), time=end).filter(has_end)
    return pl.concat([first.select(OBSERVATIONS), second.select(OBSERVATIONS)])


def measurements(
    frame: pl.DataFrame, persons: pl.DataFrame, quality: QualityReport
) -> pl.DataFrame:
    """Return a batch of ``measurement`` as observations.

    A number whose unit isn't known is left out; so is one that is none. What then has no value
    says that it was measured.
    """
    import polars as pl

    where = "measurement"
    frame = _with_code(frame, "measurement_concept_id", where, quality)
    frame = _of_people(frame, persons, quality)
    time = _time(frame, "measurement_date", "measurement_datetime", where, quality)
    quality.add("no-time", where, time.null_count())
    number = _number(frame, "value_as_number", quality)
    unit = _units(frame)
    unknown = unit.is_null() & number.is_not_null()
    quality.add("unit-unknown", where, int(unknown.sum()))
    number = number.set(unknown, None)
    unit = unit.set(number.is_null(), "")
    low, high = _number(frame, "range_low", quality), _number(frame, "range_high", quality)
    outside = (number < low).fill_null(False) | (number > high).fill_null(False)
    quality.add("out-of-range", where, int(outside.sum()))
    capped = pl.Series(
        "number",
        [None if n is None else without_great_age(n, u) for n, u in zip(number, unit, strict=True)],
        dtype=pl.Float64,
    )
    quality.add("age-above-89", where, int((capped != number).fill_null(False).sum()))
    concept = _concept(frame["value_as_concept_id"])
    value = (OMOP + "|" + concept).set(number.is_not_null(), None)
    comparator = frame["operator_concept_id"].replace_strict(
        {key: COMPARATOR + sign for key, sign in _OPERATORS.items()},
        default=None,
        return_dtype=pl.String,
    )
    value = pl.select(pl.when(number.is_not_null()).then(comparator).otherwise(value)).to_series()
    quality.add("no-value", where, int((capped.is_null() & value.is_null()).sum()))
    return pl.select(
        subject=frame["subject"],
        code=frame["code"],
        number=capped,
        value=value,
        unit=unit,
        time=time,
    ).select(OBSERVATIONS)


def _concept(ids: pl.Series) -> pl.Series:
    """Return concept ids, null for 0 and for what is none."""
    return ids.str.extract(r"^([1-9]\d{0,9})(?:\.0)?$")


def _with_code(
    frame: pl.DataFrame, column: str, where: str, quality: QualityReport
) -> pl.DataFrame:
    import polars as pl

    frame = frame.with_columns(code=OMOP + "|" + _concept(frame[column]))
    quality.add("no-code", where, frame["code"].null_count())
    return frame.filter(pl.col("code").is_not_null())


def _of_people(frame: pl.DataFrame, persons: pl.DataFrame, quality: QualityReport) -> pl.DataFrame:
    import polars as pl

    joined = frame.join(persons, on="person_id", how="left", maintain_order="left")
    nobody = joined["subject"].is_null()
    keyless = joined["person_id"].is_null()
    quality.add("no-key", "person_id", int(keyless.sum()))
    quality.add("unknown-patient", "person_id", int((nobody & ~keyless).sum()))
    return joined.filter(pl.col("subject").is_not_null())


def _time(
    frame: pl.DataFrame,
    day_column: str,
    time_column: str | None,
    where: str,
    quality: QualityReport,
    *,
    optional: bool = False,
) -> pl.Series:
    """Return the moved times, null where there is none that may be kept, which is counted."""
    import polars as pl

    text = frame[day_column]
    day = text.str.slice(0, 10).str.strptime(pl.Date, "%Y-%m-%d", strict=False)
    day = day.fill_null(text.str.strptime(pl.Date, "%Y%m%d", strict=False))
    quality.add("date-unreadable", where, int((day.is_null() & text.is_not_null()).sum()))
    if not optional:
        quality.add("missing-required", f"{where}.{day_column}"[:64], text.null_count())
    implausible = ((day < EARLIEST) | (day > frame["last"] + timedelta(days=1))).fill_null(False)
    great = ((day < frame["first"]) & ~implausible).fill_null(False)
    quality.add("date-implausible", where, int(implausible.sum()))
    quality.add("date-tells-age", where, int(great.sum()))
    time = day.set(implausible | great, None).cast(pl.Datetime("us"))
    if time_column is not None:
        exact = frame[time_column].str.replace("T", " ", literal=True).str.slice(0, 19)
        clock = exact.str.strptime(pl.Datetime("us"), "%Y-%m-%d %H:%M:%S", strict=False)
        same = (clock.dt.date() == time.dt.date()).fill_null(False)
        time = pl.select(pl.when(same).then(clock).otherwise(time)).to_series()
    moved: pl.Series = time - pl.Series(frame["days"] * 86_400_000_000).cast(pl.Duration("us"))
    return moved


def _number(frame: pl.DataFrame, column: str, quality: QualityReport) -> pl.Series:
    import polars as pl

    text = frame[column]
    value = text.cast(pl.Float64, strict=False)
    value = value.set(~(value.is_finite() & (value.abs() < MAX_NUMBER)).fill_null(True), None)
    quality.add(
        "value-mistyped", f"measurement.{column}", int((value.is_null() & text.is_not_null()).sum())
    )
    return value


def _units(frame: pl.DataFrame) -> pl.Series:
    """Return UCUM units: of the text if it is one, else of the concept; null if it is none."""
    import polars as pl

    texts = frame["unit_source_value"]
    spelled = {text: ucum(text) for text in texts.unique() if text is not None}
    read = texts.replace_strict(spelled, default=None, return_dtype=pl.String)
    concept = _concept(frame["unit_concept_id"])
    meant = concept.replace_strict(_UNITS, default=None, return_dtype=pl.String)
    nothing = texts.is_null() & concept.is_null()
    unit = meant.fill_null(read)
    return unit.set(nothing, "")
