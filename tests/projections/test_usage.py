"""What tenants used: the sums that the projector, a rebuild and a verification come to."""

from datetime import date
from typing import Any

from fastavro import parse_schema

from ops import kafka as clients
from ops.settings import Settings
from projections import database
from projections.fold import Fold
from projections.nouns import SESSION
from projections.queries import Queries
from projections.reading import Chain, Taken, aggregate_of
from projections.session import EVENTS, Summary
from projections.tables import sessions
from projections.usage import Used
from schemas.chain import digest
from schemas.codec import Codec
from schemas.contract import bundle
from schemas.ids import derived_id, new_id
from schemas.types.common import Usage
from schemas.types.session import (
    AskedCall,
    BeginCall,
    CancelSession,
    PostMessage,
    RecordFailure,
    RecordReply,
    RecordResult,
    SessionEvent,
    SettleCall,
    StartSession,
    Tool,
)
from tests.history import BEGIN, History, produce
from tests.projections.conftest import SECONDS, projecting
from tests.projections.models import contents, run
from tests.projections.test_rebuild import differences, quietly

CODEC = Codec(SessionEvent, 1, {1: parse_schema(bundle("soma.session.SessionEvent"))})
ADD = Tool(name="add", version=1, repeat_safe=True, timeout_seconds=10, attempts=3, cost_micros=5, approval="never", tokens=20)
PAY = Tool(name="pay", version=1, repeat_safe=False, timeout_seconds=10, attempts=1, cost_micros=70, approval="never", tokens=20)
ALL_DAYS = (date(2026, 1, 1), date(2026, 12, 31))


def fold(history: History) -> Fold:
    """What one partition's records come to."""
    number, fold = history.partition.number, Fold(SESSION)
    for offset, event in enumerate(history.events):
        fold.take(Taken(Chain(EVENTS, number), offset, aggregate_of(event, number), event, b""))
    return fold


def start(history: History, model: str = "m") -> str:
    id = new_id(history.partition.number)
    body = StartSession(model=model, input="hello", metadata={}, reply_seconds=60, idle_seconds=3600, tools=(ADD, PAY))
    history.send(id, body)
    return id


def answer(history: History, id: str, *tools: str, cost: int = 100, request: int | None = None) -> list[str]:
    """The model answers: 10 tokens read, 4 written. The calls that it asks for."""
    asked = tuple(AskedCall(model_id=f"m{index}", tool=tool, arguments="{}", digest=digest(b"{}")) for index, tool in enumerate(tools))
    used = Usage(input_tokens=10, output_tokens=4, cost_micros=cost)
    request = request or history.partition.peek(id).state.request
    told = history.send(id, RecordReply(request=request, attempt="a", content="", finish_reason="stop", usage=used, calls=asked))
    return [event.body.call for event in told if hasattr(event.body, "call")]


def begin(history: History, id: str, call: str, attempt: int = 1) -> None:
    history.send(id, BeginCall(call=call, attempt=attempt, executor="e"))


def result(history: History, id: str, call: str, attempt: int = 1, cost: int = 5, **about: Any) -> None:
    used = Usage(input_tokens=0, output_tokens=0, cost_micros=cost)
    plain: dict[str, Any] = {"outcome": "ok", "content": "42", "digest": digest(b"42"), "bytes": 2, "usage": used}
    command_id = derived_id(call, "result", attempt, "")
    history.send(id, RecordResult(call=call, attempt=attempt, **{**plain, **about}), command_id=command_id)


def at_work(history: History) -> str:
    """A session in which everything that costs something happens. Its id."""
    id = start(history)
    adding, paying = answer(history, id, "add", "pay")
    begin(history, id, adding)
    result(history, id, adding, outcome="error", content="again", retry=True)
    begin(history, id, adding, 2)
    result(history, id, adding, 2)
    begin(history, id, paying)
    result(history, id, paying, outcome="unknown")
    request, used = history.partition.peek(id).state.request, Usage(input_tokens=7, output_tokens=0, cost_micros=30)
    history.send(id, RecordFailure(request=request, attempt="a", code="too_large", reason="It is too long.", usage=used))
    history.send(id, SettleCall(call=paying, outcome="ok", content="paid", digest=digest(b"paid")))
    history.send(id, PostMessage(input="and now?"))
    [adding] = answer(history, id, "add")
    begin(history, id, adding)
    history.send(id, CancelSession())
    result(history, id, adding)
    answer(history, id, request=3)
    return id


def test_each_line_says_what_a_model_and_what_its_tools_used() -> None:
    # Given two models, calls that were run again, settled, and whose results came after a cancel
    history = History(CODEC)
    at_work(history)
    answer(history, start(history, "other"))
    # When
    sums = fold(history).sums
    # Then
    by_tool = {(line.model, line.tool): Used(*used) for line, used in sums.items()}
    assert by_tool == {
        ("m", None): Used(3 * 10 + 7, 3 * 4, 3 * 100 + 30, replies=2),
        ("m", "add"): Used(cost_micros=15, tool_calls=2),
        ("m", "pay"): Used(cost_micros=5, tool_calls=1),
        ("other", None): Used(10, 4, 100, replies=1),
    }
    assert {line[:3] for line in sums} == {("default", 0, BEGIN.date())}


def test_the_lines_come_to_what_the_sessions_say() -> None:
    # Given
    history = History(CODEC)
    for _ in range(3):
        at_work(history)
        history.session(turns=2)
    # When
    folded = fold(history)
    # Then
    summaries: list[Summary] = list(folded.states[sessions.name].values())
    said = [(each.input_tokens, each.output_tokens, each.cost_micros) for each in summaries]
    assert [sum(of) for of in zip(*said, strict=True)] == [sum(of) for of in zip(*folded.sums.values(), strict=True)][:3]


def test_another_tenants_command_adds_nothing() -> None:
    # Given
    history = History(CODEC)
    id = start(history)
    # When a reply is sent in another's name, and one for a session that there is not
    used = Usage(input_tokens=10, output_tokens=4, cost_micros=100)
    for session in (id, new_id(0)):
        reply = RecordReply(request=3, attempt="a", content="", finish_reason="stop", usage=used)
        history.send(session, reply, tenant="another")
    # Then
    assert fold(history).sums == {}


async def test_the_projector_adds_what_a_rebuild_sums_and_a_verification_expects(platform: Settings, codec: Codec[SessionEvent]) -> None:
    queries = Queries.connect(database.url(platform))
    histories = [History(codec, 0), History(codec, 1)]
    async with projecting(platform) as applied:
        # Given what two projections write, of two partitions
        for history in histories * 2:
            at_work(history)
            number = history.partition.number
            produce(clients.bootstrap(platform), history.take(), number)
            assert await applied.command(SESSION.commands, number, history.commands - 1, SECONDS)
        assert differences(platform) == []
        # Then it is told by model, day and tool, whatever partition it lies in
        [by_model] = await queries.usage("default", *ALL_DAYS, ["day", "model"], 10)
        assert by_model.of == {"day": BEGIN.date(), "model": "m"}
        assert (by_model.used.replies, by_model.used.tool_calls, by_model.used.cost_micros) == (4 * 2, 4 * 3, 4 * 350)
        by_tool = await queries.usage("default", *ALL_DAYS, ["tool"], 10)
        assert {entry.of["tool"]: entry.used.cost_micros for entry in by_tool} == {None: 1320, "add": 60, "pay": 20}
        assert len(await queries.usage("default", *ALL_DAYS, ["tool"], 2)) == 2
        # And of other days and tenants there is nothing
        assert await queries.usage("default", date(2026, 1, 2), date(2026, 1, 3), ["day"], 10) == []
        assert await queries.usage("another", *ALL_DAYS, ["day"], 10) == []
    await queries.close()
    # When it is made anew
    before = contents(platform)["usage"]
    quietly(platform)
    # Then it is the same, and a wrong sum is told
    assert (contents(platform)["usage"], differences(platform)) == (before, [])
    run(platform, "UPDATE usage SET cost_micros = cost_micros + 1 WHERE tool = 'pay' AND partition = 1")
    assert [each[1:2] + each[3:] for each in differences(platform)] == [("usage", "cost_micros", "10", "11")]
