"""The tool's decider, told as stories and then shaken by random ones."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import catalogue, tool
from commands.decision import Refusal
from commands.tool import Closed, HalfOpen, Offered, Open, Probing, State, decide, evolve
from schemas.ids import named_id
from schemas.types.common import CommandMeta, EventMeta, Position
from schemas.types.tool import (
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    BreakerProbed,
    Definition,
    FailureNoted,
    FailuresForgotten,
    HalfOpenBreaker,
    ProbeTool,
    Python,
    RegisterTool,
    ReportFailure,
    ReportSuccess,
    RestoreTool,
    RetireTool,
    ToolCommand,
    ToolEvent,
    ToolRegistered,
    ToolRestored,
    ToolRetired,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ID = named_id("t", "tool", "adder")


def definition(description: str = "Adds.", name: str = "adder") -> Definition:
    where = Python(entry_point="adder")
    return Definition(
        name=name, description=description, parameters="{}", python=where, repeat="safe", timeout_seconds=30, attempts=3, approval="never"
    )


def register(description: str = "Adds.") -> RegisterTool:
    return RegisterTool(definition=definition(description))


def failed(call: str = "c1") -> ReportFailure:
    return ReportFailure(call=call, reason="no answer")


def probe(call: str) -> ProbeTool:
    return ProbeTool(call=call, executor="x1")


def ask(body: Any, at: datetime = NOON) -> ToolCommand:
    return ToolCommand(meta=CommandMeta(id="c", aggregate_id=ID, tenant="t", actor="a", time=at), body=body)


def event(body: Any, version: int, at: datetime) -> ToolEvent:
    place = Position(epoch="e", partition=0, offset=version)
    meta = EventMeta(
        id="e", aggregate_id=ID, version=version, sequence=version, previous=bytes(16), versions=version, tenant="t", actor="a",
        time=at, command_id="c", command=place, index=0, count=1, origin="test",
    )  # fmt: skip
    return ToolEvent(meta=meta, body=body)


class Story:
    """given(...) commands were taken, when(...) one comes, what then."""

    def __init__(self) -> None:
        self.state: State = tool.initial
        self.known: catalogue.Tool | None = None
        self.events: list[ToolEvent] = []
        self.now = NOON

    def given(self, *bodies: Any) -> "Story":
        for body in bodies:
            assert not isinstance(self.when(body), Refusal), f"given {body} must be possible"
        return self

    def when(self, body: Any) -> Any:
        decided = decide(self.state, ask(body, self.now))
        if not isinstance(decided, Refusal):
            for each in decided:
                self.events.append(event(each, len(self.events) + 1, self.now))
                self.state = evolve(self.state, self.events[-1])
                self.known = catalogue.know_tool(self.known, self.events[-1])
        return decided

    def later(self, seconds: float) -> "Story":
        self.now += timedelta(seconds=seconds)
        return self

    @property
    def breaker(self) -> tool.Breaker:
        assert not isinstance(self.state, tool.Absent)
        return self.state.breaker


def kinds(decided: Any) -> list[type]:
    return [type(body) for body in decided]


def opened() -> Story:
    return Story().given(register(), *[failed(f"c{n}") for n in range(5)])


def half_open() -> Story:
    return opened().later(30).given(HalfOpenBreaker())


def test_versions_are_counted_and_all_of_them_stay_known() -> None:
    story = Story()
    assert story.when(register()) == [ToolRegistered(version=1, definition=definition())]
    assert story.when(register("Adds two.")) == [ToolRegistered(version=2, definition=definition("Adds two."))]
    assert story.known
    assert (story.known.version, story.known.definition) == (2, definition("Adds two."))
    assert [story.known.at(number) for number in (0, 1, 2, 3)] == [None, definition(), definition("Adds two."), None]


def test_a_definition_under_another_tools_id_is_refused() -> None:
    assert Story().when(RegisterTool(definition=definition(name="other"))).code == "misnamed"


def test_a_retired_tool_takes_new_versions_and_stays_retired_until_it_is_restored() -> None:
    story = Story().given(register())
    assert kinds(story.when(RetireTool(reason="unsafe"))) == [ToolRetired]
    assert kinds(story.when(register("Adds safely."))) == [ToolRegistered]
    assert story.known
    assert story.known.retired
    assert kinds(story.when(RestoreTool())) == [ToolRestored]
    assert story.known.state == Offered(definition("Adds safely."), 2, Closed())


def test_the_fifth_failure_in_a_row_opens_the_breaker_for_half_a_minute() -> None:
    story = Story().given(register(), *[failed(f"c{n}") for n in range(4)])
    assert kinds(story.when(failed("c5"))) == [FailureNoted, BreakerOpened]
    assert story.breaker == Open(NOON + timedelta(seconds=30), 1)
    assert tool.due(story.state) == NOON + timedelta(seconds=30)


def test_a_success_forgets_failures() -> None:
    story = Story().given(register(), failed(), failed())
    assert kinds(story.when(ReportSuccess(call="c3"))) == [FailuresForgotten]
    assert story.breaker == Closed()


def test_after_its_time_one_call_may_try_and_closes_the_breaker() -> None:
    story = opened().later(30)
    id, body = tool.when_due(story.state, ID)
    assert (id, body) == tool.when_due(story.state, ID)
    assert kinds(story.when(body)) == [BreakerHalfOpened]
    assert kinds(story.when(probe("p1"))) == [BreakerProbed]
    assert story.when(probe("p2")).code == "open"
    assert story.when(ReportSuccess(call="c4")).code == "unchanged", "a call from before says nothing of now"
    assert kinds(story.when(ReportSuccess(call="p1"))) == [BreakerClosed]
    assert story.breaker == Closed()


def test_each_probe_that_fails_doubles_the_time_up_to_ten_minutes() -> None:
    story, seconds = half_open(), []
    for number in range(7):
        story.given(probe(f"p{number}"))
        assert story.when(failed("c4")).code == "unchanged", "a call from before says nothing of now"
        assert kinds(story.when(failed(f"p{number}"))) == [BreakerOpened]
        assert isinstance(story.breaker, Open)
        seconds.append((story.breaker.until - story.now).total_seconds())
        story.later(seconds[-1]).given(HalfOpenBreaker())
    assert seconds == [60, 120, 240, 480, 600, 600, 600]


def test_a_probe_that_nobody_reports_is_followed_by_another_and_still_counts_until_then() -> None:
    story = half_open().given(probe("p1")).later(60)
    assert isinstance(story.breaker, Probing)
    assert kinds(story.when(probe("p2"))) == [BreakerProbed]
    assert story.when(ReportSuccess(call="p1")).code == "unchanged"
    late = half_open().given(probe("p1")).later(3600)
    assert kinds(late.when(ReportSuccess(call="p1"))) == [BreakerClosed]


def test_a_new_version_closes_the_breaker() -> None:
    assert opened().given(register("Mended.")).breaker == Closed()
    assert half_open().given(probe("p1"), register("Mended.")).breaker == Closed()


@pytest.mark.parametrize(
    ("story", "when", "code"),
    [
        (Story(), RetireTool(), "not_found"),
        (Story(), RestoreTool(), "not_found"),
        (Story(), failed(), "not_found"),
        (Story(), ReportSuccess(call="c"), "not_found"),
        (Story(), probe("p"), "not_found"),
        (Story(), HalfOpenBreaker(), "not_found"),
        (Story().given(register()), register(), "unchanged"),
        (Story().given(register()), RestoreTool(), "unchanged"),
        (Story().given(register(), RetireTool()), RetireTool(), "unchanged"),
        (Story().given(register(), RetireTool()), register(), "unchanged"),
        (Story().given(register()), ReportSuccess(call="c"), "unchanged"),
        (Story().given(register()), probe("p"), "closed"),
        (Story().given(register()), HalfOpenBreaker(), "not_due"),
        (opened(), HalfOpenBreaker(), "not_due"),
        (opened(), probe("p"), "open"),
        (opened(), failed(), "unchanged"),
        (opened(), ReportSuccess(call="c"), "unchanged"),
        (half_open(), failed(), "unchanged"),
    ],
)
def test_what_does_not_fit_the_situation_is_refused_by_name(story: Story, when: Any, code: str) -> None:
    before = story.state
    assert story.when(when).code == code
    assert story.state == before


def test_a_tool_has_only_so_many_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "MAX_VERSIONS", 1)
    assert Story().given(register()).when(register("Adds two.")).code == "full"


calls = st.sampled_from(["c1", "c2", "c3"])
bodies = st.one_of(
    st.builds(register, st.sampled_from(["a", "b"])),
    st.builds(RetireTool),
    st.builds(RestoreTool),
    *[st.builds(failed, calls)] * 6,
    st.builds(ReportSuccess, call=calls),
    *[st.builds(probe, calls), st.builds(HalfOpenBreaker)] * 2,
)
histories = st.lists(st.tuples(bodies, st.integers(0, 700)), max_size=60)


@given(histories)
def test_whatever_is_asked_decisions_are_repeatable_and_replay_gives_the_same(history: list[tuple[Any, int]]) -> None:
    story = Story()
    for body, seconds in [(register(), 0), *history]:
        story.later(seconds)
        before = story.state
        decided = story.when(body)
        assert decided == decide(before, ask(body, story.now)), "the same state and command decide the same"
        assert decided if not isinstance(decided, Refusal) else story.state == before
    state, known = tool.initial, None
    for each in story.events:
        state, known = evolve(state, each), catalogue.know_tool(known, each)
    assert (state, known) == (story.state, story.known)
    assert known
    assert (known.state, len(known.versions)) == (state, known.version)


@given(histories)
def test_the_breaker_is_open_only_for_a_bounded_time_and_one_call_tries(history: list[tuple[Any, int]]) -> None:
    story = Story().given(register())
    for body, seconds in history:
        before = story.later(seconds).breaker
        decided = story.when(body)
        breaker = story.breaker
        assert (tool.due(story.state) is not None) == isinstance(breaker, Open)
        if isinstance(breaker, Closed):
            assert breaker.failures < tool.FAILURES
        if isinstance(breaker, Open) and breaker != before:
            assert timedelta(seconds=30) <= breaker.until - story.now <= timedelta(minutes=10)
        if isinstance(body, ProbeTool) and not isinstance(decided, Refusal):
            assert isinstance(before, HalfOpen) or (isinstance(before, Probing) and story.now >= before.until)


def test_an_event_that_cannot_follow_is_an_error() -> None:
    with pytest.raises(ValueError, match="ToolRetired cannot follow Absent"):
        evolve(tool.initial, event(ToolRetired(), 1, NOON))
    with pytest.raises(ValueError, match="BreakerClosed cannot follow Closed"):
        evolve(Story().given(register()).state, event(BreakerClosed(call="c"), 2, NOON))
