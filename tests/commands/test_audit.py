"""The audit's decider: numbers tell what is new from what is sent again."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import audit
from commands.audit import MOST, SOURCES, Kept, Source, audit_id, decide, evolve
from commands.decision import Refusal
from schemas.ids import partition_of
from schemas.types.audit import AuditCommand, AuditEvent, Decision, DecisionsNoted, NoteDecisions
from schemas.types.common import CommandMeta, EventMeta, Position

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def made(name: str = "d", **more: Any) -> Decision:
    about = {"actor": "ada", "kind": "user", "action": "session.read", "resource": "session", "outcome": "allowed", "method": "GET"}
    return Decision(**{"id": name, "time": NOON, **about, **more})


def note(number: int, source: str = "g1", decisions: int = 1) -> NoteDecisions:
    return NoteDecisions(source=source, number=number, decisions=tuple(made(f"{source}/{number}/{index}") for index in range(decisions)))


def ask(body: NoteDecisions, tenant: str = "t", id: str | None = None) -> AuditCommand:
    meta = CommandMeta(id="c", aggregate_id=id or audit_id(tenant), tenant=tenant, actor="gateway", time=NOON)
    return AuditCommand(meta=meta, body=body)


def event(body: Any, version: int) -> AuditEvent:
    place = Position(epoch="e", partition=0, offset=version)
    meta = EventMeta(
        id="e", aggregate_id=audit_id("t"), version=version, sequence=version, previous=bytes(16), versions=version, tenant="t",
        actor="gateway", time=NOON, command_id="c", command=place, index=0, count=1, origin="test",
    )  # fmt: skip
    return AuditEvent(meta=meta, body=body)


def after(*bodies: NoteDecisions) -> tuple[Kept, list[Any]]:
    state, answers = audit.initial, list[Any]()
    for body in bodies:
        decided = decide(state, ask(body))
        answers.append(decided)
        for each in [] if isinstance(decided, Refusal) else decided:
            state = evolve(state, event(each, len(answers)))
    return state, answers


def test_decisions_are_numbered_for_their_tenant_whoever_noted_them() -> None:
    state, answers = after(note(1, "g1", 3), note(1, "g2", 2), note(2, "g1"))
    assert [decided[0].first for decided in answers] == [1, 4, 6]
    assert state == Kept(6, (Source("g2", 1), Source("g1", 2)))


def test_what_is_sent_again_is_on_record_and_stays_there_once() -> None:
    state, answers = after(note(1), note(2), note(1), note(2), note(4), note(3))
    assert [isinstance(each, Refusal) and each.code for each in answers] == [False, False, "unchanged", "unchanged", False, "unchanged"]
    assert state.decisions == 3


def test_what_is_no_batch_of_this_tenant_is_refused_by_name() -> None:
    empty, large = decide(audit.initial, ask(note(1, decisions=0))), decide(audit.initial, ask(note(1, decisions=MOST + 1)))
    assert [refused.code for refused in (empty, large) if isinstance(refused, Refusal)] == ["count", "count"]
    other = decide(audit.initial, ask(note(1), id=audit_id("u")))
    assert isinstance(other, Refusal)
    assert other.code == "misnamed"


def test_a_tenants_audit_has_one_home_and_all_homes_are_used() -> None:
    assert audit_id("t") == audit_id("t") != audit_id("u")
    assert {partition_of(audit_id(f"tenant {number}")) for number in range(100)} == set(range(audit.PARTITIONS))


def test_gateways_of_long_ago_are_forgotten() -> None:
    state, _ = after(*[note(1, f"g{number}") for number in range(SOURCES + 5)])
    assert len(state.sources) == SOURCES
    assert state.last("g4") == 0
    assert state.last("g5") == 1


def test_an_event_that_leaves_decisions_out_is_an_error() -> None:
    with pytest.raises(ValueError, match="DecisionsNoted cannot follow 0 decisions"):
        evolve(audit.initial, event(DecisionsNoted(source="g", number=1, first=2, decisions=(made(),)), 1))


batches = st.builds(note, st.integers(1, 6), st.sampled_from(["g1", "g2", "g3"]), st.integers(1, 3))


@given(st.lists(batches, max_size=30))
def test_whatever_comes_again_or_late_nothing_is_recorded_twice_and_numbers_have_no_gap(bodies: list[NoteDecisions]) -> None:
    state, answers = after(*bodies)
    recorded = [body for answer in answers if not isinstance(answer, Refusal) for body in answer]
    assert len({(body.source, body.number) for body in recorded}) == len(recorded)
    assert state.decisions == sum(len(body.decisions) for body in recorded)
    assert [body.first for body in recorded] == [1 + sum(len(each.decisions) for each in recorded[:at]) for at in range(len(recorded))]
