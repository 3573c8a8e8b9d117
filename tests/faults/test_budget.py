"""A tenant's budget of 10 tool calls, and 50 sessions on two workers that want one each at once, while the workers are killed."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import yaml

from commands import budget
from ops import kafka
from ops.log import Log
from ops.settings import Settings
from schemas.chain import Head
from schemas.ids import named_id
from schemas.registry import Registry
from schemas.types.budget import BudgetEvent
from streams.budget import BUDGET
from tests.faults.conftest import Trial, rounds
from tests.streams.tools.server import Journal, Request, says, serving

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(400)]
SESSIONS, CALLS = 50, 10
TENANT = "default"
HOME = named_id(TENANT, budget.NAME, budget.NAME)


async def model(request: Request, writer: asyncio.StreamWriter) -> None:
    """Asks for one call of the tool, and is done when it has its result."""
    told = json.loads(request.body)["messages"]
    call = {"index": 0, "id": "c0", "type": "function", "function": {"name": "pay", "arguments": "{}"}}
    delta: dict[str, Any] = {"content": "done"} if told[-1]["role"] == "tool" else {"tool_calls": [call]}
    about = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunk = {**about, "choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]}
    usage = {**about, "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}}
    lines = "".join(f"data: {json.dumps(each)}\n\n" for each in (chunk, usage)) + "data: [DONE]\n\n"
    await says(lines, content_type="text/event-stream")(request, writer)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def outside() -> AsyncIterator[Journal]:
    """The model and the tool, which keeps a journal of its own."""
    async with serving({"/v1/chat/completions": model, "/pay": says("paid")}) as journal:
        yield journal


@pytest.fixture(scope="module")
def module_platform(module_platform: Settings, outside: Journal, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Sessions are governed; the model and the tool are those outside."""
    models: Path = tmp_path_factory.mktemp("models") / "models.yaml"
    models.write_text(yaml.safe_dump([{"name": "payer", "base_url": outside.url("/v1"), "max_tokens": 50}]))
    governed = {"soma_tenant_budgets": True, "soma_tool_private_hosts": "127.0.0.1", "soma_models_file": models}
    return module_platform.model_copy(update=governed)


class Budget:
    """What the record says of the tenant's budget. It blocks."""

    def __init__(self, settings: Settings) -> None:
        self._log, registry = Log(kafka.confluent(settings)), Registry(kafka.registry(settings))
        self._registry, self._codec = registry, registry.codec(BUDGET.events, BudgetEvent)

    def state(self) -> budget.State:
        state, head = budget.initial, Head()
        end = self._log.bounds(BUDGET.events, 0)[1]
        for record in self._log.read(BUDGET.events, 0, 0, end):
            event = self._registry.decode(self._codec, record.value)
            head, valid = head.take(event.meta, record.value or b"", record.offset)
            if valid and event.meta.version:
                state = budget.evolve(state, event)
                assert state.pool.spent.calls + state.pool.reserved.calls <= _allowed(state), f"at offset {record.offset}"
        return state


def _allowed(state: budget.State) -> int:
    return state.limits.calls or 0 if isinstance(state, budget.Bounded) else 0


@rounds(short=1)
async def test_many_sessions_never_use_more_than_their_tenants_budget_whoever_is_killed(
    trial: Trial, outside: Journal, rounds: int
) -> None:
    cluster, record = trial.cluster, Budget(trial.settings)
    for executor in cluster.executors:
        if not executor.kept:
            executor.keep()
    tool = {"name": "pay", "description": "Pays.", "parameters": {"type": "object"}, "repeat": "never", "timeout_seconds": 10}
    async with httpx.AsyncClient(base_url=cluster.url, timeout=60) as http:
        answer = await http.post("/v1/tools", json=tool | {"http": {"method": "POST", "url": outside.url("/pay")}})
        assert answer.status_code in (200, 201), answer.text
        for _ in range(rounds):
            # given a budget for ten calls more than are spent
            spent = (await asyncio.to_thread(record.state)).pool.spent.calls
            before, killed = len(_paid(outside)), 0
            answer = await http.put("/v1/budget", json={"limits": {"calls": spent + CALLS}})
            assert answer.status_code == 200, answer.text
            # when many sessions want one each, and workers die meanwhile
            body = {"model": "payer", "input": "pay", "tools": ["pay"]}
            started = [
                asyncio.create_task(http.post("/v1/sessions", json=body, headers={"Prefer": "respond-async"})) for _ in range(SESSIONS)
            ]
            for _ in range(4):
                await asyncio.sleep(trial.random.uniform(0.2, 2.0))
                trial.random.choice(cluster.workers).kill()
                killed += 1
            answers = await asyncio.gather(*started)
            assert {each.status_code for each in answers} <= {202}, [each.text for each in answers if each.status_code != 202]
            ids = [each.json()["id"] for each in answers]
            ended = await _over(http, ids)
            await until_given_back(record)
            # then the tool's own journal shows no more of them, and each once; and nothing is left reserved
            paid = _paid(outside)[before:]
            state = await asyncio.to_thread(record.state)
            codes = [each["error"]["code"] for each in ended if each["error"]]
            trial.say(
                "faults",
                f"{trial.name}: seed {trial.journal.seed}, {SESSIONS} sessions, {killed} workers killed; {len(paid)} calls of {CALLS}, "
                f"{codes.count('budget')} turns over budget, {len(codes) - codes.count('budget')} failed otherwise; "
                f"spent {state.pool.spent.calls - spent}, reserved {state.pool.reserved.calls}",
            )
            assert len(set(paid)) == len(paid) <= CALLS
            assert 1 <= len(paid) <= state.pool.spent.calls - spent <= CALLS


def _paid(outside: Journal) -> list[str]:
    """The idempotency keys that the tool was called with."""
    return [request.headers["idempotency-key"] for request in outside.requests if request.target == "/pay"]


async def _over(http: httpx.AsyncClient, ids: list[str]) -> list[dict[str, Any]]:
    """The sessions, once no turn of theirs goes on."""
    found: dict[str, dict[str, Any]] = {}

    async def look() -> bool:
        for id in ids:
            if found.get(id, {}).get("status") != "idle":
                answer = await http.get(f"/v1/sessions/{id}")
                found[id] = answer.json() if answer.status_code == 200 else {}
        return all(each.get("status") == "idle" and each["version"] > 2 for each in found.values())

    deadline = asyncio.get_running_loop().time() + 180
    while not await look():
        assert asyncio.get_running_loop().time() < deadline, [each for each in found.values() if each.get("status") != "idle"][:3]
        await asyncio.sleep(0.5)
    return list(found.values())


async def until_given_back(record: Budget) -> None:
    deadline = asyncio.get_running_loop().time() + 100
    while (state := await asyncio.to_thread(record.state)).pool.held:
        assert asyncio.get_running_loop().time() < deadline, state
        await asyncio.sleep(1)
