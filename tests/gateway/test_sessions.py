"""Writes and reads of sessions, over real servers."""

import asyncio

import httpx
import pytest

from gateway.records import COMMANDS
from gateway.v1.shapes import Accepted, Session, SessionList
from ops import kafka
from ops.log import Log
from schemas.codec import trace_of
from tests.gateway.platform import Platform

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_session_is_started_and_answered(client: httpx.AsyncClient) -> None:
    # when
    answer = await client.post("/v1/sessions", json={"model": "echo", "input": "hello", "metadata": {"team": "blue"}})
    # then
    assert answer.status_code == 201, answer.text
    session = Session.model_validate_json(answer.content)
    assert [(message.role, message.content) for message in session.messages] == [("user", "hello"), ("assistant", "echo: hello")]
    assert (session.status, session.version, session.metadata) == ("idle", 4, {"team": "blue"})
    assert answer.headers["location"] == f"/v1/sessions/{session.id}"
    assert answer.headers["soma-position"] == session.position
    assert answer.headers["etag"] == '"4"'


async def start(client: httpx.AsyncClient, **body: object) -> Session:
    answer = await client.post("/v1/sessions", json={"model": "echo", **body})
    assert answer.status_code == 201, answer.text
    return Session.model_validate_json(answer.content)


async def test_a_session_without_input_waits_for_its_first_message(client: httpx.AsyncClient) -> None:
    # given
    session = await start(client)
    assert (session.status, session.messages, session.version) == ("idle", [], 1)
    # when
    answer = await client.post(f"/v1/sessions/{session.id}/messages", json={"input": "hi"})
    # then
    assert answer.status_code == 200
    assert [message["content"] for message in answer.json()["messages"]] == ["hi", "echo: hi"]


async def test_a_read_with_the_position_of_a_write_holds_what_it_did(client: httpx.AsyncClient) -> None:
    session = await start(client, input="hello")
    answers = [
        await client.get(f"/v1/sessions/{session.id}", params={"position": session.position}),
        await client.get(f"/v1/sessions/{session.id}", headers={"Soma-Position": session.position}),
    ]
    assert [Session.model_validate_json(answer.content) for answer in answers] == [session, session]


async def test_a_read_that_the_read_model_cannot_answer_yet_says_so_or_shows_what_there_is(client: httpx.AsyncClient) -> None:
    # given
    session = await start(client, input="hello")
    await client.get(f"/v1/sessions/{session.id}", params={"position": session.position})
    partition = session.position.partition(":")[0]
    ahead = {"position": f"{partition}:999999"}
    # when
    strict = await client.get(f"/v1/sessions/{session.id}", params=ahead, headers={"Prefer": "wait=0"})
    lenient = await client.get(f"/v1/sessions/{session.id}", params=ahead, headers={"Prefer": "wait=0, handling=lenient"})
    # then
    assert (strict.status_code, strict.json()["code"]) == (503, "not_yet")
    assert strict.headers["retry-after"] == "1"
    assert (lenient.status_code, lenient.headers["soma-position"]) == (200, session.position)
    assert lenient.headers["preference-applied"] == "wait=0, handling=lenient"


async def test_an_unchanged_session_is_not_sent_again(client: httpx.AsyncClient) -> None:
    session = await start(client)
    url = f"/v1/sessions/{session.id}?position={session.position}"
    tag = (await client.get(url)).headers["etag"]
    assert (await client.get(url, headers={"If-None-Match": tag})).status_code == 304
    assert (await client.get(url, headers={"If-None-Match": '"0"'})).status_code == 200


async def test_the_past_of_a_session_is_shown(client: httpx.AsyncClient) -> None:
    # given
    session = await start(client, input="one")
    last = (await client.post(f"/v1/sessions/{session.id}/messages", json={"input": "two"})).json()
    url = f"/v1/sessions/{session.id}"
    await client.get(url, params={"position": last["position"]})

    async def shown(as_of: str) -> list[str]:
        answer = await client.get(url, params={"as_of": as_of})
        assert answer.status_code == 200, answer.text
        return [message["content"] for message in answer.json()["messages"]]

    # then
    assert await shown("2") == ["one"]
    assert await shown("4") == ["one", "echo: one"]
    assert await shown(session.position) == ["one", "echo: one"]
    assert await shown(last["messages"][1]["at"]) == ["one", "echo: one"]
    assert await shown("2999-01-01T00:00:00Z") == ["one", "echo: one", "two", "echo: two"]
    assert [(await client.get(url, params={"as_of": never})).status_code for never in ("0", "99", "2001-01-01T00:00:00Z")] == [404] * 3


async def test_sessions_are_listed_by_pages_and_filters(client: httpx.AsyncClient) -> None:
    # given
    sessions = [await start(client, metadata={"list": "this", "n": str(n)}) for n in range(5)]
    await asyncio.gather(*(client.get(f"/v1/sessions/{each.id}?position={each.position}") for each in sessions))
    # when
    seen, query = list[str](), {"metadata": "list=this", "limit": "2"}
    while True:
        page = SessionList.model_validate_json((await client.get("/v1/sessions", params=query)).content)
        seen += [session.id for session in page.sessions]
        if page.next_cursor is None:
            break
        query["cursor"] = page.next_cursor
    # then
    assert seen == [session.id for session in reversed(sessions)]
    labelled = {"metadata": ["list=this", "n=3"], "status": "idle", "model": "echo"}
    assert [each["id"] for each in (await client.get("/v1/sessions", params=labelled)).json()["sessions"]] == [sessions[3].id]
    assert (await client.get("/v1/sessions", params={"metadata": "list=this", "status": "ended"})).json()["sessions"] == []


async def test_what_a_session_cannot_take_is_refused_with_its_state(platform: Platform) -> None:
    client = platform.client
    # given a session whose model does not answer
    platform.worker.replying.clear()
    accepted = await client.post("/v1/sessions", json={"model": "echo", "input": "hello"}, headers={"Prefer": "wait=0"})
    url = f"/v1/sessions/{accepted.json()['id']}"
    # then
    busy = [await client.post(f"{url}/messages", json={"input": "hello?"}), await client.post(f"{url}/close")]
    assert [(answer.status_code, answer.json()["code"]) for answer in busy] == [(409, "busy")] * 2
    assert busy[0].json()["session"]["status"] == "thinking"
    assert busy[0].headers["content-type"] == "application/problem+json"
    # when it is cancelled
    cancelled = await client.post(f"{url}/cancel", json={"reason": "enough"})
    platform.worker.replying.set()
    # then
    assert (cancelled.status_code, cancelled.json()["status"], cancelled.json()["outcome"]) == (200, "ended", "cancelled")
    ended = await client.post(f"{url}/messages", json={"input": "hello?"})
    assert (ended.status_code, ended.json()["code"], ended.json()["session"]["outcome"]) == (409, "ended", "cancelled")


async def test_a_session_is_closed(client: httpx.AsyncClient) -> None:
    session = await start(client)
    answer = await client.post(f"/v1/sessions/{session.id}/close", json={})
    assert (answer.status_code, answer.json()["outcome"]) == (200, "closed")


async def test_a_write_upon_a_state_that_has_passed_is_refused(client: httpx.AsyncClient) -> None:
    session = await start(client, input="hello")
    stale = await client.post(f"/v1/sessions/{session.id}/close", headers={"If-Match": '"3"'})
    assert (stale.status_code, stale.json()["code"], stale.json()["session"]["version"]) == (409, "version_conflict", 4)
    assert (await client.post(f"/v1/sessions/{session.id}/close", headers={"If-Match": '"4"'})).status_code == 200


async def test_whoever_does_not_want_to_wait_gets_a_position(client: httpx.AsyncClient) -> None:
    # when
    answer = await client.post("/v1/sessions", json={"model": "echo", "input": "hello"}, headers={"Prefer": "respond-async"})
    # then
    assert answer.status_code == 202
    accepted = Accepted.model_validate_json(answer.content)
    assert answer.headers["location"] == f"/v1/sessions/{accepted.id}"
    assert (answer.headers["soma-position"], answer.headers["preference-applied"]) == (accepted.position, "respond-async")
    assert (await client.get(answer.headers["location"], params={"position": accepted.position})).status_code == 200


async def test_a_wait_that_runs_out_gives_the_position(platform: Platform) -> None:
    platform.worker.replying.clear()
    answer = await platform.client.post("/v1/sessions", json={"model": "echo", "input": "hello"}, headers={"Prefer": "wait=1"})
    platform.worker.replying.set()
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")


async def test_the_same_key_gives_the_first_answer(client: httpx.AsyncClient) -> None:
    # given
    key = {"Idempotency-Key": "start-1"}
    first = await client.post("/v1/sessions", json={"model": "echo", "input": "hello"}, headers=key)
    id = first.json()["id"]
    said = await client.post(f"/v1/sessions/{id}/messages", json={"input": "two"}, headers=key)
    await client.post(f"/v1/sessions/{id}/close")
    # when
    again = await client.post("/v1/sessions", json={"input": "hello", "model": "echo", "metadata": {}}, headers=key)
    said_again = await client.post(f"/v1/sessions/{id}/messages", json={"input": "two"}, headers=key)
    # then
    assert (again.status_code, again.json()) == (201, first.json())
    assert (said_again.status_code, said_again.json()) == (200, said.json())
    assert [answer.headers.get("idempotency-replayed") for answer in (first, again, said, said_again)] == [None, "true", None, "true"]


async def test_the_same_key_gives_the_first_refusal(client: httpx.AsyncClient) -> None:
    session = await start(client)
    await client.post(f"/v1/sessions/{session.id}/close")
    answers = [await client.post(f"/v1/sessions/{session.id}/close", headers={"Idempotency-Key": "again"}) for _ in range(2)]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(409, "ended")] * 2


async def test_requests_at_once_with_one_key_are_done_once(client: httpx.AsyncClient) -> None:
    # when
    body = {"model": "echo", "input": "hello"}
    answers = await asyncio.gather(*(client.post("/v1/sessions", json=body, headers={"Idempotency-Key": "at-once"}) for _ in range(8)))
    # then
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert {len(answer.json()["messages"]) for answer in answers} == {2}


async def test_a_key_with_another_body_is_refused(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "other-body"}
    assert (await client.post("/v1/sessions", json={"model": "echo"}, headers=key)).status_code == 201
    answer = await client.post("/v1/sessions", json={"model": "echo", "input": "hello"}, headers=key)
    assert (answer.status_code, answer.json()["code"]) == (422, "key_reused")


async def test_models_are_listed_as_openai_does(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/models")).json()
    assert (listed["object"], [(model["id"], model["object"], model["status"]) for model in listed["data"]]) == (
        "list",
        [("echo", "model", "available")],
    )


async def test_health_says_what_works(client: httpx.AsyncClient) -> None:
    for path in ("/health", "/v1/health"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert {name: part["status"] for name, part in answer.json()["parts"].items()} == dict.fromkeys(
            ("gateway", "kafka", "registry", "read_model", "lag", "sign_in", "audit", "seal"), "ok"
        )
    assert (await client.get("/health/live")).json() == {"status": "ok"}


async def test_numbers_are_published_by_route(client: httpx.AsyncClient) -> None:
    await start(client)
    text = (await client.get("/metrics")).text
    assert 'soma_http_seconds_count{method="POST",route="/v1/sessions",status="201"}' in text


async def test_the_callers_trace_travels_on_in_the_command(platform: Platform) -> None:
    # given
    context = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "vendor=1"}
    # when
    answer = await platform.client.post("/v1/sessions", json={"model": "echo"}, headers=context)
    # then
    partition, _, offset = answer.json()["position"].partition(":")
    log = Log(kafka.confluent(platform.settings))
    records = await asyncio.to_thread(lambda: list(log.read(COMMANDS, int(partition), int(offset), int(offset) + 1)))
    assert trace_of(records[0].headers)["traceparent"].split("-")[1] == "0af7651916cd43dd8448eb211c80319c"
    kinds = {name: value for name, value in records[0].headers if name.startswith("ce_")}
    assert (kinds["ce_type"], kinds["ce_source"]) == (b"soma.session.StartSession", b"/local/gateway")
