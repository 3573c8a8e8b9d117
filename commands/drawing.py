"""Commands about what a session holds of its tenant's budget (`commands/allotment.py`)."""

from commands import allotment
from commands.call import Awaiting
from commands.decision import Refusal
from commands.draft import Draft
from commands.ledger import LATE, Decision
from commands.situation import Drawing, Ended, Idle, State, account_of
from schemas.types.common import CommandMeta
from schemas.types.session import AllotmentReceived, PassAllotment, RecordAllotment


def decide(state: State, body: RecordAllotment | PassAllotment, meta: CommandMeta) -> Decision:
    """The budget's answer, or a deadline that is over."""
    return _answered(state, body, meta) if isinstance(body, RecordAllotment) else _passed(state, meta)


def _answered(state: State, body: RecordAllotment, meta: CommandMeta) -> Decision:
    """The answer to the open draw. Whoever waits for it goes on, or ends the turn; nobody else is disturbed."""
    account = account_of(state)
    if account is None or account.ask is None or account.ask.draw != body.draw:
        return LATE
    waits = isinstance(state, Drawing) and any(isinstance(call, Awaiting) for call in state.calls)
    received = AllotmentReceived(
        draw=body.draw, granted=body.granted, code=body.code, reason=body.reason, approval=waits and body.granted is not None
    )
    draft = Draft(state, meta).add(received)
    if not isinstance(state, Drawing):
        return draft.events
    if body.granted is None:
        return draft.stop("unavailable" if body.code == "stale" else "budget", body.reason)
    return draft.draw()


def _passed(state: State, meta: CommandMeta) -> Decision:
    """Nobody answered a draw in time; or what the session holds lies unused."""
    if isinstance(state, Drawing) and meta.time >= state.deadline:
        return Draft(state, meta).stop("unavailable", "The tenant's budget did not answer in time: send the message again later.")
    account = account_of(state) if isinstance(state, Idle | Ended) else None
    given_back = allotment.give_back(account, meta.time) if account else None
    return [given_back] if given_back else Refusal("not_due", "Nothing waits for the tenant's budget past its time.")
