"""The tenant's budget through a gateway, the worker that users run, and a projector."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.v1.budget_shapes import Budget, BudgetAccepted
from ops.embedded.process import free_port
from ops.settings import Settings
from tests.faults.cluster import Process
from tests.gateway.platform import Gateway, Platform, deciding

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIMITS = {"tokens": None, "cost_micros": None, "calls": 10, "turns": None, "seconds": 3600}


@pytest.fixture(scope="module")
def module_settings(module_settings: Settings) -> Settings:
    return module_settings.model_copy(update={"soma_tenant_budgets": True})


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def worker(module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    async with deciding(module_settings, tmp_path_factory.mktemp("worker") / "worker.log") as worker:
        yield worker


async def test_a_budget_that_nobody_set_has_no_limits(platform: Platform) -> None:
    answer = await platform.client.get("/v1/budget")
    assert answer.status_code == 200, answer.text
    budget = Budget.model_validate_json(answer.content)
    assert (budget.limits.calls, budget.renews, budget.since, budget.position) == (None, False, None, None)


async def test_a_budget_that_is_set_is_answered_as_it_is_now_and_read_with_its_position(platform: Platform) -> None:
    body = {"limits": {"calls": 10, "seconds": 3600}, "renews": True}
    # when
    answer = await platform.client.put("/v1/budget", json=body)
    # then
    assert answer.status_code == 200, answer.text
    budget = Budget.model_validate_json(answer.content)
    assert (answer.json()["limits"], budget.renews, budget.position) == (LIMITS, True, answer.headers["soma-position"])
    read = await platform.client.get("/v1/budget", params={"position": budget.position})
    assert (read.status_code, read.json()) == (200, answer.json()), read.text
    # and the same again changes nothing
    again = await platform.client.put("/v1/budget", json=body)
    assert (again.status_code, again.json(), "idempotency-replayed" in again.headers) == (200, answer.json(), False)


async def test_the_same_key_sets_a_budget_once_and_another_body_is_refused(platform: Platform) -> None:
    # given
    key, body, other = {"Idempotency-Key": "once"}, {"limits": {"calls": 20}}, {"limits": {"calls": 30}}
    first = await platform.client.put("/v1/budget", json=body, headers=key)
    assert (await platform.client.put("/v1/budget", json=other)).json()["limits"]["calls"] == 30
    # when
    again = await platform.client.put("/v1/budget", json=body, headers=key)
    reused = await platform.client.put("/v1/budget", json=other, headers=key)
    once_more = await platform.client.put("/v1/budget", json=body, headers=key)
    # then what came after the first one stands
    assert (first.status_code, again.status_code, once_more.status_code) == (200, 200, 200)
    assert [answer.headers.get("idempotency-replayed") for answer in (first, again, once_more)] == [None, "true", "true"]
    assert (again.json()["limits"]["calls"], reused.status_code, reused.json()["code"]) == (30, 422, "key_reused")


async def test_whoever_does_not_wait_is_told_where_the_command_stands(platform: Platform) -> None:
    answer = await platform.client.put("/v1/budget", json={"limits": {"calls": 40}}, headers={"Prefer": "respond-async"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async")
    position = BudgetAccepted.model_validate_json(answer.content).position
    assert (await platform.client.get("/v1/budget", params={"position": position})).json()["limits"]["calls"] == 40


@pytest.mark.parametrize("body", [{}, {"limits": {"calls": -1}}, {"limits": {"seconds": 5}}, {"limits": {}, "renews": True}])
async def test_a_body_that_is_no_budget_is_refused_by_field(platform: Platform, body: dict[str, object]) -> None:
    answer = await platform.client.put("/v1/budget", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert answer.json()["errors"]


async def test_where_it_is_switched_off_the_answer_says_which_setting_to_turn_on(module_settings: Settings) -> None:
    switched_off = {"soma_tenant_budgets": False, "gateway_port": free_port()}
    async with Gateway(module_settings.model_copy(update=switched_off)) as other:
        answer = await other.client.put("/v1/budget", json={"limits": {"calls": 1}})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_enabled")
    assert "SOMA_TENANT_BUDGETS" in answer.json()["detail"]
