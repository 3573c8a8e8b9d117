"""What callers write in headers and parameters."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import problems
from gateway.positions import Place, Position, moment, place, position
from gateway.prefer import Prefer, parse
from gateway.problems import Malformed
from gateway.stream import Writing
from schemas.types.common import Sealed
from schemas.types.session import OutputDelta

numbers = st.integers(0, 1023), st.integers(0, 10**18 - 1)


@given(*numbers)
def test_positions_and_places_are_read_as_they_are_written(partition: int, offset: int) -> None:
    assert position(str(Position(partition, offset))) == (partition, offset)
    assert place(str(Place(partition, offset))) == (partition, offset)


@pytest.mark.parametrize("text", ["", "0", "0:", ":1", "0:-1", "1024:0", "0:1 ", "0:1\n", "e0-1", "0:" + "9" * 19, "٠:١"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        position(text)


@pytest.mark.parametrize("text", ["", "0-1", "e0:1", "e0-", "e1024-0", "0:1", "E0-1"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        place(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("12", 12),
        ("0:42", Position(0, 42)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.5+01:00", datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=timezone(timedelta(hours=1)))),
    ],
)
def test_a_moment_is_a_version_a_position_or_a_time(text: str, meant: object) -> None:
    assert moment(text) == meant


@pytest.mark.parametrize(
    ("headers", "meant"),
    [
        ([], Prefer()),
        (["wait=10"], Prefer(wait=10)),
        (["respond-async, wait=10"], Prefer(wait=10, respond_async=True)),
        (["respond-async", "handling=lenient"], Prefer(respond_async=True, lenient=True)),
        (['WAIT = "5" ; why="a, b", Respond-Async;x'], Prefer(wait=5, respond_async=True)),
        (["wait=1, wait=2"], Prefer(wait=1)),
        (["wait=soon, handling=strict, return=minimal, foo"], Prefer()),
        (["wait=-1"], Prefer()),
        (["wait=" + "9" * 10], Prefer()),
        ([",,;=,"], Prefer()),
    ],
)
def test_preferences(headers: list[str], meant: Prefer) -> None:
    assert parse(headers) == meant


@given(st.lists(st.text(max_size=50), max_size=3))
def test_no_header_of_preferences_is_an_error(headers: list[str]) -> None:
    parse(headers)


def test_a_wait_is_bounded_and_asynchronous_means_none() -> None:
    assert [Prefer(wait=50).seconds(30), Prefer(wait=5).seconds(30), Prefer().seconds(30)] == [30, 5, 30]
    assert [Prefer(respond_async=True).seconds(30), Prefer(wait=5, respond_async=True).seconds(30)] == [0, 5]


def test_every_problem_has_its_own_code_and_says_what_to_do() -> None:
    kinds = list(problems.kinds())
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(kind.title and kind.advice and 400 <= kind.status < 600 for kind in kinds)
    assert all(kind.__name__ in (problems.__doc__ or "") for kind in kinds)


def delta(index: int, text: str | Sealed = "x", *, attempt: str = "a", request: int = 1) -> OutputDelta:
    return OutputDelta(session_id="s", request=request, attempt=attempt, index=index, text=text)


def test_an_attempt_whose_beginning_was_missed_is_not_shown() -> None:
    writing = Writing()
    assert [writing.take(each) for each in (delta(1), delta(2))] == [None, None]
    assert [piece and piece.reset for piece in map(writing.take, (delta(0, attempt="b"), delta(1, attempt="b")))] == [True, False]
    assert writing.take(delta(3, attempt="a")) is None


def test_sealed_pieces_are_not_shown() -> None:
    assert Writing().take(delta(0, Sealed(key_id="k", ciphertext=b"c"))) is None


def test_a_piece_that_comes_twice_is_shown_once() -> None:
    writing = Writing()
    assert [piece is not None for piece in map(writing.take, (delta(0), delta(1), delta(1), delta(2)))] == [True, True, False, True]
