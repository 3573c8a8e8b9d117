"""What a fork takes along: the places of what was said in a session until one of its versions, folded from its records.

A session can be forked where it rests: after the last event of a command, idle or ended, with no tool call open. Elsewhere its
conversation stops in the middle: a question without its answer, a call without its result.
"""

from typing import NamedTuple

from commands.session import is_message
from commands.situation import Ended, Idle, State, calls, initial
from commands.talk import MAX_MESSAGES, tokens
from projections.session import Summary, summarize
from schemas.types.common import Sealed
from schemas.types.session import Origin, SessionEvent, SessionStarted

MOST_SAID = MAX_MESSAGES - 2
"""Messages that a fork may begin with: a message and its reply have to fit behind them."""


class CannotFork(Exception):
    """The session does not rest at this version; says where it does."""


class Rest(NamedTuple):
    """A version at which the session rests, and what was said until then."""

    version: int
    places: int
    tokens: int


class Past:
    """Takes a session's records in order. `started` and `summary` are None before its first."""

    def __init__(self) -> None:
        self.started: SessionStarted | None = None
        self.summary: Summary | None = None
        self._places: list[int] = []
        self._tokens = 0
        self._rests: list[Rest] = []

    def take(self, event: SessionEvent, offset: int) -> None:
        """Raises ChainBroken as `summarize` does."""
        before = self.summary.state if self.summary else initial
        self.summary = summarize(self.summary, event)
        if self.summary is None or event.meta.version is None:
            return
        if isinstance(event.body, SessionStarted):
            self.started = event.body
            self._tokens = event.body.origin.tokens if event.body.origin else 0
        if is_message(event.body):
            self._places.append(offset)
            self._tokens += _tokens(event)
        if event.meta.index == event.meta.count - 1 and _rests(before, self.summary.state):
            self._rests.append(Rest(event.meta.version, len(self._places), self._tokens))

    def origin(self, version: int | None) -> Origin:
        """What a fork at this version begins with; None: at the last one at which the session rested. Raises CannotFork."""
        assert self.summary and self.started, "only a session that is started is forked"
        if self.started.direct:
            raise CannotFork("This session is for one tool call: it holds no conversation that could go on.")
        found = [rest for rest in self._rests if version is None or rest.version <= version]
        if not found:
            then = "has not come to rest yet: wait for" if version is None else f"had not come to rest at version {version}: fork it after"
            raise CannotFork(f"The session {then} its first reply.")
        rest = found[-1]
        if version not in (None, rest.version):
            raise CannotFork(f"At version {version} an answer or the result of a tool is outstanding: fork it at version {rest.version}.")
        return Origin(session_id=self.summary.id, version=rest.version, places=tuple(self._places[: rest.places]), tokens=rest.tokens)


def _rests(before: State, state: State) -> bool:
    return isinstance(state, Idle) or (isinstance(state, Ended) and not calls(before))


def _tokens(event: SessionEvent) -> int:
    """Upper bound of what the event's text takes in the prompt of any model."""
    texts = [getattr(event.body, name, None) for name in ("content", "arguments", "instructions")]
    return sum(tokens(text) for text in texts if isinstance(text, str | Sealed))
