"""What a provider's answers say about the installation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import Kind
from orchestrator.health import AFFECTED, Outcome, ProviderHealth, after

FRESH = ProviderHealth("osl")
PROBE_MS = 60_000
NOW = 1_763_805_600_000


def outcome(onboarding: str, failure: Kind | None, at: int = NOW, skew_ms: int | None = None) -> Outcome:
    return Outcome("osl", onboarding, at, failure, "" if failure is None else "401", skew_ms)


def after_all(health: ProviderHealth, *outcomes: Outcome) -> ProviderHealth:
    for one in outcomes:
        health = after(health, one, PROBE_MS)
    return health


def unauthorized(*onboardings: str, at: int = NOW) -> list[Outcome]:
    return [outcome(onboarding, Kind.UNAUTHORIZED, at) for onboarding in onboardings]


UNHEALTHY = after_all(FRESH, *unauthorized("onb_1", "onb_2", "onb_3"))


def test_a_provider_begins_healthy() -> None:
    assert FRESH.unhealthy_since is None
    assert FRESH.next_probe_at is None


def test_three_onboardings_make_a_provider_unhealthy() -> None:
    assert AFFECTED == 3
    assert UNHEALTHY.unhealthy_since == NOW
    assert UNHEALTHY.unauthorized_ids == ("onb_1", "onb_2", "onb_3")


def test_two_onboardings_do_not_make_a_provider_unhealthy() -> None:
    assert after_all(FRESH, *unauthorized("onb_1", "onb_2")).unhealthy_since is None


def test_one_onboarding_never_makes_a_provider_unhealthy() -> None:
    health = after_all(FRESH, *unauthorized(*["onb_1"] * 10))

    assert health.unauthorized_ids == ("onb_1",)
    assert health.unhealthy_since is None


@pytest.mark.parametrize("answer", [None, Kind.REFUSED])
def test_an_answer_that_lets_in_between_begins_the_count_anew(answer: Kind | None) -> None:
    health = after_all(FRESH, *unauthorized("onb_1", "onb_2"), outcome("onb_9", answer), *unauthorized("onb_3"))

    assert health.unauthorized_ids == ("onb_3",)
    assert health.unhealthy_since is None


def test_a_transient_failure_between_neither_heals_nor_harms() -> None:
    health = after_all(FRESH, *unauthorized("onb_1", "onb_2"), outcome("onb_9", Kind.TRANSIENT))

    assert health.unauthorized_ids == ("onb_1", "onb_2")
    assert after_all(health, *unauthorized("onb_3")).unhealthy_since == NOW


def test_transient_failures_alone_never_make_a_provider_unhealthy() -> None:
    health = after_all(FRESH, *[outcome(f"onb_{number}", Kind.TRANSIENT) for number in range(20)])

    assert health.unhealthy_since is None
    assert health.last_failure == "transient (401)"


def test_an_unhealthy_provider_is_tried_again_after_one_probe_interval() -> None:
    assert UNHEALTHY.next_probe_at == NOW + PROBE_MS


def test_a_failed_probe_keeps_the_time_since_when_it_is_unhealthy() -> None:
    health = after_all(UNHEALTHY, *unauthorized("onb_4", at=NOW + PROBE_MS))

    assert health.unhealthy_since == NOW
    assert health.last_failure_at == NOW + PROBE_MS


@pytest.mark.parametrize("answer", [None, Kind.REFUSED])
def test_the_first_answer_that_lets_in_heals(answer: Kind | None) -> None:
    health = after_all(replace(UNHEALTHY, last_probed="onb_1"), outcome("onb_4", answer, NOW + 1))

    assert health.unhealthy_since is None
    assert health.next_probe_at is None
    assert health.last_probed is None
    assert health.unauthorized_ids == ()
    assert health.last_success_at == NOW + 1


def test_a_transient_failure_does_not_heal() -> None:
    assert after_all(UNHEALTHY, outcome("onb_4", Kind.TRANSIENT)).unhealthy_since == NOW


def test_what_failed_last_stays_known_after_healing() -> None:
    health = after_all(UNHEALTHY, outcome("onb_4", None, NOW + 5))

    assert (health.last_failure, health.last_failure_at) == ("unauthorized (401)", NOW)


def test_the_list_of_affected_onboardings_does_not_grow() -> None:
    health = after_all(FRESH, *unauthorized(*[f"onb_{number}" for number in range(50)]))

    assert health.unauthorized_ids == ("onb_47", "onb_48", "onb_49")


def test_successes_within_a_second_change_nothing_so_that_they_need_no_write() -> None:
    health = after_all(FRESH, outcome("onb_1", None))

    assert after_all(health, outcome("onb_2", None, NOW + 999)) is health
    assert after_all(health, outcome("onb_2", None, NOW + 1000)).last_success_at == NOW + 1000


def test_a_success_right_after_another_still_clears_what_was_affected_between() -> None:
    health = after_all(FRESH, outcome("onb_1", None), *unauthorized("onb_2"), outcome("onb_3", None, NOW + 10))

    assert health.unauthorized_ids == ()


@pytest.mark.parametrize("failure", [None, *Kind])
def test_the_skew_is_learnt_from_every_answer_that_tells_it(failure: Kind | None) -> None:
    assert after_all(FRESH, outcome("onb_1", failure, skew_ms=-12_000)).skew_ms == -12_000


def test_an_answer_without_a_date_leaves_the_skew_as_it_was() -> None:
    health = replace(FRESH, skew_ms=4_000)

    assert after_all(health, outcome("onb_1", None)).skew_ms == 4_000


def test_a_skew_that_hardly_differs_is_not_written_again() -> None:
    health = replace(FRESH, skew_ms=4_000)

    assert after_all(health, outcome("onb_1", None, skew_ms=4_499)).skew_ms == 4_000
    assert after_all(health, outcome("onb_1", None, skew_ms=4_500)).skew_ms == 4_500
    assert after_all(health, outcome("onb_1", None, skew_ms=0)).skew_ms == 0


@given(
    story=st.lists(
        st.tuples(st.sampled_from(["onb_1", "onb_2", "onb_3", "onb_4"]), st.sampled_from([None, *Kind])), max_size=12
    )
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_a_provider_is_unhealthy_exactly_when_three_were_affected_since_the_last_success(
    story: list[tuple[str, Kind | None]],
) -> None:
    health, affected = FRESH, set[str]()
    for at, (onboarding, failure) in enumerate(story):
        health = after(health, outcome(onboarding, failure, NOW + at), PROBE_MS)
        if failure in (None, Kind.REFUSED):
            affected.clear()
        elif failure is Kind.UNAUTHORIZED:
            affected.add(onboarding)

    assert (health.unhealthy_since is not None) == (len(affected) >= AFFECTED)
    assert (health.next_probe_at is not None) == (health.unhealthy_since is not None)
