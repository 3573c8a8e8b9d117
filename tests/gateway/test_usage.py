"""What a tenant used, through a gateway."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from gateway.auth import Principal, principal
from gateway.v1 import usage
from gateway.v1.usage_shapes import UsageReport, UsageTotal
from tests.gateway.platform import Platform

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOTHING = UsageTotal(input_tokens=0, output_tokens=0, cost_micros=0, replies=0, tool_calls=0)


@contextmanager
def as_tenant(platform: Platform, tenant: str) -> Iterator[None]:
    """Whoever asks is of this tenant."""
    platform.gateway.app.dependency_overrides[principal] = lambda: Principal(tenant, "somebody", scopes=frozenset({"*"}))
    try:
        yield
    finally:
        platform.gateway.app.dependency_overrides.clear()


async def talk(client: httpx.AsyncClient) -> str:
    """A session with one reply, which takes 1 token and 2. Its position."""
    answer = await client.post("/v1/sessions", json={"model": "echo", "input": "hello"})
    assert answer.status_code == 201, answer.text
    return answer.headers["soma-position"]


async def report(client: httpx.AsyncClient, **asked: Any) -> UsageReport:
    answer = await client.get("/v1/usage", params=asked)
    assert answer.status_code == 200, answer.text
    return UsageReport.model_validate_json(answer.content)


async def test_each_tenant_sees_what_it_used_itself(platform: Platform) -> None:
    # given three replies for one tenant, and one for another
    with as_tenant(platform, "blue"):
        for _ in range(3):
            position = await talk(platform.client)
            blue = await report(platform.client, position=position)
    with as_tenant(platform, "green"):
        green = await report(platform.client, position=await talk(platform.client))
    # then
    [entry] = blue.usage
    today = datetime.now(UTC).date()
    assert entry.day is not None and (entry.model, entry.tool, today - entry.day < timedelta(days=2)) == ("echo", None, True)
    assert blue.total == UsageTotal(input_tokens=3, output_tokens=6, cost_micros=0, replies=3, tool_calls=0)
    assert (green.total.replies, green.total.output_tokens) == (1, 2)
    with as_tenant(platform, "nobody"):
        nobody = await report(platform.client)
    assert (nobody.usage, nobody.total) == ([], NOTHING)


async def test_days_and_groups_are_the_callers_choice(platform: Platform) -> None:
    with as_tenant(platform, "groups"):
        position = await talk(platform.client)
        # when nothing is said, then it is the last thirty days, by day and model
        plain = await report(platform.client, position=position)
        assert ((plain.until - plain.since).days, plain.group_by) == (29, ["day", "model"])
        # when it is told by other things, then entries have those, and the same sum
        by_tool = await platform.client.get("/v1/usage", params={"group_by": ["tool", "model", "tool"]})
        assert (by_tool.json()["group_by"], by_tool.json()["total"]) == (["tool", "model"], plain.total.model_dump())
        assert by_tool.json()["usage"] == [{"tool": None, "model": "echo", **plain.total.model_dump()}]
        # when it is asked for other days, then there is nothing
        former = await report(platform.client, since="2024-01-01", until="2024-12-31")
        assert (former.since, former.until, former.usage, former.total) == (date(2024, 1, 1), date(2024, 12, 31), [], NOTHING)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"since": "2026-02-01", "until": "2026-01-01"}, "exchange them"),
        ({"since": "2024-01-01", "until": "2025-01-01"}, "more than 366 days"),
        ({"since": "yesterday"}, "since"),
        ({"group_by": "session"}, "group_by"),
        ({"group_by": ["day"] * 4}, "group_by"),
        ({"until": "0001-01-01", "since": "0001-01-02"}, "exchange them"),
    ],
)
async def test_what_cannot_be_meant_is_refused(platform: Platform, asked: dict[str, Any], told: str) -> None:
    answer = await platform.client.get("/v1/usage", params=asked)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert told in answer.text


async def test_more_than_an_answer_may_hold_is_refused(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    with as_tenant(platform, "many"):
        await report(platform.client, position=await talk(platform.client))
        monkeypatch.setattr(usage, "MOST_ENTRIES", 0)
        answer = await platform.client.get("/v1/usage")
        assert (answer.status_code, "fewer days" in answer.json()["detail"]) == (422, True)
