"""How many sessions of a tenant are at work at once: by the record, whichever gateway began their turns."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from commands.call import Awaiting
from commands.decision import Refusal
from commands.situation import Acting, Drawing, Thinking, account_of, calls
from gateway.at_work import Tally, begins
from gateway.records import COMMANDS
from ops import kafka
from ops.embedded.process import free_port
from ops.log import Log
from ops.settings import Settings
from schemas.types.common import EventMeta, Position, Refused
from schemas.types.session import AllotmentAsked, ApproveCall, CancelSession, PassAllotment, PostMessage, SessionEvent
from tests.commands import test_drawing as drawing
from tests.commands.test_call import command, reply, start, wish
from tests.commands.test_session import NOON, Story
from tests.gateway.platform import Gateway, Platform, until
from tests.gateway.signing import HMAC, SECRET, bearer, saying, token
from tests.gateway.test_recovery import database_down

ID = "s"
AT_ONCE = {"Prefer": "respond-async"}
BODY = {"model": "echo", "input": "hello"}
THINKING_ALONE = replace(drawing.PLENTY, calls=0)
"""What a tenant's budget grants, so that calls have to be asked for."""
TALK = ("reply", "wish", "begin", "result", "post")
steps = st.lists(st.tuples(st.sampled_from([*TALK, "approve", "deny", "granted", "denied"]), st.integers(0, 3)), min_size=10, max_size=40)
without_approval = st.lists(st.tuples(st.sampled_from(TALK), st.just(0)), min_size=4, max_size=30)


class Recorded(Story):
    """A session whose records a tally can take. `at_work` has whether it was, after each of its commands."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[SessionEvent] = []

    @property
    def at_work(self) -> bool:
        return isinstance(self.state, Thinking | Acting | Drawing)

    def when(self, body: Any, at: Any = NOON) -> Any:
        decided, before = super().when(body, at), len(self.records)
        if not isinstance(decided, Refusal):
            self.records += [record(each, before + index + 1, index, len(decided)) for index, each in enumerate(decided)]
        return decided

    def step(self, step: str, number: int) -> Any:
        """What might come next, whether it fits or not."""
        account = account_of(self.state)
        draw = account.ask.draw if account and account.ask else 0
        granted = drawing.granted(draw, drawing.PLENTY if number else THINKING_ALONE)
        own: dict[str, Any] = {"cancel": CancelSession(), "granted": granted, "denied": drawing.denied(draw)}
        if step == "approve" and (asked := [call for call in calls(self.state) if isinstance(call, Awaiting)]):
            return ApproveCall(call=asked[number % len(asked)].call, digest=asked[number % len(asked)].digest)
        return own.get(step) or command(self, step, number)


def record(body: Any, version: int | None, index: int = 0, count: int = 1, command_id: str = "c") -> SessionEvent:
    place = Position(epoch="e", partition=0, offset=version or 0)
    meta = EventMeta(
        id="e", aggregate_id=ID, version=version, sequence=1, previous=bytes(16), versions=1, tenant="acme", actor="a",
        time=NOON, command_id=command_id, command=place, index=index, count=count, origin="test",
    )  # fmt: skip
    return SessionEvent(meta=meta, body=body)


@settings(max_examples=300)
@given(st.booleans(), steps)
def test_by_its_events_alone_a_session_is_at_work_exactly_when_its_state_is(governed: bool, history: list[tuple[str, int]]) -> None:
    story, tally = Recorded(), Tally()
    story.given(*((drawing.start(), drawing.granted(1, THINKING_ALONE)) if governed else (start(),)))
    for step, number in [*history, ("cancel", 0), ("post", 0)]:
        for event in story.records:
            tally.take(event)
        assert (ID in tally.busy) == story.at_work, story.state
        story.records.clear()
        story.when(story.step(step, number))


@given(without_approval, st.data())
def test_what_the_read_model_answers_and_what_the_record_told_meanwhile_come_to_the_same(history: list[tuple[str, int]], data: Any) -> None:
    # given what a session was at each of its commands
    story, was = Recorded(), list[tuple[int, bool]]()
    story.given(start())
    for step, number in history:
        story.when(story.step(step, number))
        was.append((len(story.records), story.at_work))
    # when the read model is asked at one of them, answers as of that or a later one, and the record is read to any while it does
    (asked, _), (_, answer) = sorted((data.draw(st.sampled_from(was)), data.draw(st.sampled_from(was))))
    heard = max(asked, data.draw(st.sampled_from(was))[0])
    tally = Tally()
    for number, event in enumerate([*story.records, None]):
        if number == asked:
            tally.look()
        if number == heard:
            tally.know([ID] if answer else [])
        if event:
            tally.take(event)
    # then, in the end
    assert (ID in tally.busy) == story.at_work


def test_one_that_waited_for_a_person_before_it_was_known_is_at_work_once_a_call_is_approved() -> None:
    # given
    story, tally = Recorded(), Tally()
    story.given(start(), reply(3, wish("wipe"), wish("wipe", "[]")))
    story.records.clear()
    # when
    for step in ("deny", "approve"):
        assert not tally.busy
        story.given(story.step(step, 0))
        for event in story.records:
            tally.take(event)
        story.records.clear()
    # then
    assert tally.busy == {ID}


def test_one_that_gives_back_what_it_held_of_a_budget_is_not_at_work() -> None:
    # given
    story, tally = Recorded(), Tally()
    story.given(drawing.start(), drawing.granted(1), reply(5))
    # when
    [back] = story.when(PassAllotment(), drawing.after(60))
    assert isinstance(back, AllotmentAsked)
    for event in story.records:
        tally.take(event)
    # then
    assert not tally.busy


def test_what_was_sent_counts_until_its_last_record_is_read() -> None:
    # given
    tally = Tally()
    tally.sent |= {"first", "second"}
    # when
    tally.take(record(Refused(code="busy", reason="It thinks."), None, command_id="first"))
    tally.take(record(Recorded().when(start())[0], 1, 0, 3, "second"))
    # then
    assert tally.sent == {"second"}


def test_a_turn_is_begun_by_a_message_and_by_a_start_with_one_or_with_a_call() -> None:
    assert all(map(begins, (PostMessage(input="hello"), start(), start(input=None, call=wish("add")))))
    assert not any(map(begins, (start(input=None), CancelSession(), ApproveCall(call="c", digest=b""))))


def limited(settings: Settings) -> Gateway:
    """A gateway at which callers sign in, and a tenant has two sessions at work."""
    own: dict[str, Any] = {"gateway_require_auth": True, "gateway_jwt_secret": SECRET, "gateway_tenant_max_sessions": 2}
    return Gateway(settings.model_copy(update=own | {"gateway_port": free_port()}))


@pytest.fixture
def speechless(platform: Platform) -> Iterator[None]:
    """No model answers."""
    platform.worker.replying.clear()
    yield
    platform.worker.replying.set()


def of(tenant: str) -> dict[str, str]:
    return bearer(token(saying(iss=None, aud=None, tenant=tenant), HMAC))


async def begin(gateway: Gateway, tenant: str, path: str = "/v1/sessions", body: Any = BODY, **headers: str) -> httpx.Response:
    return await gateway.client.post(path, json=body, headers=of(tenant) | AT_ONCE | headers)


def written(settings: Settings) -> list[int]:
    """How many commands there are to sessions, by partition."""
    log = Log(kafka.confluent(settings))
    return [log.bounds(COMMANDS, partition)[1] for partition in range(log.partitions(COMMANDS))]


async def counted(gateway: Gateway, sessions: int) -> None:
    """Once the gateway knows of so many at work."""
    async with asyncio.timeout(60):
        while f"soma_sessions_at_work {sessions}.0" not in (await gateway.client.get("/metrics", headers=of("acme"))).text:
            await asyncio.sleep(0.05)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.usefixtures("speechless")
async def test_a_tenant_has_so_many_sessions_at_work_and_the_record_knows_it_after_a_restart(platform: Platform) -> None:
    # given a session that is idle, and two whose turns nobody waits for
    async with limited(platform.settings) as first:
        await first.until_healthy()
        idle = await first.client.post("/v1/sessions", json={"model": "echo"}, headers=of("acme"))
        assert idle.status_code == 201
        begun = [await begin(first, "acme", **{"Idempotency-Key": key}) for key in ("one", "two")]
        assert [each.status_code for each in begun] == [202, 202]
        before = await asyncio.to_thread(written, platform.settings)
        # when a turn more is to begin, through whichever door
        refused = [
            await begin(first, "acme"),
            await begin(first, "acme", f"/v1/sessions/{idle.json()['id']}/messages", {"input": "hello"}),
            await begin(first, "acme", f"/v1/sessions/{idle.json()['id']}/fork", {"input": "hello"}),
            await begin(first, "acme", "/v1/responses", BODY),
            await begin(first, "acme", "/v1/chat/completions", {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}),
        ]
        # then it is refused, and nothing of it is on record
        assert [(each.status_code, each.headers["retry-after"]) for each in refused] == [(429, "1")] * 5
        assert refused[0].json()["code"] == "too_many_requests"
        assert "2 sessions of this tenant are at work" in refused[0].json()["detail"]
        assert await asyncio.to_thread(written, platform.settings) == before
        # and no other tenant is held up, nor what begins no turn, nor who asks after one that was begun
        assert (await begin(first, "other")).status_code == 202
        assert (await begin(first, "acme", body={"model": "echo"})).status_code == 202
        await counted(first, 3)
        assert (await begin(first, "acme", **{"Idempotency-Key": "one"})).status_code == 202
    # when another gateway takes its place
    async with limited(platform.settings) as second:
        await second.until_healthy()
        assert (await begin(second, "acme", **{"Idempotency-Key": "two"})).status_code == 202
        await counted(second, 2)
        assert (await begin(second, "acme")).status_code == 429
        # and one of the two is cancelled
        cancelled = await second.client.post(f"/v1/sessions/{begun[0].json()['id']}/cancel", json={}, headers=of("acme"))
        assert cancelled.status_code == 200
        # then there is room for one
        assert [(await begin(second, "acme")).status_code for _ in range(2)] == [202, 429]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.usefixtures("speechless")
async def test_while_the_read_model_is_away_turns_begin_and_what_began_before_is_counted_later(platform: Platform) -> None:
    # given one at work, of which a gateway that starts cannot ask
    async with limited(platform.settings) as first:
        await first.until_healthy()
        assert (await begin(first, "later")).status_code == 202
        await counted(first, 1)
    async with limited(platform.settings) as second:
        with database_down(platform.settings):
            await until(second.client, "gateway", "ok")
            # when
            assert (await begin(second, "later")).status_code == 202
            await counted(second, 1)
        # then
        await counted(second, 2)
        assert (await begin(second, "later")).status_code == 429
