"""Model calls: begun when a state waits for them, ended by one command, whatever the server does."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ops.models import ECHO, Model
from schemas.types.common import Usage
from schemas.types.session import RecordFailure, RecordReply
from tests.streams.conftest import Bench
from tests.streams.script import Script, serving
from tests.streams.stage import Stage


@pytest.fixture
async def script() -> AsyncIterator[tuple[Script, Model]]:
    async with serving() as (scripted, url):
        yield scripted, Model.model_validate({"name": "m", "base_url": url, "timeout_seconds": 20})


async def test_echo_repeats_and_says_what_it_is(bench: Bench) -> None:
    stage = Stage(bench, ECHO)
    await stage.begin("echo", input="hello there")
    body = (await stage.outcome()).body
    assert isinstance(body, RecordReply)
    assert (body.content, body.finish_reason, body.usage) == ("echo: hello there", "stop", Usage(input_tokens=2, output_tokens=3))
    assert stage.deltas()[0].text == "echo:"


async def test_a_streamed_reply_is_recorded_with_its_usage(bench: Bench, script: tuple[Script, Model]) -> None:
    scripted, model = script
    stage = Stage(bench, model)
    await stage.begin("m")
    body = (await stage.outcome()).body
    assert isinstance(body, RecordReply)
    assert (body.content, body.usage) == ("Hello", Usage(input_tokens=5, output_tokens=2))
    assert scripted.asked[0]["messages"] == [{"role": "user", "content": "hello"}]
    assert scripted.asked[0]["max_tokens"] == model.max_tokens


async def test_a_server_that_is_overloaded_is_asked_again(bench: Bench, script: tuple[Script, Model]) -> None:
    scripted, model = script
    scripted.statuses = [503, 429, 200]
    stage = Stage(bench, model)
    await stage.begin("m")
    assert isinstance((await stage.outcome()).body, RecordReply)
    assert len(scripted.asked) == 3


async def test_a_request_that_is_rejected_is_not_repeated(bench: Bench, script: tuple[Script, Model]) -> None:
    scripted, model = script
    scripted.statuses = [401]
    stage = Stage(bench, model)
    await stage.begin("m")
    body = (await stage.outcome()).body
    assert isinstance(body, RecordFailure)
    assert body.code == "rejected"
    assert "401" in str(body.reason)
    assert len(scripted.asked) == 1


async def test_a_model_that_hangs_is_given_up_at_its_deadline(bench: Bench, script: tuple[Script, Model]) -> None:
    scripted, model = script
    scripted.hangs = True
    stage = Stage(bench, model)
    await stage.begin("m", seconds=1.0)
    body = (await stage.outcome()).body
    assert isinstance(body, RecordFailure)
    assert body.code == "deadline"
    await asyncio.wait_for(scripted.dropped.wait(), 10)


async def test_a_cancel_closes_the_models_stream_and_nothing_is_reported(bench: Bench, script: tuple[Script, Model]) -> None:
    scripted, model = script
    scripted.hangs = True
    stage = Stage(bench, model)
    await stage.begin("m")
    async with asyncio.timeout(10):
        while not scripted.asked:
            await asyncio.sleep(0.01)
    stage.orchestrator.want(bench.home, stage.id, None, stage.outline, {})
    await asyncio.wait_for(scripted.dropped.wait(), 10)
    assert len(bench.commands()) == 1


async def test_a_call_that_is_wanted_twice_runs_once(bench: Bench, script: tuple[Script, Model]) -> None:
    scripted, model = script
    stage = Stage(bench, model)
    call = await stage.begin("m")
    stage.orchestrator.want(bench.home, stage.id, call, stage.outline, {})
    await stage.outcome()
    assert len(scripted.asked) == 1


async def test_a_model_that_nobody_configured_here_ends_the_turn(bench: Bench) -> None:
    stage = Stage(bench, ECHO)
    await stage.begin("unheard-of")
    body = (await stage.outcome()).body
    assert isinstance(body, RecordFailure)
    assert (body.code, "unheard-of" in str(body.reason)) == ("rejected", True)


async def test_a_taken_over_conversation_is_read_from_the_log_by_its_places(bench: Bench, script: tuple[Script, Model]) -> None:
    scripted, model = script
    # given an orchestrator that saw nothing of the session
    stage = Stage(bench, model)
    await stage.begin("m", input="said before the takeover")
    await stage.outcome()
    assert scripted.asked[0]["messages"] == [{"role": "user", "content": "said before the takeover"}]
