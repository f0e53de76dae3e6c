"""The rules of trust, by number, and the attacks that they are there for.

After python-tuf's tests of its client: a whole consortium in memory makes real documents, and the
holder of ``TrustedDocuments`` is the one under attack.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.documents import JOB_TYPE, Roster
from contract.envelope import Envelope
from contract.errors import DocumentError, SignatureError, WardgateError
from contract.keys import SigningKey
from contract.receipts import Receipt
from contract.trust import TrustedDocuments
from tests.contract.world import NOW, SITES, YEAR, World, members, sign

WORLD = World()


@pytest.fixture
def world() -> World:
    return World()


# ---- rule 1: the first roster ------------------------------------------------------------------


def test_rule_1_the_first_roster_needs_its_own_threshold_and_the_own_steward(world: World) -> None:
    view = world.view("kentucky")
    assert view.update_roster(world.signed_roster(by=("kentucky", "minnesota")), NOW)
    assert view.roster is not None
    assert view.roster.signers == {world.stewards[n].id for n in ("kentucky", "minnesota")}


def test_rule_1_a_first_roster_without_the_own_steward_is_refused(world: World) -> None:
    view = world.view("kentucky")
    with pytest.raises(SignatureError, match="own steward"):
        view.update_roster(world.signed_roster(by=SITES[1:]), NOW)
    assert view.roster is None


def test_rule_1_the_own_steward_alone_is_below_the_threshold(world: World) -> None:
    with pytest.raises(SignatureError, match="1 valid signatures of the 2"):
        world.view("kentucky").update_roster(world.signed_roster(by=("kentucky",)), NOW)


def test_rule_1_a_first_roster_that_leaves_the_own_steward_out_is_refused(world: World) -> None:
    others = {name: key for name, key in world.stewards.items() if name != "kentucky"}
    roster = world.roster(stewards=members(others))
    with pytest.raises(SignatureError):
        world.view("kentucky").update_roster(sign(roster, *world.stewards.values()), NOW)


def test_rule_1_a_researcher_who_pinned_a_digest_believes_that_roster_only(world: World) -> None:
    good = world.signed_roster()
    other = world.signed_roster(expires_at=NOW + 2 * YEAR)
    view = TrustedDocuments(world.consortium, Envelope.parse(good).digest)
    with pytest.raises(SignatureError):
        view.update_roster(other, NOW)
    assert view.update_roster(good, NOW)


def test_rule_1_a_pinned_digest_does_not_make_up_for_signatures(world: World) -> None:
    weak = world.signed_roster(by=("kentucky",))
    view = TrustedDocuments(world.consortium, Envelope.parse(weak).digest)
    with pytest.raises(SignatureError):
        view.update_roster(weak, NOW)


def test_rule_1_an_empty_anchor_believes_nothing(world: World) -> None:
    with pytest.raises(SignatureError):
        TrustedDocuments(world.consortium, "").update_roster(world.signed_roster(), NOW)


# ---- rule 2: later rosters ---------------------------------------------------------------------


def test_rule_2_a_threshold_of_the_former_stewards_passes_the_roster_on(world: World) -> None:
    view = world.settled()
    assert view.update_roster(world.signed_roster(2, by=("minnesota", "new-york")), NOW)
    assert view.current_roster(NOW).version == 2


def test_rule_2_new_stewards_alone_cannot_lower_the_threshold(world: World) -> None:
    view = world.settled()
    mallory = {"mallory": SigningKey.generate()}
    coup = world.roster(2, stewards=members(mallory), threshold=1)
    for signers in (mallory.values(), (mallory["mallory"], world.stewards["kentucky"])):
        with pytest.raises(SignatureError):
            view.update_roster(sign(coup, *signers), NOW)
    assert view.current_roster(NOW).version == 1


def test_rule_2_former_stewards_alone_cannot_name_a_roster_its_own_stewards_did_not_sign(
    world: World,
) -> None:
    view = world.settled()
    new = {name: SigningKey.generate() for name in ("one", "two")}
    roster = world.roster(2, stewards=members(new))
    with pytest.raises(SignatureError):
        view.update_roster(sign(roster, *world.stewards.values()), NOW)
    assert view.update_roster(sign(roster, *world.stewards.values(), *new.values()), NOW)


def test_rule_2_a_steward_who_left_counts_for_the_change_and_no_longer_after_it(
    world: World,
) -> None:
    view = world.settled()
    left = {name: key for name, key in world.stewards.items() if name != "new-york"}
    roster = world.roster(2, stewards=members(left))
    keys = [world.stewards[n] for n in ("kentucky", "minnesota", "new-york")]
    assert view.update_roster(sign(roster, *keys), NOW)
    third = world.roster(3, stewards=members(left))
    with pytest.raises(SignatureError):
        view.update_roster(sign(third, world.stewards["kentucky"], world.stewards["new-york"]), NOW)


def test_rule_2_one_steward_cannot_reach_a_threshold_by_two_names_for_one_key(
    world: World,
) -> None:
    key = world.stewards["kentucky"]
    twice = (*members({"kentucky": key}), *members({"minnesota": key}))
    with pytest.raises(ValueError, match="a key occurs twice"):
        world.roster(stewards=twice)


# ---- rule 3: same consortium, higher version ---------------------------------------------------


def test_rule_3_the_same_roster_again_is_no_change(world: World) -> None:
    view = world.view()
    first = world.signed_roster(by=("kentucky", "minnesota"))
    assert view.update_roster(first, NOW)
    assert not view.update_roster(first, NOW)
    resigned = Envelope.parse(first).sign(world.stewards["new-york"]).to_bytes()
    assert not view.update_roster(resigned, NOW)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_rule_3_an_older_roster_is_never_believed_again(world: World, version: int) -> None:
    view = world.settled()
    for number in (2, 3):
        view.update_roster(world.signed_roster(number), NOW)
    # Version 3 here is another roster under the same number.
    old = world.signed_roster(version, expires_at=NOW + 3 * YEAR)
    with pytest.raises(DocumentError, match="not newer"):
        view.update_roster(old, NOW)
    assert view.current_roster(NOW).version == 3


def test_rule_3_a_version_far_ahead_needs_the_same_signatures_as_the_next(world: World) -> None:
    view = world.settled()
    with pytest.raises(SignatureError):
        view.update_roster(world.signed_roster(2**62, by=("kentucky",)), NOW)
    assert view.update_roster(world.signed_roster(2**62), NOW)
    assert view.update_roster(world.signed_roster(2**62 + 1), NOW)


def test_rule_3_another_consortiums_documents_are_not_ours(world: World) -> None:
    view = world.settled()
    other: dict[str, Any] = {"consortium": "stroke"}
    for offer in (
        lambda: view.update_roster(world.signed_roster(2, **other), NOW),
        lambda: view.update_project(world.signed_project(2, **other), NOW),
        lambda: view.job(world.signed_job(**other), NOW),
    ):
        with pytest.raises(DocumentError, match="another consortium"):
            offer()
    with pytest.raises(DocumentError, match="another consortium"):
        world.view().update_roster(world.signed_roster(**other), NOW)


# ---- rule 4: expiry ----------------------------------------------------------------------------


def test_rule_4_an_expired_roster_fails_closed(world: World) -> None:
    view = world.settled()
    job = world.signed_job(expires_at=NOW + timedelta(days=30))
    later = NOW + YEAR
    assert view.job(job, NOW)
    for use in (
        lambda: view.current_roster(later),
        lambda: view.job(job, later),
        lambda: view.update_project(world.signed_project(2), later),
    ):
        with pytest.raises(DocumentError, match="roster expired"):
            use()


def test_rule_4_the_roster_holds_to_the_last_moment_and_not_at_its_end(world: World) -> None:
    view = world.settled()
    assert view.current_roster(NOW + YEAR - timedelta(microseconds=1))
    with pytest.raises(DocumentError):
        view.current_roster(NOW + YEAR)


def test_rule_4_an_expired_roster_still_says_who_may_sign_the_next(world: World) -> None:
    view, later = world.settled(), NOW + 2 * YEAR
    mallory = SigningKey.generate()
    coup = world.roster(2, stewards=members({"m": mallory}), threshold=1, expires_at=NOW + 3 * YEAR)
    with pytest.raises(SignatureError):
        view.update_roster(sign(coup, mallory, world.stewards["kentucky"]), later)
    assert view.update_roster(world.signed_roster(2, expires_at=NOW + 3 * YEAR), later)
    assert view.current_roster(later).version == 2


def test_rule_4_a_restart_after_the_expiry_does_not_open_the_way_for_an_older_roster(
    world: World,
) -> None:
    # Version 1 lives longer than version 2, which had thrown out mississippi's researcher.
    long_lived = world.signed_roster(1, expires_at=NOW + 3 * YEAR)
    newer = world.signed_roster(2, researchers=members({"ana": world.researchers["ana"]}))
    later = NOW + 2 * YEAR
    restarted = world.view()
    assert restarted.update_roster(newer, later)
    with pytest.raises(DocumentError, match="not newer"):
        restarted.update_roster(long_lived, later)
    with pytest.raises(DocumentError, match="expired"):
        restarted.current_roster(later)


def test_rule_4_a_roster_of_the_future_is_not_believed_yet(world: World) -> None:
    view = world.settled()
    early = world.signed_roster(2, issued_at=NOW + timedelta(seconds=1))
    with pytest.raises(DocumentError, match="not valid yet"):
        view.update_roster(early, NOW)
    assert view.update_roster(early, NOW + timedelta(seconds=1))


def test_without_any_roster_nothing_is_believed(world: World) -> None:
    view = world.view()
    for use in (
        lambda: view.current_roster(NOW),
        lambda: view.update_project(world.signed_project(), NOW),
        lambda: view.job(world.signed_job(), NOW),
    ):
        with pytest.raises(DocumentError, match="No roster"):
            use()


# ---- rule 5: projects --------------------------------------------------------------------------


def test_rule_5_a_project_needs_a_threshold_of_the_current_stewards(world: World) -> None:
    view = world.settled()
    with pytest.raises(SignatureError):
        view.update_project(world.signed_project(2, by=("kentucky",)), NOW)
    assert view.update_project(world.signed_project(2, by=SITES[:2]), NOW)


def test_rule_5_a_project_signed_by_former_stewards_is_not_mixed_into_a_newer_roster(
    world: World,
) -> None:
    view = world.view()
    view.update_roster(world.signed_roster(), NOW)
    old = world.signed_project(by=("mississippi", "new-york"))
    stay = {name: world.stewards[name] for name in ("kentucky", "minnesota")}
    view.update_project(old, NOW)
    changed = world.signed_roster(2, stewards=members(stay))
    assert view.update_roster(changed, NOW)
    assert view.projects == {}
    with pytest.raises(SignatureError):
        view.update_project(old, NOW)
    with pytest.raises(DocumentError, match="not known"):
        view.job(world.signed_job(), NOW)


def test_rule_5_a_project_stands_while_enough_of_its_signers_are_still_stewards(
    world: World,
) -> None:
    view = world.settled()
    stay = {name: world.stewards[name] for name in ("kentucky", "minnesota")}
    assert view.update_roster(world.signed_roster(2, stewards=members(stay)), NOW)
    assert set(view.projects) == {"birth"}


@pytest.mark.parametrize("role", ["sites", "researchers"])
def test_rule_5_a_project_names_members_of_the_roster_only(world: World, role: str) -> None:
    view = world.settled()
    names = (*SITES, "mallory") if role == "sites" else ("ana", "mallory")
    with pytest.raises(DocumentError, match="not on the roster: mallory"):
        view.update_project(world.signed_project(2, **{role: names}), NOW)


def test_rule_5_a_member_who_leaves_the_roster_takes_the_projects_with_them(world: World) -> None:
    view = world.settled()
    stay = {name: key for name, key in world.sites.items() if name != "new-york"}
    assert view.update_roster(world.signed_roster(2, sites=members(stay)), NOW)
    assert view.projects == {}


def test_rule_5_an_older_project_is_never_believed_again(world: World) -> None:
    view = world.settled()
    view.update_project(world.signed_project(3), NOW)
    for version in (1, 2, 3):
        with pytest.raises(DocumentError, match="not newer"):
            view.update_project(world.signed_project(version, purpose="else"), NOW)
    assert view.projects["birth"].document.version == 3


def test_rule_5_a_change_of_stewards_does_not_open_the_way_for_an_older_project(
    world: World,
) -> None:
    view = world.settled()
    # The newer version was signed by the two who go, the older one by all.
    view.update_project(world.signed_project(2, by=("mississippi", "new-york")), NOW)
    stay = {name: world.stewards[name] for name in ("kentucky", "minnesota")}
    view.update_roster(world.signed_roster(2, stewards=members(stay)), NOW)
    with pytest.raises(DocumentError, match="not newer"):
        view.update_project(world.signed_project(1), NOW)
    assert view.update_project(world.signed_project(3), NOW)


def test_rule_5_a_project_forgotten_with_its_signers_may_come_back_signed_anew(
    world: World,
) -> None:
    view = world.view()
    view.update_roster(world.signed_roster(), NOW)
    project = world.project()
    view.update_project(sign(project, world.stewards["new-york"], world.stewards["kentucky"]), NOW)
    stay = {name: world.stewards[name] for name in ("kentucky", "minnesota")}
    view.update_roster(world.signed_roster(2, stewards=members(stay)), NOW)
    assert view.projects == {}
    assert view.update_project(sign(project, *stay.values()), NOW)


def test_rule_5_the_same_project_again_is_no_change(world: World) -> None:
    view = world.view()
    view.update_roster(world.signed_roster(), NOW)
    data = world.signed_project()
    assert view.update_project(data, NOW)
    assert not view.update_project(data, NOW)


@pytest.mark.parametrize("days", [-2, 400])
def test_rule_5_a_project_out_of_its_time_is_refused(world: World, days: int) -> None:
    view, moment = world.view(), NOW + timedelta(days=days)
    view.update_roster(world.signed_roster(issued_at=NOW - YEAR, expires_at=NOW + 9 * YEAR), moment)
    with pytest.raises(DocumentError, match=r"not valid yet|expired"):
        view.update_project(world.signed_project(), moment)


# ---- rule 6: jobs ------------------------------------------------------------------------------


def test_rule_6_a_job_of_a_researcher_of_the_project_is_believed(world: World) -> None:
    believed = world.settled().job(world.signed_job(), NOW)
    assert believed.document.researcher == "ana"
    assert believed.signers == {world.researchers["ana"].id}


def test_rule_6_a_researcher_who_is_not_in_the_project_is_refused(world: World) -> None:
    with pytest.raises(DocumentError, match="not in project"):
        world.settled().job(world.signed_job(researcher="ben"), NOW)


def test_rule_6_a_researcher_cannot_sign_under_anothers_name(world: World) -> None:
    job = world.job(researcher="ana")
    with pytest.raises(SignatureError, match="not signed by the researcher that it names"):
        world.settled().job(sign(job, world.researchers["ben"]), NOW)


def test_rule_6_a_second_signature_neither_helps_nor_harms(world: World) -> None:
    view, job = world.settled(), world.job()
    both = sign(job, world.researchers["ben"], world.researchers["ana"], SigningKey.generate())
    assert view.job(both, NOW).document == job
    bens = world.job(researcher="ben")
    with pytest.raises(DocumentError, match="not in project"):
        view.job(sign(bens, world.researchers["ben"], world.researchers["ana"]), NOW)


def test_rule_6_a_researcher_removed_from_the_roster_is_refused_at_once(world: World) -> None:
    view = world.settled()
    job = world.signed_job()
    assert view.job(job, NOW)
    stay = {"ben": world.researchers["ben"]}
    view.update_roster(world.signed_roster(2, researchers=members(stay)), NOW)
    view.update_project(world.signed_project(2, researchers=("ben",)), NOW)
    with pytest.raises(SignatureError):
        view.job(job, NOW)


def test_rule_6_a_researchers_new_key_replaces_the_old_one(world: World) -> None:
    view = world.settled()
    new = SigningKey.generate()
    researchers = members(world.researchers | {"ana": new})
    view.update_roster(world.signed_roster(2, researchers=researchers), NOW)
    with pytest.raises(SignatureError):
        view.job(world.signed_job(), NOW)
    assert view.job(sign(world.job(), new), NOW)


@pytest.mark.parametrize("version", [1, 3])
def test_rule_6_a_job_names_the_version_that_is_in_force(world: World, version: int) -> None:
    view = world.settled()
    view.update_project(world.signed_project(2), NOW)
    with pytest.raises(DocumentError, match="version 2 is in force"):
        view.job(world.signed_job(project_version=version), NOW)
    assert view.job(world.signed_job(project_version=2), NOW)


def test_rule_6_a_job_is_believed_within_its_time_only(world: World) -> None:
    view, job = world.settled(), world.signed_job()
    for moment in (NOW - timedelta(hours=1), NOW + timedelta(hours=1), NOW + timedelta(days=2)):
        with pytest.raises(DocumentError, match="job"):
            view.job(job, moment)


def test_rule_6_an_expired_project_carries_no_job(world: World) -> None:
    view = world.settled()
    late = NOW + YEAR / 2
    job = world.signed_job(issued_at=late, expires_at=late + timedelta(hours=1))
    with pytest.raises(DocumentError, match="project expired"):
        view.job(job, late)


def test_a_replayed_job_is_the_same_job_by_digest_however_it_is_signed(world: World) -> None:
    view = world.settled()
    first = world.signed_job()
    again = Envelope.parse(first).sign(world.researchers["ben"]).to_bytes()
    assert first != again
    assert view.job(first, NOW).digest == view.job(again, NOW).digest


# ---- what a coordinator, who owns the network, could try ---------------------------------------


def test_a_coordinator_cannot_mint_a_site_a_researcher_or_a_steward(world: World) -> None:
    view = world.settled()
    mallory = {"mallory": SigningKey.generate()}
    for changes in (
        {"sites": members(world.sites | mallory)},
        {"researchers": members(world.researchers | mallory)},
        {"stewards": members(world.stewards | mallory)},
        {"threshold": 1},
    ):
        roster = world.roster(2, **changes)
        for keys in (
            [world.coordinator],
            [world.coordinator, mallory["mallory"]],
            [world.coordinator, *world.sites.values(), *world.researchers.values()],
            [mallory["mallory"], world.stewards["kentucky"]][: 2 - ("stewards" in changes)],
        ):
            with pytest.raises(SignatureError):
                view.update_roster(sign(roster, *keys), NOW)
    assert view.current_roster(NOW) == world.roster()


def test_a_coordinator_cannot_move_signatures_to_a_document_of_its_own(world: World) -> None:
    view = world.settled()
    true = Envelope.parse(world.signed_roster(2))
    forged = world.roster(2, threshold=1).seal(true.payloadType).with_signatures(true.signatures)
    with pytest.raises(SignatureError):
        view.update_roster(forged.to_bytes(), NOW)


def test_signatures_under_one_kind_of_document_are_worth_nothing_under_another(
    world: World,
) -> None:
    view = world.settled()
    roster, project = world.signed_roster(2), world.signed_project(2)
    job = world.signed_job()
    receipt = world.receipt("kentucky", "00" * 32)
    for use, offers in (
        (view.update_roster, (project, job, receipt)),
        (view.update_project, (roster, job, receipt)),
        (view.job, (roster, project, receipt)),
    ):
        for offer in offers:
            with pytest.raises((DocumentError, SignatureError)):
                use(offer, NOW)
    for offer in (roster, project, job):
        with pytest.raises((DocumentError, SignatureError)):
            Receipt.verify(offer, world.roster())


@pytest.mark.parametrize("role", ["stewards", "sites"])
def test_a_job_signed_with_a_stewards_or_sites_key_is_no_researchers(
    world: World, role: str
) -> None:
    keys = getattr(world, role)
    for key in keys.values():
        with pytest.raises(SignatureError):
            world.settled().job(sign(world.job(), key), NOW)


def test_a_believed_view_is_left_as_it_was_by_whatever_is_refused(world: World) -> None:
    view = world.settled()
    before = (view.roster, dict(view.projects), dict(view.newest))
    attempts = [
        (view.update_roster, world.signed_roster(2, by=("kentucky",))),
        (view.update_roster, world.signed_roster(1, threshold=1)),
        (view.update_roster, b"{}"),
        (view.update_project, world.signed_project(2, by=())),
        (view.update_project, world.signed_project(2, sites=("mallory",))),
        (view.update_project, world.signed_project(1, purpose="else")),
    ]
    for use, data in attempts:
        with pytest.raises(WardgateError):
            use(data, NOW)
    assert (view.roster, view.projects, view.newest) == before


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.sets(st.sampled_from(SITES)), st.booleans()), max_size=8
    )
)
def test_whatever_comes_in_whatever_order_versions_only_rise_and_thresholds_hold(
    offers: list[tuple[int, set[str], bool]],
) -> None:
    view = WORLD.view()
    last = 0
    for version, signers, is_roster in offers:
        signed = WORLD.signed_roster if is_roster else WORLD.signed_project
        use = view.update_roster if is_roster else view.update_project
        with suppress(SignatureError, DocumentError):
            use(signed(version, by=sorted(signers)), NOW)
        if view.roster is not None:
            assert view.roster.document.version >= last
            last = view.roster.document.version
            assert len(view.roster.signers) >= WORLD.threshold
        for believed in view.projects.values():
            assert len(believed.signers) >= WORLD.threshold


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_the_trees_errors(data: bytes) -> None:
    view = WORLD.settled()
    for use in (view.update_roster, view.update_project, view.job):
        with pytest.raises(WardgateError):
            use(data, NOW)


@given(st.binary(max_size=300))
def test_no_signed_nonsense_raises_anything_but_the_trees_errors(payload: bytes) -> None:
    view = WORLD.settled()
    envelope = Envelope.seal(JOB_TYPE, payload).sign(WORLD.researchers["ana"])
    with pytest.raises(WardgateError):
        view.job(envelope.to_bytes(), NOW)


# ---- receipts ----------------------------------------------------------------------------------


def test_a_receipt_is_its_sites_own(world: World) -> None:
    roster = world.roster()
    data = world.receipt("kentucky", "00" * 32)
    assert Receipt.verify(data, roster).site == "kentucky"
    assert Receipt.head_of(data) == (4, b"\x01" * 32)


@pytest.mark.parametrize("signer", ["minnesota", "steward", "coordinator", "nobody"])
def test_a_receipt_by_anybody_else_is_refused(world: World, signer: str) -> None:
    good = Envelope.parse(world.receipt("kentucky", "00" * 32))
    keys = {
        "minnesota": world.sites["minnesota"],
        "steward": world.stewards["kentucky"],
        "coordinator": world.coordinator,
    }
    forged = good.model_copy(update={"signatures": ()})
    if signer in keys:
        forged = forged.sign(keys[signer])
    with pytest.raises(SignatureError):
        Receipt.verify(forged.to_bytes(), world.roster())


def test_a_receipt_of_a_site_that_left_the_roster_is_refused(world: World) -> None:
    stay = {name: key for name, key in world.sites.items() if name != "kentucky"}
    roster: Roster = world.roster(2, sites=members(stay))
    with pytest.raises(SignatureError):
        Receipt.verify(world.receipt("kentucky", "00" * 32), roster)


# ---- rule 7: documents are of one time -----------------------------------------------------------


def test_rule_7_a_project_made_under_a_newer_roster_stops_everything_until_that_comes(
    world: World,
) -> None:
    view = world.settled()
    view.job(world.signed_job(), NOW)
    newer = world.signed_project(2, roster_version=2)
    with pytest.raises(DocumentError, match="version 2"):
        view.update_project(newer, NOW)
    for question in (view.current_roster, lambda now: view.job(world.signed_job(), now)):
        with pytest.raises(DocumentError, match="kept from this holder"):
            question(NOW)
    assert view.update_roster(world.signed_roster(2), NOW)
    assert view.update_project(newer, NOW)
    assert view.job(world.signed_job(project_version=2), NOW)


def test_rule_7_a_project_that_too_few_signed_names_no_roster(world: World) -> None:
    view = world.settled()
    for signers in (("kentucky",), ()):
        with pytest.raises(SignatureError):
            view.update_project(world.signed_project(2, by=signers, roster_version=99), NOW)
    assert view.job(world.signed_job(), NOW)


def test_rule_7_a_project_older_than_the_roster_says_is_not_believed(world: World) -> None:
    view = world.view()
    assert view.update_roster(world.signed_roster(2, projects={"birth": 2}), NOW)
    with pytest.raises(DocumentError, match="older than version 2"):
        view.update_project(world.signed_project(1), NOW)
    assert view.update_project(world.signed_project(2), NOW)


def test_rule_7_a_roster_ends_the_projects_that_it_has_newer_versions_of(world: World) -> None:
    view = world.settled()
    assert view.update_roster(world.signed_roster(2, projects={"birth": 2}), NOW)
    assert view.projects == {}


def test_rule_7_a_job_of_one_who_knows_a_newer_roster_is_not_believed_and_stops_no_other(
    world: World,
) -> None:
    view = world.settled()
    with pytest.raises(DocumentError, match="version 2; version 1"):
        view.job(world.signed_job(roster_version=2), NOW)
    assert view.job(world.signed_job(roster_version=1), NOW)
    assert view.update_roster(world.signed_roster(2), NOW)
    assert view.job(world.signed_job(roster_version=2), NOW)
