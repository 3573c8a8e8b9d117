"""What a command about a session leads to, event by event: each is decided in the state that those before it make."""

from typing import Any, Self

from commands import allotment
from commands import call as calling
from commands import talk as talking
from commands.situation import Acting, Idle, State, Waiting, after, calls_at_all
from schemas.types.common import CommandMeta
from schemas.types.session import SessionClosed, TurnStopped


class Draft:
    """Events that are being decided, and the state after them."""

    def __init__(self, state: State, meta: CommandMeta) -> None:
        self.state, self.meta, self.now = state, meta, meta.time
        self.events: list[Any] = []

    def add(self, *bodies: Any) -> Self:
        """These come next. Raises KeyError or ValueError where one cannot follow."""
        for body in bodies:
            self.state = after(self.state, body, self.now, 0)
            self.events.append(body)
        return self

    def go_on(self) -> list[Any]:
        """Once no call is open: ask the model again, or say why not. A session for one call ends with it."""
        if isinstance(self.state, Idle):
            direct = self.state.talk.terms.direct
            self.add(SessionClosed() if direct else talking.request(self.state.talk, self.now))
        return self.events

    def draw(self) -> list[Any]:
        """Go on, once what the tenant's budget allotted covers the calls of which none has begun."""
        if isinstance(self.state, Acting | Waiting) and (account := self.state.talk.account):
            need = calling.need(self.state.talk, self.state.calls)
            if not allotment.covers(account, need):
                self.add(talking.draw(self.state.talk, account, need, self.now))
        return self.go_on()

    def stop(self, code: str, reason: str) -> list[Any]:
        """End a turn that waits for the tenant's budget: no call of it has begun, and none will."""
        for call in calls_at_all(self.state):
            self.add(calling.finished(call.call, 0, "budget", reason))
        if isinstance(self.state, Idle) and self.state.talk.terms.direct:
            return self.go_on()
        self.add(TurnStopped(code=code, reason=reason))
        return self.events
