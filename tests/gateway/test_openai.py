"""OpenAI's clients at the gateway: the stock SDK, against a gateway, a worker, an executor and a projector as users run them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import openai
import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from ops.embedded.process import free_port
from ops.settings import Settings
from tests.faults.cluster import Process, environment
from tests.gateway.platform import Gateway, Projecting, deciding

pytestmark = pytest.mark.asyncio(loop_scope="module")
CALCULATOR = {
    "name": "calculator",
    "description": "Calculates.",
    "parameters": {"type": "object"},
    "python": {"entry_point": "calculator"},
    "repeat": "safe",
}
SUM = '/calculator {"expression": "6*7"}\n/calculator {"expression": "2**10"}'


class Slow:
    """A model that writes a piece whenever it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.go_on, self.asked = asyncio.Semaphore(0), list[dict[str, Any]]()
        app = FastAPI()
        app.post("/v1/chat/completions")(self._answer)
        self.port = free_port()
        self._server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_config=None, timeout_graceful_shutdown=1))

    async def __aenter__(self) -> "Slow":
        self._serving = asyncio.create_task(self._server.serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._serving

    async def _answer(self, body: dict[str, Any]) -> StreamingResponse:
        self.asked.append(body)
        return StreamingResponse(self._pieces(), media_type="text/event-stream")

    async def _pieces(self) -> AsyncIterator[str]:
        for piece in ("one ", "two ", "three"):
            await self.go_on.acquire()
            yield f'data: {{"choices":[{{"index":0,"delta":{{"content":"{piece}"}}}}]}}\n\n'
        yield 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}],"usage":null}\n\n'
        yield 'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}\n\ndata: [DONE]\n\n'


class Stage(NamedTuple):
    """A running platform: its raw client, the SDK's two, and the slow model."""

    raw: httpx.AsyncClient
    sdk: openai.AsyncOpenAI
    sync: openai.OpenAI
    slow: Slow

    async def session(self, answer: Any, path: str = "") -> dict[str, Any]:
        """What is known of the session behind an answer of the SDK."""
        session, position = answer.headers["soma-session"], answer.headers["soma-position"]
        read = await self.raw.get(f"/v1/sessions/{session}{path}", params={"position": position}, headers={"Accept": "application/json"})
        found: dict[str, Any] = read.json()
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    directory = tmp_path_factory.mktemp("openai")
    async with Slow() as slow:
        models = directory / "models.yaml"
        models.write_text(
            f"- {{name: slow, base_url: 'http://127.0.0.1:{slow.port}/v1'}}\n"
            f"- {{name: gone, base_url: 'http://127.0.0.1:{free_port()}/v1', timeout_seconds: 1}}\n"
        )
        settings = module_settings.model_copy(update={"soma_models_file": models})
        async with processes(settings, directory), Gateway(settings) as gateway:
            await gateway.until_healthy()
            (await gateway.client.post("/v1/tools", json=CALCULATOR)).raise_for_status()
            terms = {"model": "echo", "instructions": "Use the calculator.", "tools": ["calculator"]}
            (await gateway.client.put("/v1/agents/accountant", json=terms)).raise_for_status()
            url = f"http://127.0.0.1:{settings.gateway_port}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=30) as sdk:
                yield Stage(gateway.client, sdk, openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=30), slow)


@asynccontextmanager
async def processes(settings: Settings, directory: Path) -> AsyncIterator[None]:
    """Worker, executor and projector."""
    projecting, executor = Projecting(settings), Process("executor", environment(settings), directory / "executor.log")
    async with deciding(settings, directory / "worker.log"):
        await executor.start()
        projecting.start()
        try:
            yield
        finally:
            await projecting.stop()
            await executor.stop()


async def test_a_completion_is_a_session_that_records_it(stage: Stage) -> None:
    # when
    raw = await stage.sdk.chat.completions.with_raw_response.create(
        model="echo", messages=[{"role": "user", "content": "hello"}], user="ada", metadata={"team": "blue"}
    )
    completion = raw.parse()
    # then the client has its answer
    assert (completion.choices[0].message.content, completion.choices[0].finish_reason) == ("echo: hello", "stop")
    assert completion.usage
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens, completion.usage.total_tokens) == (1, 2, 3)
    # and the platform its record
    session = await stage.session(raw)
    assert [(each["role"], each["content"]) for each in session["messages"]] == [("user", "hello"), ("assistant", "echo: hello")]
    assert session["metadata"] == {"team": "blue", "user": "ada"}


async def test_what_was_said_before_reaches_the_model_and_the_record(stage: Stage) -> None:
    # when a client sends a whole conversation
    before: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two", "refusal": None},
    ]
    for _ in range(3):
        stage.slow.go_on.release()
    last: Any = {"role": "user", "content": [{"type": "text", "text": "thr"}, {"type": "text", "text": "ee"}]}
    raw = await stage.sdk.chat.completions.with_raw_response.create(model="slow", messages=[*before, last], max_tokens=7)
    # then the model was told all of it, within the bound
    asked = stage.slow.asked[-1]
    assert [(each["role"], each["content"]) for each in asked["messages"]] == [
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", "two"),
        ("user", "three"),
    ]
    assert asked["max_tokens"] == 7
    assert raw.parse().choices[0].finish_reason == "length"
    # and the record tells what the client said from what the model answered
    events = (await stage.session(raw, "/events"))["events"]
    assert [each["type"] for each in events][:2] == ["SessionStarted", "MessagePosted"]
    assert [each["role"] for each in events[0]["data"]["history"]] == ["system", "user", "assistant"]


async def test_a_stream_shows_text_as_it_is_written(stage: Stage) -> None:
    # given a model that has not finished
    stream = await stage.sdk.chat.completions.create(
        model="slow", messages=[{"role": "user", "content": "count"}], stream=True, stream_options={"include_usage": True}
    )
    seen, chunks = "", list[Any]()
    # when each piece is written, then the client has it before the next
    async for chunk in stream:
        chunks.append(chunk)
        piece = chunk.choices[0].delta.content if chunk.choices else None
        if piece is not None:
            seen += piece
            stage.slow.go_on.release()
            await asyncio.sleep(0.06)  # pieces within 50 ms go out as one
    # then
    assert seen == "one two three"
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) >= 2
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 8)
    assert len({chunk.id for chunk in chunks}) == 1
    while not stage.slow.go_on.locked():
        await stage.slow.go_on.acquire()


async def test_an_agent_calls_its_tools_within_the_request(stage: Stage) -> None:
    for model in ("accountant", "accountant@1"):
        raw = await stage.sdk.chat.completions.with_raw_response.create(model=model, messages=[{"role": "user", "content": SUM}])
        assert (raw.parse().choices[0].message.content, raw.parse().model) == ("echo: 42 1024", model)
    calls = (
        await stage.raw.get(f"/v1/sessions/{raw.headers['soma-session']}/calls", params={"position": raw.headers["soma-position"]})
    ).json()["calls"]
    assert [(call["tool"], call["status"]) for call in calls] == [("calculator", "done")] * 2
    # and streamed just so
    stream = await stage.sdk.chat.completions.create(model="accountant", messages=[{"role": "user", "content": SUM}], stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "echo: 42 1024"


async def test_the_synchronous_client_works_as_well(stage: Stage) -> None:
    def talk() -> tuple[str | None, str, str]:
        whole = stage.sync.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hello"}])
        stream = stage.sync.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hello"}], stream=True)
        pieces = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        return whole.choices[0].message.content, pieces, stage.sync.responses.create(model="echo", input="hello").output_text

    assert await asyncio.to_thread(talk) == ("echo: hello",) * 3


async def test_a_response_goes_on_in_the_session_of_the_one_before(stage: Stage) -> None:
    # given
    first = await stage.sdk.responses.create(model="echo", input="hello", instructions="Be brief.")
    assert (first.output_text, first.status, first.usage and first.usage.total_tokens) == ("echo: hello", "completed", 5)
    # when
    second = await stage.sdk.responses.with_raw_response.create(
        model="echo", input="again", instructions="Be brief.", previous_response_id=first.id
    )
    response = second.parse()
    third = await stage.sdk.responses.create(
        model="echo", input=[{"role": "user", "content": [{"type": "input_text", "text": "and again"}]}], previous_response_id=response.id
    )
    # then all of it is one session
    assert (response.output_text, response.previous_response_id, third.output_text) == ("echo: again", first.id, "echo: and again")
    session = await stage.session(second)
    assert [each["content"] for each in session["messages"]][:5] == ["Be brief.", "hello", "echo: hello", "again", "echo: again"]
    # and each turn of it can be read, with the time of its reply
    read = await stage.sdk.responses.retrieve(first.id)
    replied = datetime.fromisoformat(session["messages"][2]["at"])
    assert first.completed_at == read.completed_at == int(replied.timestamp())
    assert (read.id, read.output_text, read.status, read.usage) == (first.id, "echo: hello", "completed", first.usage)
    # and no turn but the newest one can be gone on from
    with pytest.raises(openai.ConflictError, match="went on after this response"):
        await stage.sdk.responses.create(model="echo", input="once more", previous_response_id=first.id)


async def test_a_conversation_keeps_the_terms_of_its_first_request(stage: Stage) -> None:
    first = await stage.sdk.responses.create(model="echo", input="hello", max_output_tokens=9)
    for other in ({"model": "slow"}, {"instructions": "Be rude."}, {"max_output_tokens": 8}, {"metadata": {"team": "red"}}):
        with pytest.raises(openai.BadRequestError, match="stay") as refused:
            await stage.sdk.responses.create(**{"model": "echo", "input": "again", "previous_response_id": first.id} | other)
        assert refused.value.param == next(iter(other))


async def test_a_streamed_response_has_the_events_that_the_sdk_puts_together(stage: Stage) -> None:
    # when the SDK's own accumulator reads the stream
    kinds, numbers, text = list[str](), list[int](), ""
    async with stage.sdk.responses.stream(model="accountant", input=SUM) as stream:
        async for event in stream:
            kinds.append(event.type)
            numbers.append(event.sequence_number)
            text += event.delta if event.type == "response.output_text.delta" else ""
        final = await stream.get_final_response()
    # then
    assert (text, final.output_text, final.status) == ("echo: 42 1024", "echo: 42 1024", "completed")
    assert kinds[:4] == ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert numbers == sorted(set(numbers))
    assert (await stage.sdk.responses.retrieve(final.id)).output_text == final.output_text


@pytest.mark.parametrize(
    ("wrong", "kind", "param", "says"),
    [
        ({"model": "none"}, openai.NotFoundError, None, "There is no model 'none'"),
        ({"model": "accountant@7"}, openai.NotFoundError, None, "no version 7"),
        ({"n": 2}, openai.BadRequestError, "n", "one answer"),
        ({"logprobs": True}, openai.BadRequestError, "logprobs", "not known"),
        ({"stop": ["x"]}, openai.BadRequestError, "stop", "not handed"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError, "tools", "POST /v1/tools"),
        ({"response_format": {"type": "json_object"}}, openai.BadRequestError, "response_format", "plain text"),
        ({"store": False}, openai.BadRequestError, "store", "recorded"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens", "greater than or equal to 1"),
        ({"extra_body": {"colour": "red"}}, openai.BadRequestError, "colour", "not permitted"),
        ({"messages": []}, openai.BadRequestError, "messages", "at least 1"),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, openai.BadRequestError, "messages", "must be the user's"),
        ({"messages": [{"role": "tool", "content": "4", "tool_call_id": "c"}]}, openai.BadRequestError, "messages.0", "name an agent"),
    ],
)
async def test_what_is_refused_is_the_sdks_own_kind_of_error(
    stage: Stage, wrong: dict[str, Any], kind: type[openai.APIStatusError], param: str | None, says: str
) -> None:
    request: dict[str, Any] = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
    with pytest.raises(kind, match=says) as refused:
        await stage.sdk.chat.completions.create(**request | wrong)
    assert (refused.value.param, refused.value.type) == (param, "invalid_request_error")


async def test_parameters_that_only_tune_a_model_are_taken(stage: Stage) -> None:
    completion = await stage.sdk.chat.completions.create(
        model="echo",
        messages=[{"role": "user", "content": "hello"}],
        temperature=0.2,
        top_p=0.9,
        seed=1,
        n=1,
        presence_penalty=0.1,
        response_format={"type": "text"},
        tool_choice="none",
        parallel_tool_calls=False,
        reasoning_effort="low",
    )
    assert completion.choices[0].message.content == "echo: hello"


async def test_a_model_that_does_not_answer_is_an_error_of_the_server(stage: Stage) -> None:
    # when it is asked whole
    with pytest.raises(openai.InternalServerError, match="did not answer") as failed:
        await stage.sdk.chat.completions.create(model="gone", messages=[{"role": "user", "content": "hello"}])
    assert (failed.value.status_code, failed.value.code) == (502, "no_reply")
    assert failed.value.response.headers["x-should-retry"] == "false"
    # or as a stream
    stream = await stage.sdk.chat.completions.create(model="gone", messages=[{"role": "user", "content": "hello"}], stream=True)
    with pytest.raises(openai.APIError, match="did not answer"):
        async for _ in stream:
            pass
    # or as a response, which can be read afterwards
    events = [event async for event in await stage.sdk.responses.create(model="gone", input="hello", stream=True)]
    assert events[-1].type == "response.failed"
    read = await stage.sdk.responses.retrieve(events[-1].response.id)
    assert (read.status, read.completed_at) == ("failed", None)


async def test_the_same_key_gives_the_same_answer_and_asks_the_model_once(stage: Stage) -> None:
    # given
    key = {"Idempotency-Key": "answer-once"}
    first = await stage.sdk.responses.create(model="echo", input="hello", extra_headers=key)
    # when
    again = await stage.sdk.responses.create(model="echo", input="hello", extra_headers=key)
    streamed = await stage.sdk.responses.create(model="echo", input="hello", stream=False, extra_headers=key)
    # then
    assert again == first == streamed
    with pytest.raises(openai.UnprocessableEntityError, match="another body"):
        await stage.sdk.responses.create(model="echo", input="other", extra_headers=key)


async def test_what_no_response_is_named_is_not_found(stage: Stage) -> None:
    for id in ("resp_none", "chatcmpl_019ab3c27e1d7cc09f6a3b1de5a1c000_1", f"resp_{'0' * 32}_x", "x" * 200):
        with pytest.raises((openai.NotFoundError, openai.BadRequestError)):
            await stage.sdk.responses.retrieve(id)


async def test_models_lists_what_can_be_named_agents_too(stage: Stage) -> None:
    listed = {model.id: model.owned_by async for model in stage.sdk.models.list()}
    assert listed.keys() >= {"echo", "slow", "gone", "accountant"}
    assert listed["accountant"] == "agent"
