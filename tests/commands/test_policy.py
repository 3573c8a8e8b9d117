"""The policies' decider, told as stories and then shaken by random ones."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import policy
from commands.decision import Refusal
from commands.policy import MAX_BYTES, MAX_MODULES, NAME, ByShipped, ByVersion, State, active, decide, evolve
from schemas.ids import named_id
from schemas.types.common import CommandMeta, EventMeta, Position
from schemas.types.policy import ActivatePolicy, Bundle, Module, PolicyActivated, PolicyCommand, PolicyEvent, PolicyPublished, PublishPolicy

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ID = named_id("t", "policy", NAME)


def publish(text: str = "package soma.gate", modules: int = 1) -> PublishPolicy:
    return PublishPolicy(bundle=Bundle(modules=tuple(Module(name=f"{each}.rego", text=text) for each in range(modules)), data="{}"))


def activate(version: int | None) -> ActivatePolicy:
    return ActivatePolicy(version=version)


def event(body: Any, version: int = 1) -> PolicyEvent:
    place = Position(epoch="e", partition=0, offset=version)
    meta = EventMeta(
        id="e", aggregate_id=ID, version=version, sequence=version, previous=bytes(16), versions=version, tenant="t", actor="a",
        time=NOON, command_id="c", command=place, index=0, count=1, origin="test",
    )  # fmt: skip
    return PolicyEvent(meta=meta, body=body)


def asked(body: Any, id: str = ID) -> PolicyCommand:
    return PolicyCommand(meta=CommandMeta(id="c", aggregate_id=id, tenant="t", actor="a", time=NOON), body=body)


def after(*bodies: Any) -> State:
    state: State = policy.initial
    for body in bodies:
        decided = decide(state, asked(body))
        assert not isinstance(decided, Refusal), f"given {body} must be possible"
        for each in decided:
            state = evolve(state, event(each))
    return state


def test_what_is_published_decides_nothing_before_it_is_activated() -> None:
    state = after(publish("a"), publish("b"))
    assert isinstance(state, ByShipped)
    assert after(publish("a"), publish("b"), activate(1)) == ByVersion(state.digests, 1)


def test_every_version_can_be_gone_back_to_and_the_shipped_policies_too() -> None:
    given = (publish("a"), publish("b"), activate(2))
    assert decide(after(*given), asked(activate(1))) == [PolicyActivated(version=1, former=2)]
    assert decide(after(*given), asked(activate(None))) == [PolicyActivated(version=None, former=2)]
    assert isinstance(after(*given, activate(None)), ByShipped)


def test_the_newest_version_published_again_is_no_new_one_and_an_earlier_one_is() -> None:
    state = after(publish("a"), publish("b"))
    assert _code(decide(state, asked(publish("b")))) == "unchanged"
    [again] = _events(decide(state, asked(publish("a"))))
    assert isinstance(again, PolicyPublished)
    assert (again.version, again.digest) == (3, state.digests[0])


@pytest.mark.parametrize("version", [0, 2, -1])
def test_a_version_that_is_not_there_cannot_decide(version: int) -> None:
    assert _code(decide(after(publish()), asked(activate(version)))) == "not_found"


@pytest.mark.parametrize("version", [None, 1])
def test_what_decides_already_is_not_activated_again(version: int | None) -> None:
    state = after(publish()) if version is None else after(publish(), activate(version))
    assert _code(decide(state, asked(activate(version)))) == "unchanged"


@pytest.mark.parametrize("body", [publish("x" * MAX_BYTES), publish("é" * (MAX_BYTES // 2)), publish(modules=MAX_MODULES + 1)])
def test_policies_are_bounded_in_bytes_and_in_modules(body: PublishPolicy) -> None:
    assert _code(decide(policy.initial, asked(body))) == "too_large"


def test_there_are_so_many_versions_and_no_more() -> None:
    state = ByShipped(tuple(map(str, range(policy.MAX_VERSIONS))))
    assert _code(decide(state, asked(publish()))) == "full"


@pytest.mark.parametrize("body", [publish(), activate(None)])
def test_another_id_is_not_that_of_the_policies(body: Any) -> None:
    assert _code(decide(policy.initial, asked(body, named_id("other", "policy", NAME)))) == "misnamed"


@pytest.mark.parametrize("body", [PolicyActivated(version=2), PolicyActivated(version=None)])
def test_what_cannot_have_happened_is_not_folded(body: Any) -> None:
    with pytest.raises(ValueError, match="cannot follow"):
        evolve(after(publish()), event(body))


@given(st.lists(st.sampled_from("abc").map(publish) | st.sampled_from([None, 0, 1, 2, 3, 9]).map(activate), max_size=40))
def test_whatever_is_asked_what_decides_is_on_the_shelf_and_what_is_on_the_shelf_stays(bodies: list[Any]) -> None:
    state: State = policy.initial
    for body in bodies:
        decided, before = decide(state, asked(body)), state
        for each in () if isinstance(decided, Refusal) else decided:
            state = evolve(state, event(each))
            assert state != before
        assert state.digests[: len(before.digests)] == before.digests
        assert active(state) is None or 1 <= (active(state) or 0) <= len(state.digests)


def _code(decided: Any) -> str:
    assert isinstance(decided, Refusal)
    return decided.code


def _events(decided: Any) -> list[Any]:
    assert isinstance(decided, list)
    return decided
