"""The relations to one object, told as stories and then shaken by random ones."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import relation
from commands.decision import Refusal
from commands.relation import MAX_SUBJECTS, Bond, Bound, State, decide, evolve
from schemas.ids import named_id
from schemas.types.common import CommandMeta, EventMeta, Position
from schemas.types.relation import Relate, Related, RelationCommand, RelationEvent, Unrelate, Unrelated

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SESSION = "session:019ab3c2-7e1d-7cc0-9f6a-3b1de5a1c000"


def relate(subject: str, role: str = "viewer", object: str = SESSION) -> Relate:
    return Relate(object=object, relation=role, subject=subject)


def unrelate(subject: str, role: str = "viewer", object: str = SESSION) -> Unrelate:
    return Unrelate(object=object, relation=role, subject=subject)


def event(body: Any, version: int) -> RelationEvent:
    place = Position(epoch="e", partition=0, offset=version)
    meta = EventMeta(
        id="e", aggregate_id="a", version=version, sequence=version, previous=bytes(16), versions=version, tenant="t", actor="a",
        time=NOON, command_id="c", command=place, index=0, count=1, origin="test",
    )  # fmt: skip
    return RelationEvent(meta=meta, body=body)


class Story:
    """given(...) commands were taken, when(...) one comes, what then."""

    def __init__(self) -> None:
        self.state: State = relation.initial
        self.version = 0

    def given(self, *bodies: Any) -> "Story":
        for body in bodies:
            assert not isinstance(self.when(body), Refusal), f"given {body} must be possible"
        return self

    def when(self, body: Any) -> Any:
        meta = CommandMeta(id="c", aggregate_id=named_id("t", "relation", body.object), tenant="t", actor="a", time=NOON)
        decided = decide(self.state, RelationCommand(meta=meta, body=body))
        if isinstance(decided, Refusal):
            return decided
        for each in decided:
            self.version += 1
            self.state = evolve(self.state, event(each, self.version))
        return decided

    @property
    def bonds(self) -> tuple[Bond, ...]:
        return self.state.bonds if isinstance(self.state, Bound) else ()


def test_a_relation_is_given_once_and_taken_back_once() -> None:
    story = Story()
    assert story.when(relate("user:bob")) == [Related(object=SESSION, relation="viewer", subject="user:bob")]
    assert story.when(relate("user:bob")).code == "unchanged"
    assert story.when(unrelate("user:bob")) == [Unrelated(object=SESSION, relation="viewer", subject="user:bob")]
    assert story.when(unrelate("user:bob")).code == "unchanged"
    assert story.bonds == ()


def test_one_may_have_several() -> None:
    story = Story().given(relate("user:bob"), relate("user:bob", "approver"), unrelate("user:bob"))
    assert story.bonds == (Bond("approver", "user:bob"),)


def test_what_nobody_ever_had_cannot_be_taken_back() -> None:
    assert Story().when(unrelate("user:bob")).code == "not_found"


def test_there_is_room_for_so_many_and_again_for_one_when_one_goes() -> None:
    story = Story().given(*(relate(f"user:{number}") for number in range(MAX_SUBJECTS)))
    assert story.when(relate("user:more")).code == "full"
    assert story.given(unrelate("user:0")).when(relate("user:more"))[0].subject == "user:more"


@pytest.mark.parametrize(
    ("object", "role", "subject", "code"),
    [
        (SESSION, "owner", "user:bob", "no_such_relation"),
        (SESSION, "member", "user:bob", "no_such_relation"),
        ("group:g", "viewer", "user:bob", "no_such_relation"),
        ("group:g", "member", "group:g", "no_such_relation"),
        ("tenant:t", "parent", "user:bob", "no_such_relation"),
        ("tenant:t", "admin", "tenant:u", "no_such_relation"),
        ("log:x", "reached", "progress:1", "no_such_relation"),
        (SESSION, "viewer", "bob", "misnamed"),
        (SESSION, "viewer", "user:", "misnamed"),
        (SESSION, "viewer", "user:*", "misnamed"),
        (SESSION, "viewer", "group:g#member", "misnamed"),
        (SESSION, "viewer", "user:a b", "misnamed"),
        ("session:", "viewer", "user:bob", "misnamed"),
    ],
)
def test_a_relation_that_cannot_be_is_refused(object: str, role: str, subject: str, code: str) -> None:
    assert Story().when(relate(subject, role, object)).code == code


def test_an_object_of_another_aggregate_is_refused() -> None:
    meta = CommandMeta(id="c", aggregate_id=named_id("other", "relation", SESSION), tenant="t", actor="a", time=NOON)
    refused = decide(relation.initial, RelationCommand(meta=meta, body=relate("user:bob")))
    assert isinstance(refused, Refusal) and refused.code == "misnamed"


WISHES = st.builds(
    lambda kind, subject, role: kind(object=SESSION, relation=role, subject=subject),
    st.sampled_from([Relate, Unrelate]),
    st.sampled_from(["user:a", "user:b", "group:g"]),
    st.sampled_from(["viewer", "editor"]),
)


@given(st.lists(WISHES, max_size=30))
def test_whatever_is_asked_in_whatever_order_the_last_word_counts(wishes: list[Relate | Unrelate]) -> None:
    story, held = Story(), set[tuple[str, str]]()
    for wish in wishes:
        story.when(wish)
        (held.add if isinstance(wish, Relate) else held.discard)((wish.relation, wish.subject))
    assert {(bond.relation, bond.subject) for bond in story.bonds} == held
    assert len(story.bonds) == len(held)
