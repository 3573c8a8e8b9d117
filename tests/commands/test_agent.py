"""The agent's decider, told as stories and then shaken by random ones."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import agent, catalogue
from commands.agent import Offered, Retired, State, decide, evolve
from commands.decision import Refusal
from schemas.ids import named_id
from schemas.types.agent import (
    AgentCommand,
    AgentEvent,
    AgentPublished,
    AgentRestored,
    AgentRetired,
    Definition,
    PublishAgent,
    RestoreAgent,
    RetireAgent,
)
from schemas.types.common import CommandMeta, EventMeta, Position

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ID = named_id("t", "agent", "accountant")


def publish(model: str = "echo", name: str = "accountant") -> PublishAgent:
    return PublishAgent(definition=Definition(name=name, description="Counts.", model=model))


def event(body: Any, version: int) -> AgentEvent:
    place = Position(epoch="e", partition=0, offset=version)
    meta = EventMeta(
        id="e", aggregate_id=ID, version=version, sequence=version, previous=bytes(16), versions=version, tenant="t", actor="a",
        time=NOON, command_id="c", command=place, index=0, count=1, origin="test",
    )  # fmt: skip
    return AgentEvent(meta=meta, body=body)


class Story:
    """given(...) commands were taken, when(...) one comes, what then."""

    def __init__(self) -> None:
        self.state: State = agent.initial
        self.known: catalogue.Agent | None = None
        self.version = 0

    def given(self, *bodies: Any) -> "Story":
        for body in bodies:
            assert not isinstance(self.when(body), Refusal), f"given {body} must be possible"
        return self

    def when(self, body: Any) -> Any:
        decided = decide(self.state, AgentCommand(meta=CommandMeta(id="c", aggregate_id=ID, tenant="t", actor="a", time=NOON), body=body))
        if isinstance(decided, Refusal):
            return decided
        for each in decided:
            self.version += 1
            self.state = evolve(self.state, event(each, self.version))
            self.known = catalogue.know_agent(self.known, event(each, self.version))
        return decided


def test_each_version_stays() -> None:
    story = Story().given(publish("small"), publish("large"))
    assert story.known
    assert (story.known.version, story.known.definition.model) == (2, "large")
    assert [known and known.model for known in map(story.known.at, (0, 1, 2, 3))] == [None, "small", "large", None]


def test_what_the_newest_version_says_is_no_new_one() -> None:
    story = Story().given(publish("small"), publish("large"))
    assert story.when(publish("large")).code == "unchanged"
    assert story.when(publish("small")) == [AgentPublished(version=3, definition=publish("small").definition)]


def test_a_retired_agent_can_be_restored_and_a_new_version_leaves_it_retired() -> None:
    story = Story().given(publish())
    assert story.when(RetireAgent(reason="old")) == [AgentRetired(reason="old")]
    assert story.when(RetireAgent()).code == "unchanged"
    story.given(publish("large"))
    assert isinstance(story.state, Retired)
    assert story.known
    assert story.known.retired
    assert story.when(RestoreAgent()) == [AgentRestored()]
    assert story.when(RestoreAgent()).code == "unchanged"
    assert isinstance(story.state, Offered)
    assert story.state.version == 2


@pytest.mark.parametrize("body", [RetireAgent(), RestoreAgent()])
def test_an_agent_that_was_never_published_is_not_found(body: Any) -> None:
    assert Story().when(body).code == "not_found"


def test_a_definition_under_another_name_is_refused() -> None:
    assert Story().when(publish(name="other")).code == "misnamed"


def test_versions_have_a_bound() -> None:
    full = Offered(publish("v").definition, agent.MAX_VERSIONS)
    meta = CommandMeta(id="c", aggregate_id=ID, tenant="t", actor="a", time=NOON)
    decided = decide(full, AgentCommand(meta=meta, body=publish("w")))
    assert isinstance(decided, Refusal)
    assert decided.code == "full"


COMMANDS = st.one_of(st.sampled_from(["a", "b"]).map(publish), st.just(RetireAgent()), st.just(RestoreAgent()))


@given(st.lists(COMMANDS, max_size=20))
def test_whatever_is_asked_what_is_known_is_what_was_decided(bodies: list[Any]) -> None:
    story, published = Story(), 0
    for body in bodies:
        decided = story.when(body)
        published += not isinstance(decided, Refusal) and isinstance(body, PublishAgent)
    assert (story.known.version if story.known else 0) == published
    if story.known:
        assert story.state == story.known.state
