"""Sums that nobody sees the parts of, over the real link."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from contract import wire_pb2 as wire
from contract.errors import JobFailed
from contract.statistics.summaries import Moments, Shape
from node.config import create_home
from researcher import Consortium, count, crosstab, levels, mean, shape
from tests.end_to_end.federation import (
    POLICY,
    PROJECT,
    Federation,
    records,
    take_in,
    write_csv,
    write_schema,
)
from tests.node.homes import new_home

SMALL = 9
"""Subjects of a site that is too small to answer for itself: its policy wants ten."""

QUESTION = (
    mean("age"),
    levels("outcome"),
    levels("arm"),
    count("weight"),
    shape("age"),
    crosstab("outcome", "arm"),
)


def test_a_secure_sum_is_the_answer_that_is_got_in_clear(trio: Federation) -> None:
    with trio.connect() as ana:
        plain = ana.statistics(PROJECT, QUESTION)
        secure = ana.statistics(PROJECT, QUESTION, secure=True)
    assert secure.answered == trio.sites
    assert {r.site for r in secure.receipts} == set(trio.sites)
    for one, other in zip(plain.parts, secure.parts, strict=True):
        assert one.part.groups
        assert one.part.groups.keys() == other.part.groups.keys()
        for level, summary in one.part.groups.items():
            found = other.part.groups[level]
            if isinstance(summary, Moments):
                assert isinstance(found, Moments)
                assert found.n == summary.n
                assert found.mean == pytest.approx(summary.mean, rel=1e-12)
                assert found.m2 == pytest.approx(summary.m2, rel=1e-9)
            elif isinstance(summary, Shape):
                assert isinstance(found, Shape)
                assert found.n == summary.n
                assert found.skewness == pytest.approx(summary.skewness, rel=1e-9)
                assert found.kurtosis == pytest.approx(summary.kurtosis, rel=1e-9)
            else:
                assert found == summary


def test_no_sites_own_part_is_in_what_left(trio: Federation) -> None:
    from contract.statistics.forms import encode

    with trio.connect() as ana:
        plain = ana.statistics(PROJECT, [levels("outcome")])
        secure = ana.statistics(PROJECT, [levels("outcome")], secure=True)
    words: dict[str, bytes] = {}
    for site in trio.sites:
        entries = trio.answers(site, secure.job)
        assert [e.body["task"] for e in entries] == ["1", "2", "3", "4", "5"]
        vector = entries[2]
        assert vector.body["masked"] and vector.body["lane"] == "exact"
        payload = (trio.home(site) / "ledger" / "payloads" / vector.body["payload"]).read_bytes()
        words[site] = wire.SumReply.FromString(payload).words
        own = trio.answers(site, plain.job)[0].body["payload"]
        # The digest of what was masked is that of the answer in clear: the ledger has both.
        assert vector.body["masked"] == own
    assert encode([plain[0].part])
    for site, masked in words.items():
        numbers = [int.from_bytes(masked[i : i + 8], "little") for i in range(0, len(masked), 8)]
        assert sum(number < 1 << 48 for number in numbers) <= 1, (site, numbers)


def test_a_sum_over_fewer_sites_than_the_policies_want_is_refused(
    trio: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Consortium, "_fewest_of_a_sum", lambda *_: 0)
    with trio.connect() as ana, pytest.raises(JobFailed):
        ana.statistics(
            PROJECT, [mean("age")], sites=["north", "south"], minimum_sites=2, secure=True
        )


def test_the_command_sums_securely(trio: Federation) -> None:
    asked = ("statistics", "-p", PROJECT, "--mean", "age", "--secure")
    done = trio.as_researcher("ana", *asked)
    assert done.code == 0, done.errors
    assert "3 sites" in done.out


@pytest.mark.slow
def test_a_site_that_is_gone_before_the_sum_is_in_none(
    federations: object,
) -> None:
    make = federations
    federation = make("a", "b", "c", "d")  # type: ignore[operator]
    federation.settings["WARDGATE_COORDINATOR_JOBS__OFFLINE_GRACE_SECONDS"] = "1"
    federation.bring_up()
    with federation.connect() as ana:
        assert ana.statistics(PROJECT, [mean("age")], secure=True).answered == ("a", "b", "c", "d")
        federation.node("d").kill()
        answer = ana.statistics(PROJECT, [mean("age")], secure=True)
        plain = ana.statistics(PROJECT, [mean("age")])
    assert answer.answered == ("a", "b", "c")
    assert answer[0].moments().n == plain[0].moments().n
    assert [m.site for m in answer.missing] == ["d"]


@pytest.mark.slow
def test_nine_patients_are_in_a_sum_that_is_over_enough_in_all(
    federations: Callable[..., Federation],
) -> None:
    federation = federations("a", "b", "c")
    for number, site in enumerate(federation.sites):
        home = federation.homes[site] = federation.root / site
        place = create_home(new_home(home))
        place.policy.write_text(POLICY.replace("[training]", "small_sites = true\n[training]"))
        rows = records(site, number, few=False)
        table = write_csv(home.parent / f"{site}.csv", rows[:SMALL] if site == "c" else rows)
        take_in(home, table, write_schema(home.parent))
        how = ("--table", "trial", "--small-site", "--analysis", "main=arm,age", "--cells", "arm")
        done = federation.on(site, "release", "create", "trial", *how)
        assert done.code == 0, done.errors
        assert "in secure sums alone" in done.out
    federation.bring_up(apps=(), minimum=3)
    # Asked by itself, no site answers from such a release.
    mean_age = ("statistics", "-p", PROJECT, "--analysis", "main", "--mean", "age")
    federation.as_researcher("ana", *mean_age).fails(16, "no exact answer")
    done = federation.as_researcher("ana", *mean_age, "--small-sites", "--json")
    assert done.code == 0, done.errors
    found = {row["statistic"]: row for row in map(json.loads, done.out.splitlines())}
    ages = [
        row["age"]
        for number, site in enumerate(federation.sites)
        for row in records(site, number, few=False)[: SMALL if site == "c" else None]
    ]
    assert found["mean"]["n"] == len(ages)
    assert found["mean"]["value"] == pytest.approx(np.mean(ages), rel=1e-9)  # type: ignore[arg-type]
    # A sum without the small site would tell its part.
    mean_age += ("--small-sites", "--minimum-sites", "2", "--site", "a", "--site", "b")
    assert federation.as_researcher("ana", *mean_age).code != 0
