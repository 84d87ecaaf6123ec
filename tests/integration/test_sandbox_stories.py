"""Each story of the sandbox, over real HTTP: which webhooks come, and what the status query says meanwhile."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import pytest

from orchestrator.signatures import osl_verify
from tests.sandbox_merchant import Arrival, Merchant, Receiver, receiver
from tests.sandbox_process import APP_ID, SandboxProcess, rsa_key

PACE = 0.1
GAP, AFTER_QUESTION, LAG = 0.5 * PACE, 1.0 * PACE, 0.6


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess.start(pace=PACE, lag_seconds=LAG) as process:
        yield process


@pytest.fixture(scope="module")
def merchant_end() -> Iterator[Receiver]:
    with receiver() as taking:
        yield taking


class Onboarding:
    """A user of one story: what the merchant asks and gets."""

    def __init__(self, sandbox: SandboxProcess, merchant_end: Receiver, story: str) -> None:
        self.merchant = Merchant(sandbox, story)
        self._end = merchant_end

    def path(self, round_number: int = 1) -> str:
        return f"/{self.merchant.user}/{round_number}"

    def share(self, round_number: int = 1) -> float:
        """Share with the round's own URL; gives the monotonic time of the answer."""
        answer = self.merchant.share(self._end.url + self.path(round_number))
        assert answer.json()["code"] == "00000", answer.text
        return time.monotonic()

    def webhooks(self, count: int, round_number: int = 1) -> list[Arrival]:
        return self._end.wait(self.path(round_number), count)

    def so_far(self, round_number: int = 1) -> list[Arrival]:
        return self._end.at(self.path(round_number))

    def standing(self) -> str | None:
        return self.merchant.standing()


Begin = Callable[[str], Onboarding]


@pytest.fixture
def begin(sandbox: SandboxProcess, merchant_end: Receiver) -> Begin:
    return lambda story: Onboarding(sandbox, merchant_end, story)


def told(arrivals: list[Arrival]) -> list[str]:
    return [arrival.status for arrival in arrivals]


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("story", "statuses", "query"),
    [
        ("pass", ["PROCESS", "PASS"], "PASS"),
        ("review", ["REVIEW", "PASS"], "PASS"),
        ("reject", ["REJECT"], "REJECT"),
        ("final", ["FINAL_REJECT"], "REJECT"),
        ("somebody", ["PROCESS", "PASS"], "PASS"),
    ],
)
def test_a_story_tells_its_statuses_in_order_and_the_query_follows(
    begin: Begin, story: str, statuses: list[str], query: str
) -> None:
    user = begin(story)
    assert user.standing() is None
    answered = user.share()
    arrivals = user.webhooks(len(statuses))
    assert told(arrivals) == statuses
    assert user.standing() == query
    assert arrivals[0].at > answered - 0.1
    for earlier, later in itertools.pairwise(arrivals):
        # By when they were sent: a busy receiver may take two at once.
        assert later.timestamp - earlier.timestamp > GAP * 300
    time.sleep(3 * GAP)
    assert told(user.so_far()) == statuses


def test_a_webhook_has_the_documented_shape_and_a_valid_signature(begin: Begin) -> None:
    user = begin("final")
    user.share()
    (arrival,) = user.webhooks(1)
    headers = arrival.headers
    assert headers["appId"] == APP_ID
    assert osl_verify(rsa_key("osl").public_key(), APP_ID, headers["timestamp"], headers["signature"])
    assert set(arrival.data) == {"merchantUserId", "userId", "merchantCode", "kycStatus", "kycShareFailedReason"}
    assert arrival.data["merchantUserId"] == user.merchant.user
    assert arrival.data["userId"].isdigit()
    assert f"K{user.merchant.number}" in arrival.data["kycShareFailedReason"]


def test_the_answer_of_the_share_names_the_user_as_the_webhook_does(begin: Begin) -> None:
    user = begin("pass")
    share = user.merchant.share()
    assert int(share.json()["data"]["userId"]) >= 9001
    data = user.merchant.ask().json()["data"]
    assert data["userId"] == share.json()["data"]["userId"]
    by_user_id = user.merchant.osl("status/query", json={"userId": data["userId"]}).json()["data"]
    assert by_user_id["merchantUserId"] == user.merchant.user


def test_reject_passes_in_the_next_round(begin: Begin) -> None:
    user = begin("reject")
    user.share()
    user.webhooks(1)
    user.share(2)
    assert told(user.webhooks(1, 2)) == ["PASS"]
    assert user.standing() == "PASS"


def test_the_same_url_again_is_the_same_round(begin: Begin) -> None:
    user = begin("reject")
    user.share()
    user.webhooks(1)
    user.share()
    assert told(user.webhooks(2)) == ["REJECT", "REJECT"]


def test_silent_sends_nothing_and_the_query_says_pass(begin: Begin) -> None:
    user = begin("silent")
    user.share()
    assert user.standing() == "PASS"
    time.sleep(3 * GAP)
    assert user.so_far() == []


def test_early_delivers_before_the_share_is_answered(begin: Begin) -> None:
    user = begin("early")
    answered = user.share()
    (arrival,) = user.so_far()
    assert arrival.at < answered
    assert arrival.status == "PASS"


def test_late_carries_a_timestamp_two_hours_old(begin: Begin) -> None:
    user = begin("late")
    user.share()
    (arrival,) = user.webhooks(1)
    assert 7_199_000 < time.time() * 1000 - arrival.timestamp < 7_210_000
    assert user.standing() == "PASS"


def test_lag_tells_pass_at_once_and_the_query_turns_later(begin: Begin) -> None:
    user = begin("lag")
    user.share()
    assert told(user.webhooks(1)) == ["PASS"]
    told_at = time.monotonic()
    assert user.standing() == "PROCESS"
    eventually(lambda: user.standing() == "PASS")
    assert time.monotonic() - told_at > LAG * 0.8


def test_duplicate_sends_the_same_bytes_and_headers_five_times(begin: Begin) -> None:
    user = begin("duplicate")
    user.share()
    arrivals = user.webhooks(5)
    assert len({(arrival.body, tuple(arrival.headers.items())) for arrival in arrivals}) == 1
    time.sleep(3 * GAP)
    assert len(user.so_far()) == 5


def test_reorder_follows_pass_with_an_older_process(begin: Begin) -> None:
    user = begin("reorder")
    user.share()
    first, second = user.webhooks(2)
    assert [first.status, second.status] == ["PASS", "PROCESS"]
    assert first.timestamp - second.timestamp == 2000
    assert user.standing() == "PASS"


@pytest.mark.parametrize(
    ("story", "first", "second", "finally_says"),
    [("overturn", "REJECT", "PASS", "PASS"), ("forged", "PASS", "FINAL_REJECT", "REJECT")],
)
def test_the_second_webhook_waits_until_the_query_has_answered_reject(
    begin: Begin, story: str, first: str, second: str, finally_says: str
) -> None:
    user = begin(story)
    user.share()
    assert told(user.webhooks(1)) == [first]
    time.sleep(3 * AFTER_QUESTION)
    assert told(user.so_far()) == [first]
    assert user.standing() == "REJECT"
    asked = time.monotonic()
    assert told(user.webhooks(2)) == [first, second]
    assert user.so_far()[1].at - asked > AFTER_QUESTION * 0.7
    assert user.standing() == finally_says


def test_flaky_answers_503_twice_to_each_kind_of_call_and_then_works(begin: Begin) -> None:
    merchant = begin("flaky").merchant
    assert [merchant.upload().status_code for _ in range(3)] == [503, 503, 200]
    assert [merchant.share().status_code for _ in range(3)] == [503, 503, 200]
    assert [merchant.ask().status_code for _ in range(3)] == [503, 503, 200]
    assert merchant.file_url()


def test_down_always_answers_503(begin: Begin) -> None:
    merchant = begin("down").merchant
    assert {merchant.upload().status_code for _ in range(4)} == {503}
    assert {merchant.share().status_code, merchant.ask().status_code} == {503}


def test_refused_is_a_400_that_quotes_the_user(begin: Begin) -> None:
    merchant = begin("refused").merchant
    answer = merchant.upload()
    assert (answer.status_code, answer.json()["success"]) == (400, False)
    assert merchant.email in answer.json()["msg"]


def test_declined_refuses_the_share_with_00002_and_quotes_the_user(begin: Begin) -> None:
    merchant = begin("declined").merchant
    assert merchant.upload().status_code == 200
    answer = merchant.share().json()
    assert answer["code"] == "00002"
    assert merchant.email in answer["msg"]
    assert merchant.standing() is None


def test_the_story_of_a_query_is_known_from_the_upload_to_btse(begin: Begin) -> None:
    merchant = begin("down").merchant
    assert merchant.ask().status_code == 200
    merchant.upload()
    assert merchant.ask().status_code == 503


def test_a_webhook_that_is_not_answered_200_is_sent_again_unchanged(begin: Begin, merchant_end: Receiver) -> None:
    user = begin("final")
    merchant_end.answer = lambda arrival: 500 if arrival.path == user.path() and len(user.so_far()) < 2 else 200
    user.share()
    arrivals = user.webhooks(3)
    assert len({(arrival.body, arrival.headers["timestamp"]) for arrival in arrivals}) == 1
    eventually(lambda: len(user.merchant.sandbox.webhooks(user.merchant.user)) == 3)
    sent = user.merchant.sandbox.webhooks(user.merchant.user)
    assert [(each["attempt"], each["status"]) for each in sent] == [(1, 500), (2, 500), (3, 200)]


def test_a_newer_share_ends_the_story_of_the_one_before(begin: Begin) -> None:
    user = begin("overturn")
    user.share()
    user.webhooks(1)
    assert user.standing() == "REJECT"
    user.share(2)
    assert told(user.webhooks(1, 2)) == ["PASS"]
    time.sleep(3 * AFTER_QUESTION)
    assert told(user.so_far(1)) == ["REJECT"]


def test_many_users_are_served_at_once(begin: Begin) -> None:
    users = [begin("pass") for _ in range(20)]
    for user in users:
        user.share()
    for user in users:
        assert told(user.webhooks(2)) == ["PROCESS", "PASS"]
