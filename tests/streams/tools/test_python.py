"""Python tools run in processes of their own, and whatever they do there stays there."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from schemas.types.tool import Python as Place
from streams.tools.python import Python
from streams.tools.running import Result
from tests.streams.tools.making import call, definition, install, ways


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / "packages"
    install(packages)
    monkeypatch.setenv("PYTHONPATH", str(packages))


@asynccontextmanager
async def python(name: str, **fields: Any) -> AsyncIterator[Python]:
    place = Place(entry_point=name)
    tool = Python(definition(python=place), place, ways(**fields))
    try:
        yield tool
    finally:
        await tool.close()


def processes(results: Iterable[Result]) -> set[int]:
    """Of a tool that says in which one it ran."""
    return {json.loads(result.content)["process"] for result in results}


def alive(ids: Iterable[int]) -> bool:
    return any(Path(f"/proc/{id}").exists() for id in ids)


async def test_a_function_gets_its_arguments_and_the_id_of_the_call() -> None:
    async with python("says") as tool:
        result = await tool.run(call(text="schön"))

    answer = json.loads(result.content)
    assert (result.outcome, answer["arguments"], answer["call_id"]) == ("ok", {"text": "schön"}, "call-1")
    assert answer["process"] != os.getpid()


async def test_arguments_that_cannot_be_sent_are_an_error() -> None:
    async with python("says") as tool:
        assert await tool.run(call(text="\ud800")) == Result("error", b"the arguments hold text that is not Unicode")


async def test_a_process_serves_one_call_after_the_other_and_several_serve_several() -> None:
    async with python("says") as tool:
        processes = [json.loads((await tool.run(call())).content)["process"] for _ in range(3)]
        together = await asyncio.gather(*(tool.run(call()) for _ in range(3)))

    assert len(set(processes)) == 1
    assert len({json.loads(result.content)["process"] for result in together}) == 3


async def test_as_many_processes_stay_as_the_tools_usual_concurrency() -> None:
    # given as many calls at once as a tool has unless it says otherwise
    async with python("says") as tool:
        first, second = [await asyncio.gather(*(tool.run(call()) for _ in range(definition().concurrency))) for _ in range(2)]

    # then none of the processes of the first ones was given up
    assert processes(first) == processes(second)
    assert len(processes(first)) == definition().concurrency


async def test_processes_that_nobody_needs_any_more_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    # given three processes, of which calls one by one need only one
    async with python("says") as tool:
        several = processes(await asyncio.gather(*(tool.run(call()) for _ in range(3))))
        # when those that wait come to the end of their time
        monkeypatch.setattr("streams.tools.python.IDLE_SECONDS", 0.0)
        one = processes([await tool.run(call())])
        while await asyncio.to_thread(alive, one):
            await asyncio.sleep(0.01)
        # then the others are there yet, and the next call takes one of them
        assert processes([await tool.run(call())]) < several - one


async def test_a_function_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMA_SECRET_KEY", "hunter2")
    monkeypatch.setenv("DATABASE_URL", "postgresql://hunter2")

    async with python("environment") as tool:
        result = await tool.run(call())

    assert result.outcome == "ok"
    assert b"hunter2" not in result.content


async def test_what_a_function_prints_is_not_taken_for_its_answer() -> None:
    async with python("prints") as tool:
        assert await tool.run(call()) == Result("ok", b'""')
        assert await tool.run(call()) == Result("ok", b'""')


async def test_a_function_that_does_not_end_is_ended_and_the_next_call_has_a_process_of_its_own() -> None:
    async with python("loops") as tool:
        for _ in range(2):
            assert await tool.run(call(seconds=0.4)) == Result("error", b"no answer within 0.4 s", retry=True, fault=True, unsure=True)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not bound a process's memory")
async def test_a_function_has_no_more_memory_than_it_may() -> None:
    async with python("eats") as tool:
        result = await tool.run(call())

    assert result == Result("error", b"the tool used more memory than it may", retry=True, fault=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [("leaves", "the tool ended its process"), ("dies", "the tool's process ended with code 3")],
)
async def test_a_function_that_ends_its_process_ends_only_that(name: str, said: str) -> None:
    async with python(name) as tool:
        for _ in range(2):
            assert await tool.run(call()) == Result("error", said.encode(), retry=True, fault=True, unsure=name == "dies")


async def test_a_value_error_is_for_the_model_and_another_exception_is_a_fault() -> None:
    async with python("raises") as tool:
        assert await tool.run(call(letter=1)) == Result("error", b"there is no such letter")
        assert await tool.run(call()) == Result("error", b"RuntimeError: the post office burned down", retry=True, fault=True)


async def test_a_result_has_a_bound() -> None:
    async with python("talks", max_bytes=10_000) as tool:
        assert await tool.run(call()) == Result("error", b"the result is longer than 10000 bytes")


@pytest.mark.parametrize(
    ("name", "said"),
    [("confuses", "not JSON serializable"), ("absent", "cannot be loaded"), ("never-heard-of", "install it beside the worker")],
)
async def test_what_is_broken_about_a_tool_is_said(name: str, said: str) -> None:
    async with python(name) as tool:
        result = await tool.run(call())

    assert (result.outcome, result.fault) == ("error", True)
    assert said in result.content.decode()


async def test_a_waiting_process_that_was_killed_is_replaced() -> None:
    async with python("says") as tool:
        process = json.loads((await tool.run(call())).content)["process"]
        os.kill(process, signal.SIGKILL)
        results = [await tool.run(call()) for _ in range(2)]

    assert results[-1].outcome == "ok"
    assert json.loads(results[-1].content)["process"] != process


async def test_cancelling_a_call_kills_its_process_and_what_that_started(tmp_path: Path) -> None:
    # given a call that holds a pipe open
    os.mkfifo(tmp_path / "pipe")
    opening = asyncio.create_task(asyncio.to_thread((tmp_path / "pipe").open, "rb", buffering=0))
    async with python("lingers") as tool:
        running = asyncio.create_task(tool.run(call(pipe=str(tmp_path / "pipe"))))
        with await opening as pipe:
            assert await asyncio.to_thread(pipe.read, 1) == b"x"

            # when
            running.cancel()

            # then nobody holds it any more
            assert await asyncio.to_thread(pipe.read, 1) == b""


def test_a_child_whose_parent_is_frozen_ends_by_the_processor_time_it_used() -> None:
    child = subprocess.run(
        [sys.executable, "-P", "-m", "streams.tools.child", "loops", str(512 << 20), "1000"],
        input=b'{"id": "call-1", "arguments": {}, "seconds": 0}\n',
        capture_output=True,
        check=False,
    )

    assert (child.returncode, child.stdout) == (-signal.SIGXCPU, b"")
