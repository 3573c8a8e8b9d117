"""Tools that misbehave, tools that must not run twice, and results of every size, through the whole platform."""

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

from schemas.chain import digest
from tests.faults.cluster import environment
from tests.scripted.conftest import Stand
from tests.scripted.model import Says
from tests.streams.tools.server import Answer, hangs, pours, says
from tests.streams.tools.test_mcp import Server

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]
ONCE: dict[str, Any] = {"repeat": "never", "timeout_seconds": 1}


async def dies(request: Any, writer: asyncio.StreamWriter) -> None:
    """Begins an answer, and is gone."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun")
    await writer.drain()
    writer.close()


async def babbles(request: Any, writer: asyncio.StreamWriter) -> None:
    """Answers what is no HTTP."""
    writer.write(b"\x00\x01 good day \xff\r\n\r\n")
    await writer.drain()


def wish(name: str, arguments: str = "{}") -> Says:
    return Says(calls=((name, arguments),))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (hangs, "no answer within 1 s"),
        (babbles, "does not speak HTTP properly"),
        (says(b"\xff\xfe"), "not UTF-8"),
        (pours, "longer than 8388608 bytes"),
        (dies, "does not speak HTTP properly"),
        (says("no", "500 No"), "HTTP 500: no"),
        (says("moved", "302 Found", location="http://169.254.169.254/latest/meta-data"), "not among the hosts"),
    ],
    ids=["hangs", "garbage", "no text", "100 MB", "dies", "fails", "redirects to metadata"],
)
async def test_a_tool_that_misbehaves_is_an_error_that_the_model_is_told(stand: Stand, answer: Answer, said: str) -> None:
    name = await stand.tool(f"bad-{len(stand.web.answers)}", answer, timeout_seconds=1 if answer is hangs else 10, attempts=1)
    session = await stand.run(wish(name), tools=[name])
    [call] = await stand.calls(session)
    assert (call["status"], call["outcome"], len(call["attempts"])) == ("done", "error", 1)
    assert said in call["result"]
    assert session["messages"][-1]["content"] == "done"


async def test_a_safe_tool_that_recovers_is_tried_again_under_the_same_key(stand: Stand) -> None:
    name = await stand.tool("recovers", dies)

    async def better(request: Any, writer: asyncio.StreamWriter) -> None:
        stand.web.answers["/recovers"] = says("well")
        await dies(request, writer)

    stand.web.answers["/recovers"] = better
    session = await stand.run(wish(name), tools=[name])
    [call] = await stand.calls(session)
    assert (call["outcome"], call["result"], len(call["attempts"])) == ("ok", "well", 2)
    assert stand.runs(name) == [call["id"]] * 2


async def test_a_call_of_which_nobody_knows_is_settled_by_what_the_tools_status_address_says(stand: Stand) -> None:
    # given a tool that must not run twice, breaks while it answers, and says nothing of its calls
    stand.web.answers["/order/status"] = says("", "503 No")
    place = {"method": "POST", "url": stand.web.url("/order"), "status_url": stand.web.url("/order/status?call={call}")}
    name = await stand.tool("order", http=place, **ONCE)
    stand.web.answers["/order"] = dies
    # when it is called
    session = await stand.run(wish(name), tools=[name])
    # then the model is told that nobody knows, and the session goes on to its end
    [call] = await stand.calls(session)
    assert (call["status"], call["outcome"], len(stand.runs(name))) == ("unknown", "unknown", 1)
    assert "nobody knows whether this call had its effect" in call["result"]
    ended = await stand.client.post(f"/v1/sessions/{session['id']}/close")
    assert ended.json()["status"] == "ended"
    # when the tool says how it ended
    stand.web.answers["/order/status"] = says("ordered " + "x" * 70_000)
    # then the call is settled, with all that it said
    async with asyncio.timeout(60):
        while (call := (await stand.calls(session))[0])["status"] != "done":
            await asyncio.sleep(0.2)
    assert (call["outcome"], call["result_bytes"], len(stand.runs(name))) == ("ok", 70_008, 1)
    whole = await stand.client.get(f"/v1/sessions/{session['id']}/calls/{call['id']}/result")
    assert whole.text.startswith("ordered xxx")
    asked = [each for each in stand.web.requests if each.target.startswith("/order/status")]
    assert {each.target for each in asked} == {f"/order/status?call={call['id']}"}
    assert {each.headers["idempotency-key"] for each in asked} == {call["id"]}


@pytest.mark.parametrize("size", [10, 65_536, 65_537, 3_000_000])
async def test_a_result_of_any_size_is_read_back_byte_for_byte(stand: Stand, size: int) -> None:
    content = ("ä" * (size // 2)).encode() + b"x" * (size % 2)
    name = await stand.tool(f"large-{size}", says(content))
    session = await stand.run(wish(name), tools=[name])
    [call] = await stand.calls(session)
    path = f"/v1/sessions/{session['id']}/calls/{call['id']}/result"
    # when
    whole = await stand.client.get(path)
    # then
    assert (whole.status_code, whole.content) == (200, content)
    assert (call["result_digest"], call["result_bytes"]) == (digest(content).hex(), size)
    assert (call["artifact"] is not None) == (size > 65_536)
    headers = whole.headers
    assert (headers["etag"], headers["content-length"]) == (f'"{call["result_digest"]}"', str(size))
    assert (headers["content-type"], headers["x-content-type-options"]) == ("text/plain; charset=utf-8", "nosniff")
    assert (await stand.client.get(path, headers={"If-None-Match": headers["etag"]})).status_code == 304
    # and what the model saw of it is bounded
    assert len(stand.prompts(session)[1]["messages"][-1]["content"]) <= 65_536


async def test_a_result_that_is_not_there_is_not_found(stand: Stand) -> None:
    name = await stand.tool("kept", says("x" * 70_000), approval="always")
    session = await stand.run(wish(name), tools=[name])
    [call] = await stand.calls(session)
    path = f"/v1/sessions/{session['id']}/calls/{call['id']}"
    # then there is none before the call has ended
    waiting = await stand.client.get(f"{path}/result")
    assert (waiting.status_code, waiting.json()["code"]) == (404, "not_found")
    # nor under another session's id
    other = await stand.run(tools=[])
    assert (await stand.client.get(f"/v1/sessions/{other['id']}/calls/{call['id']}/result")).status_code == 404
    # nor after somebody removed it from the store
    await stand.client.post(f"{path}/approve", json={"arguments_digest": call["arguments_digest"]})
    [call] = await stand.calls(await stand.settled(session["id"]))
    (stand.cluster.settings.soma_data_dir / "artifacts" / call["artifact"]).unlink()
    gone = await stand.client.get(f"{path}/result")
    assert (gone.status_code, call["artifact"] in gone.json()["detail"]) == (404, True)


async def test_an_approval_with_other_arguments_runs_those(stand: Stand) -> None:
    name = await stand.tool("wipe-disk", says("wiped"), approval="always")
    session = await stand.run(wish(name, '{"disk":1}'), tools=[name])
    [call] = await stand.calls(session)
    path = f"/v1/sessions/{session['id']}/calls/{call['id']}/approve"
    # when somebody approves of what was not shown
    other = await stand.client.post(path, json={"arguments_digest": "0" * 32})
    # then nothing runs
    assert (other.status_code, stand.runs(name)) == (409, [])
    # when the other arguments are none that a model might write
    shown = {"arguments_digest": call["arguments_digest"]}
    for arguments, problem in [({"disk": "x" * 70_000}, "65536"), ({"disk": "\ud800"}, "Unicode")]:
        content = json.dumps({**shown, "arguments": arguments})
        wrong = await stand.client.post(path, content=content, headers={"Content-Type": "application/json"})
        # then the field is named, and nothing runs
        assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "body.arguments"), wrong.text
        assert (problem in wrong.text, stand.runs(name)) == (True, [])
    # when the arguments are changed
    body = {"arguments_digest": call["arguments_digest"], "arguments": {"disk": 2}, "note": "the other one"}
    assert (await stand.client.post(path, json=body)).status_code in (200, 202)
    # then those are run, and the ledger says whose decision it was
    [call] = await stand.calls(await stand.settled(session["id"]))
    assert [each.body for each in stand.web.requests if each.target == f"/{name}"] == [b'{"disk":2}']
    assert (call["approval"]["decision"], call["approval"]["note"], call["arguments"]) == ("approved", "the other one", '{"disk":2}')


async def test_an_open_breaker_answers_at_once_and_the_tool_is_left_alone(stand: Stand) -> None:
    # given a tool that failed five times
    name = await stand.tool("broken", says("no", "500 No"), attempts=1)
    await stand.run(*[wish(name, f'{{"n":{number}}}') for number in range(5)], tools=[name])
    async with asyncio.timeout(20):
        while (await stand.client.get(f"/v1/tools/{name}")).json()["breaker"]["status"] != "open":
            await asyncio.sleep(0.05)
    # when it is called once more
    session = await stand.run(wish(name), tools=[name])
    # then the model knows, and nobody asked the tool
    [call] = await stand.calls(session)
    assert (call["outcome"], "does not work at present" in call["result"], len(stand.runs(name))) == ("error", True, 5)


async def test_a_servers_tools_are_imported_and_found_again_when_it_is_back(stand: Stand) -> None:
    server = await asyncio.to_thread(Server)
    try:
        # when its tools are imported
        printed = await import_mcp(stand, server.url, "--prefix", "post_")
        # then they can be given to sessions, as the server's word on each says
        assert "post_add: version 1, offered" in printed
        shown = {name: (await stand.client.get(f"/v1/tools/{name}")).json() for name in ("post_add", "post_send_letter")}
        assert [(tool["repeat"], tool["approval"]) for tool in shown.values()] == [("safe", "never"), ("never", "always")]
        add = wish("post_add", '{"a":40,"b":2}')
        assert await sum_of(stand, add) == ("ok", '{"result":42}')
        # when the server is away
        server.stop()
        outcome, said = await sum_of(stand, add)
        assert (outcome, "reached" in said) == ("error", True), said
        # and comes back
        await asyncio.to_thread(server.start)
        assert await sum_of(stand, add) == ("ok", '{"result":42}')
    finally:
        server.stop()


async def sum_of(stand: Stand, add: Says) -> tuple[str, str]:
    session = await stand.run(add, tools=["post_add"])
    [call] = await stand.calls(session)
    return call["outcome"], call["result"]


async def import_mcp(stand: Stand, *arguments: str) -> str:
    """What the command prints, where it succeeds."""
    command = [sys.executable, "-m", "ops.cli", "tools", "import-mcp", *arguments]
    env = environment(stand.cluster.settings)
    ran = await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True, timeout=90, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
