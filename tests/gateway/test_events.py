"""A session's events: as they happen, and by pages."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, NamedTuple

import httpx
import pytest

from gateway.recent import Recent
from gateway.tail import QUEUE, FellBehind, Follower
from gateway.v1.shapes import EventPage
from schemas.types.session import OutputDelta
from tests.gateway.platform import Platform

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Sent(NamedTuple):
    """One event of a stream. `id` is None for a piece of output."""

    id: str | None
    event: str
    data: dict[str, Any]


async def stream(client: httpx.AsyncClient, session_id: str, **headers: str) -> AsyncGenerator[Sent, None]:
    """What the stream sends, until it ends."""
    async with client.stream("GET", f"/v1/sessions/{session_id}/events", headers={"Accept": "text/event-stream", **headers}) as answer:
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
        fields: dict[str, str] = {}
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if line and name:
                fields[name] = value
            elif not line and "data" in fields:
                yield Sent(fields.get("id"), fields["event"], json.loads(fields["data"]))
                fields = {}


async def started(client: httpx.AsyncClient, *texts: str) -> str:
    """A session in which so much was said, all of it applied."""
    answer = await client.post("/v1/sessions", json={"model": "echo"})
    id = answer.json()["id"]
    for text in texts:
        answer = await client.post(f"/v1/sessions/{id}/messages", json={"input": text})
    await client.get(f"/v1/sessions/{id}", params={"position": answer.json()["position"]})
    return str(id)


async def test_a_stream_tells_the_history_then_what_happens_until_the_end(client: httpx.AsyncClient) -> None:
    # given
    id = await started(client, "one")
    events = list[Sent]()
    async with aclosing(stream(client, id)) as sent:
        # when
        async for event in sent:
            events.append(event)
            if event.event == "ReplyRecorded" and len(events) == 4:
                await client.post(f"/v1/sessions/{id}/messages", json={"input": "two"})
                await client.post(f"/v1/sessions/{id}/close")
    # then
    turn = ["MessagePosted", "ReplyRequested", "ReplyRecorded"]
    assert [event.event for event in events] == ["SessionStarted", *turn, *turn, "SessionClosed"]
    assert [event.data["version"] for event in events] == list(range(1, 9))
    assert [event.id for event in events] == [event.data["place"] for event in events]
    assert events[-2].data["data"]["content"] == "echo: two"


async def test_whoever_comes_back_misses_nothing_and_gets_nothing_twice(client: httpx.AsyncClient) -> None:
    # given one who is cut off again and again while something happens
    id = await started(client)
    seen = list[Sent]()

    async def follow() -> None:
        while not seen or seen[-1].event != "SessionClosed":
            last = {"Last-Event-ID": str(seen[-1].id)} if seen else {}
            async with aclosing(stream(client, id, **last)) as sent:
                for _ in range(2):
                    if (event := await anext(sent, None)) is None:
                        break
                    seen.append(event)

    following = asyncio.create_task(follow())
    # when
    for number in range(6):
        await client.post(f"/v1/sessions/{id}/messages", json={"input": str(number)})
    await client.post(f"/v1/sessions/{id}/close")
    await following
    # then
    assert [event.data["version"] for event in seen] == list(range(1, 21))


async def test_after_the_end_a_browser_is_told_not_to_come_back(client: httpx.AsyncClient) -> None:
    id = await started(client)
    closed = (await client.post(f"/v1/sessions/{id}/close")).json()
    page = await client.get(f"/v1/sessions/{id}/events?position={closed['position']}", headers={"Accept": "application/json"})
    answer = await client.get(f"/v1/sessions/{id}/events", headers={"Last-Event-ID": page.json()["next_after"]})
    assert answer.status_code == 204


async def test_pieces_of_a_reply_are_shown_while_it_is_written(platform: Platform) -> None:
    # given a reply under way
    client, worker = platform.client, platform.worker
    id = await started(client)
    worker.replying.clear()
    accepted = (await client.post(f"/v1/sessions/{id}/messages", json={"input": "go"}, headers={"Prefer": "wait=0"})).json()
    await client.get(f"/v1/sessions/{id}?position={accepted['position']}")
    await worker.deltas(id, ["stale"], request=1)
    await worker.deltas(id, ["lost", "?"], request=3)
    await worker.deltas(id, ["a ", "b "], request=3, attempt="a2")
    async with aclosing(stream(client, id)) as first:
        history = [await anext(first) for _ in range(3)]
        assert [event.event for event in history] == ["SessionStarted", "MessagePosted", "ReplyRequested"]
        pieces = [await anext(first)]
        while pieces[-1].data["index"] < 1 or pieces[-1].data["attempt"] != "a2":
            pieces.append(await anext(first))
        # when another comes late, and the reply goes on
        async with aclosing(stream(client, id, **{"Last-Event-ID": str(history[-1].id)})) as late:
            so_far = await anext(late)
            await worker.deltas(id, ["c"], request=3, attempt="a2", first=2)
            more = [await anext(first), await anext(late)]
            worker.replying.set()
            recorded = [await anext(first), await anext(late)]
    # then
    assert {piece.event for piece in pieces} == {"output.delta"} and {piece.id for piece in pieces} == {None}
    assert so_far.data == {"request": 3, "attempt": "a2", "index": 1, "text": "a b ", "reset": True}
    assert [piece.data for piece in more] == [{"request": 3, "attempt": "a2", "index": 2, "text": "c", "reset": False}] * 2
    assert [event.event for event in recorded] == ["ReplyRecorded"] * 2


async def test_a_piece_of_another_time_is_never_shown_after_the_reply(platform: Platform) -> None:
    client, worker = platform.client, platform.worker
    id = await started(client, "one")
    async with aclosing(stream(client, id)) as sent:
        assert [(await anext(sent)).event for _ in range(4)][-1] == "ReplyRecorded"
        await worker.deltas(id, ["too late"], request=3)
        await client.post(f"/v1/sessions/{id}/close")
        assert (await anext(sent)).event == "SessionClosed"


async def test_events_come_by_pages(client: httpx.AsyncClient) -> None:
    # given
    id = await started(client, "one", "two")
    types, after = list[str](), dict[str, str | None]()
    # when
    while True:
        answer = await client.get(f"/v1/sessions/{id}/events", params={"limit": 3, **after}, headers={"Accept": "application/json"})
        page = EventPage.model_validate_json(answer.content)
        types += [event.type for event in page.events]
        after = {"after": page.next_after}
        if not page.more:
            break
    # then
    turn = ["MessagePosted", "ReplyRequested", "ReplyRecorded"]
    assert types == ["SessionStarted", *turn, *turn]


async def test_refusals_are_part_of_the_story(client: httpx.AsyncClient) -> None:
    id = await started(client)
    await client.post(f"/v1/sessions/{id}/close", headers={"If-Match": '"7"'})
    closed = (await client.post(f"/v1/sessions/{id}/close")).json()
    answer = await client.get(f"/v1/sessions/{id}/events?position={closed['position']}", headers={"Accept": "application/json"})
    events = answer.json()["events"]
    assert [(event["type"], event["version"]) for event in events] == [("SessionStarted", 1), ("Refused", None), ("SessionClosed", 2)]
    assert events[1]["data"]["code"] == "version_conflict"


async def test_a_follower_that_is_too_slow_is_let_go() -> None:
    # given
    follower = Follower(0, ())
    delta = OutputDelta(session_id="s", request=1, attempt="a", index=0, text="")
    # when
    for _ in range(QUEUE + 1):
        follower.put(delta)
    # then
    with pytest.raises(FellBehind):
        await follower.next()


async def test_what_is_remembered_of_output_is_bounded() -> None:
    recent = Recent()
    for _ in range(200):
        recent.take_output("long", b"x" * (1 << 20))
    assert sum(map(len, recent.output("long"))) < 16 << 20
