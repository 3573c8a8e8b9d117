"""The key's decider, told as stories and then shaken by random ones."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import access
from commands.access import MAX_SECRETS, Absent, Issued, Revoked, Secret, State, decide, evolve
from commands.decision import Refusal
from projections.access import Key, know
from schemas.ids import named_id
from schemas.types.access import (
    AccessCommand,
    AccessEvent,
    IssueKey,
    KeyIssued,
    KeyRevoked,
    KeyRotated,
    KeyUsed,
    NoteUse,
    RevokeKey,
    RotateKey,
)
from schemas.types.common import CommandMeta, EventMeta, Position

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = "kq2zr4m7x3ab5cde"
ID = named_id("t", "access", KEY)


def issue(expires_in: int | None = None, key: str = KEY) -> IssueKey:
    expires_at = None if expires_in is None else NOON + timedelta(seconds=expires_in)
    return IssueKey(key=key, name="ci", hash=b"1", pepper="p", scopes=("sessions:read",), expires_at=expires_at)


def rotate(overlap: int = 60, hash: bytes = b"2") -> RotateKey:
    return RotateKey(hash=hash, pepper="p", overlap_seconds=overlap)


def ask(body: Any, at: datetime = NOON) -> AccessCommand:
    return AccessCommand(meta=CommandMeta(id="c", aggregate_id=ID, tenant="t", actor="a", time=at), body=body)


def event(body: Any, version: int, at: datetime) -> AccessEvent:
    place = Position(epoch="e", partition=0, offset=version)
    meta = EventMeta(
        id="e", aggregate_id=ID, version=version, sequence=version, previous=bytes(16), versions=version, tenant="t", actor="a",
        time=at, command_id="c", command=place, index=0, count=1, origin="test",
    )  # fmt: skip
    return AccessEvent(meta=meta, body=body)


class Story:
    """given(...) commands were taken, when(...) one comes, what then."""

    def __init__(self) -> None:
        self.state: State = access.initial
        self.known: Key | None = None
        self.events: list[AccessEvent] = []
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
                self.known = know(self.known, self.events[-1])
        return decided

    def later(self, seconds: float) -> "Story":
        self.now += timedelta(seconds=seconds)
        return self

    @property
    def good(self) -> list[bytes]:
        """The hashes of the secrets that are good now."""
        return [secret.hash for secret in self.known.secrets(self.now)] if self.known else []


def test_a_key_is_issued_with_one_secret_and_what_is_recorded_names_its_tenant_and_issuer() -> None:
    story = Story()
    assert story.when(issue()) == [KeyIssued(key=KEY, name="ci", hash=b"1", pepper="p", scopes=("sessions:read",))]
    assert story.known
    assert (story.known.id, story.known.tenant, story.known.issued_by, story.good) == (KEY, "t", "a", [b"1"])
    assert story.known.status(story.now) == "active"


def test_the_secret_before_a_rotation_is_good_until_the_overlap_is_over() -> None:
    story = Story().given(issue())
    assert story.when(rotate(60)) == [KeyRotated(secret=2, hash=b"2", pepper="p", former_until=NOON + timedelta(seconds=60))]
    assert story.good == [b"2", b"1"]
    assert story.later(59.999).good == [b"2", b"1"]
    assert story.later(0.001).good == [b"2"]


def test_a_rotation_without_overlap_leaves_only_the_new_secret_whatever_was_promised_before() -> None:
    story = Story().given(issue(), rotate(600, b"2"), rotate(600, b"3"))
    assert story.good == [b"3", b"2", b"1"]
    assert story.given(rotate(0, b"4")).good == [b"4"]


def test_a_later_rotation_does_not_prolong_an_overlap() -> None:
    story = Story().given(issue(), rotate(60, b"2")).later(30).given(rotate(3600, b"3"))
    assert story.good == [b"3", b"2", b"1"]
    assert story.later(30).good == [b"3", b"2"]


def test_only_so_many_secrets_are_good_at_once() -> None:
    story = Story().given(issue(), *[rotate(600, bytes([number])) for number in range(2, MAX_SECRETS + 1)])
    assert len(story.good) == MAX_SECRETS
    assert story.when(rotate(600)).code == "full"
    assert story.given(rotate(0, b"z")).good == [b"z"]


def test_an_expired_key_is_worth_nothing_to_the_moment_and_cannot_be_rotated_but_revoked() -> None:
    story = Story().given(issue(expires_in=60))
    assert story.later(59.999).good == [b"1"]
    assert story.later(0.001).good == []
    assert story.known
    assert story.known.status(story.now) == "expired"
    assert story.when(rotate()).code == "expired"
    assert story.when(RevokeKey(reason="tidy")) == [KeyRevoked(reason="tidy")]


def test_a_revoked_key_is_worth_nothing_for_good_and_its_hashes_are_forgotten() -> None:
    story = Story().given(issue(), rotate(600), RevokeKey(reason="leaked"))
    assert story.good == []
    assert story.state == Revoked(KEY, "ci", ("sessions:read",), None, 2, None, "leaked")


def test_a_use_is_noted_once_an_hour() -> None:
    story = Story().given(issue())
    assert story.when(NoteUse(at=NOON)) == [KeyUsed(at=NOON)]
    assert story.when(NoteUse(at=NOON + timedelta(minutes=59))).code == "unchanged"
    assert story.when(NoteUse(at=NOON - timedelta(minutes=5))).code == "unchanged", "another gateway saw it earlier, and tells later"
    assert story.when(NoteUse(at=NOON + timedelta(hours=1))) == [KeyUsed(at=NOON + timedelta(hours=1))]


@pytest.mark.parametrize(
    ("story", "when", "code"),
    [
        (Story(), rotate(), "not_found"),
        (Story(), RevokeKey(), "not_found"),
        (Story(), NoteUse(at=NOON), "not_found"),
        (Story(), issue(key="anotherkeyaltogether"), "misnamed"),
        (Story(), issue(expires_in=0), "expired"),
        (Story().given(issue()), issue(), "exists"),
        (Story().given(issue()), rotate(-1), "overlap"),
        (Story().given(issue()), rotate(10**9), "overlap"),
        (Story().given(issue(), RevokeKey()), issue(), "exists"),
        (Story().given(issue(), RevokeKey()), rotate(), "revoked"),
        (Story().given(issue(), RevokeKey()), RevokeKey(), "unchanged"),
        (Story().given(issue(), RevokeKey()), NoteUse(at=NOON), "unchanged"),
    ],
)
def test_what_does_not_fit_the_situation_is_refused_by_name(story: Story, when: Any, code: str) -> None:
    before = story.state
    assert story.when(when).code == code
    assert story.state == before


hashes = st.binary(min_size=1, max_size=2)
bodies = st.one_of(
    *[st.builds(rotate, st.integers(-1, 400), hashes)] * 4,
    st.builds(issue, st.integers(-10, 2000)),
    st.builds(NoteUse, at=st.integers(0, 20_000).map(lambda seconds: NOON + timedelta(seconds=seconds))),
    st.builds(RevokeKey),
)
histories = st.tuples(st.none() | st.integers(1, 3000), st.lists(st.tuples(bodies, st.integers(0, 300)), max_size=40))


@given(histories)
def test_whatever_is_asked_decisions_are_repeatable_and_replay_gives_the_same(history: tuple[int | None, list[tuple[Any, int]]]) -> None:
    expires_in, steps = history
    story = Story()
    for body, seconds in [(issue(expires_in), 0), *steps]:
        before = story.later(seconds).state
        decided = story.when(body)
        assert decided == decide(before, ask(body, story.now)), "the same state and command decide the same"
        assert decided if not isinstance(decided, Refusal) else story.state == before
    state, known = access.initial, None
    for each in story.events:
        state, known = evolve(state, each), know(known, each)
    assert (state, known) == (story.state, story.known)


@given(histories)
def test_what_is_good_was_given_is_not_past_its_time_and_never_comes_back(history: tuple[int | None, list[tuple[Any, int]]]) -> None:
    expires_in, steps = history
    story, gone = Story().given(issue(expires_in)), set[int]()
    for body, seconds in steps:
        before = story.later(seconds).state
        story.when(body)
        good = {secret.number for secret in _secrets(story.state) if story.known and secret in story.known.secrets(story.now)}
        assert not good & gone, "a secret that was worth nothing is good again"
        gone |= {secret.number for secret in _secrets(before)} - good
        assert len(good) <= MAX_SECRETS
        if expires_in is not None and story.now >= NOON + timedelta(seconds=expires_in):
            assert not good
        if isinstance(story.state, Revoked):
            assert not good
        if isinstance(story.state, Issued):
            assert story.state.secrets[0].until is None, "the newest secret ends only with its key"


def _secrets(state: State) -> tuple[Secret, ...]:
    return state.secrets if isinstance(state, Issued) else ()


def test_an_event_that_cannot_follow_is_an_error() -> None:
    with pytest.raises(ValueError, match="KeyRevoked cannot follow Absent"):
        evolve(Absent(), event(KeyRevoked(), 1, NOON))
    with pytest.raises(ValueError, match="KeyUsed cannot follow Revoked"):
        evolve(Story().given(issue(), RevokeKey()).state, event(KeyUsed(at=NOON), 3, NOON))
