"""Buckets that are filled as time goes by."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth import Principal
from gateway.bucket import WINDOW_SECONDS, Bucket
from gateway.problems import RateLimited
from gateway.rates import Rates

ADA, BOB = Principal("acme", "ada"), Principal("acme", "bob")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_quota_at_once_and_then_one_each_time_one_is_filled_in() -> None:
    # given
    bucket = Bucket(6, clock := Clock())
    # when
    left = [bucket.take("ada") for _ in range(7)]
    # then
    assert [each.requests for each in left] == [5, 4, 3, 2, 1, 0, 0]
    assert [each.wait for each in left] == [0] * 6 + [10]
    # when it waits as long as it was told
    clock.now += 10
    assert bucket.take("ada").wait == 0
    assert bucket.take("ada").wait == 10
    # when it is silent for long
    clock.now += 3_600
    assert bucket.take("ada").requests == 5


@given(st.integers(1, 50), st.lists(st.floats(0, 30), max_size=100))
def test_in_no_window_are_there_more_than_its_quota_and_what_the_time_filled_in(quota: int, pauses: list[float]) -> None:
    bucket, taken = Bucket(quota, clock := Clock()), list[float]()
    for pause in pauses:
        clock.now += pause
        if bucket.take("ada").wait == 0:
            taken.append(clock.now)
    for first in taken:
        within = [time for time in taken if first <= time <= first + WINDOW_SECONDS]
        assert len(within) <= 2 * quota + 1


def test_one_caller_takes_nothing_from_another_and_all_of_a_tenant_share_its_quota() -> None:
    rates = Rates(tenant_quota=3, caller_quota=2, clock=Clock())
    rates.take(ADA)
    rates.take(ADA)
    with pytest.raises(RateLimited, match="this caller"):
        rates.take(ADA)
    said = rates.take(BOB)
    assert said["RateLimit"] == '"caller";r=1;t=30, "tenant";r=0;t=60'
    assert said["RateLimit-Policy"] == '"caller";q=2;w=60, "tenant";q=3;w=60'
    with pytest.raises(RateLimited, match="this tenant") as refused:
        rates.take(BOB)
    assert refused.value.headers["Retry-After"] == "20"
    assert rates.take(Principal("other", "bob"))
