"""What a session agreed to, what it has used of that, and what it may still do: the budget of a session is kept here."""

from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from commands import allotment
from commands.allotment import Account
from commands.amounts import NOTHING, plus, times
from schemas.types.common import Amounts, Sealed, Usage
from schemas.types.session import AllotmentAsked, Limits, Price, ReplyRequested, SessionStarted, Tool, TurnStopped

MAX_MESSAGES = 1_000
"""Messages of a session, results of tools among them: their places are part of its state."""
MAX_STEPS = 25
"""Model calls of one turn: a loop ends here."""
MAX_REPEATS = 4
"""How often in a row a model may ask for the same call with the same arguments."""
STEPS_AHEAD = 4
"""Model calls, each with a tool call, for which a draw wishes besides what it needs."""
REPLY_TOKENS = 1_024
"""What a reply may take where only the tenant's budget bounds it."""
FLOOR_TOKENS = 16
"""A reply is made to fit what is left of the session's budget, down to so many tokens: with fewer nothing is said, only charged."""
MESSAGE_TOKENS = 16
"""Upper bound of what a message costs in a prompt besides its text."""
MAX_GUESSED = 32
"""Attempts that are remembered for having been charged before their end was told."""


class Terms(Struct, frozen=True, array_like=True):
    """What was agreed at the start and holds for the session's life. `until` is where its wall time ends, `seal` the key of its text."""

    model: str
    reply_seconds: int
    idle_seconds: int
    tools: tuple[Tool, ...] = ()
    limits: Limits | None = None
    max_tokens: int | None = None
    price: Price | None = None
    until: datetime | None = None
    direct: bool = False
    seal: str | None = None

    def tool(self, name: str) -> Tool | None:
        """The tool, if the session was given it."""
        return next((tool for tool in self.tools if tool.name == name), None)


class Unknown(Struct, frozen=True, array_like=True):
    """A call that may have had its effect: nobody knows yet. The tool's version may say where to ask."""

    call: str
    attempt: int
    tool: str
    version: int
    since: datetime


class Streak(Struct, frozen=True, array_like=True):
    """The last call that the model asked for, and how often in a row."""

    tool: str
    digest: bytes
    times: int


class Attempt(Struct, frozen=True, array_like=True):
    """One attempt of a tool call."""

    call: str
    attempt: int


class Stop(Struct, frozen=True, array_like=True):
    """Why the turn ends once its calls are over."""

    code: str
    reason: str


class Talk(Struct, frozen=True, array_like=True):
    """The running account. `context` is an upper bound of the tokens of the next prompt: a token is a byte at least.

    `account` is there where the session draws from its tenant's budget. `guessed` are attempts that were charged when nobody had said how
    they ended, the last MAX_GUESSED: whoever says so later does not send another bill.
    """

    terms: Terms
    messages: int = 0
    context: int = 0
    steps: int = 0
    used: Amounts = NOTHING
    unknown: tuple[Unknown, ...] = ()
    streak: Streak | None = None
    stop: Stop | None = None
    account: Account | None = None
    guessed: tuple[Attempt, ...] = ()


def opened(body: SessionStarted, now: datetime) -> Talk:
    """The account of a session that was just started."""
    seconds = body.limits.seconds if body.limits else None
    terms = Terms(
        body.model,
        body.reply_seconds,
        body.idle_seconds,
        body.tools,
        body.limits,
        body.max_tokens,
        body.price,
        now + timedelta(seconds=seconds) if seconds else None,
        body.direct,
        body.seal,
    )
    told = tokens(body.instructions) if body.instructions else 0
    forked = body.origin.tokens if body.origin else 0
    said = sum(tokens(each.content) for each in body.history)
    messages = (len(body.origin.places) if body.origin else 0) + len(body.history)
    context = told + forked + said + sum(tool.tokens for tool in body.tools)
    return Talk(terms, messages, context, account=Account() if body.governed else None)


def tokens(text: str | Sealed) -> int:
    """Upper bound of what a message with this text takes in a prompt. A ciphertext is longer than its text in UTF-8."""
    return (len(text.encode()) if isinstance(text, str) else len(text.ciphertext)) + MESSAGE_TOKENS


def heard(talk: Talk, text: str | Sealed) -> Talk:
    """After another message."""
    return replace(talk, messages=talk.messages + 1, context=talk.context + tokens(text))


def begun(talk: Talk, text: str | Sealed) -> Talk:
    """After a message of the caller, which begins a turn."""
    return replace(heard(talk, text), steps=0, streak=None, stop=None)


def stepped(talk: Talk) -> Talk:
    """After a model call began. The first one of a turn makes it count."""
    return replace(spent(talk, Amounts(turns=1)) if talk.steps == 0 else talk, steps=talk.steps + 1)


def billed(talk: Talk, usage: Usage | None) -> Talk:
    """After something was paid for."""
    return spent(talk, amounts(usage)) if usage else talk


def guessed(talk: Talk, call: str, attempt: int, usage: Usage | None) -> Talk:
    """After an attempt was charged whose end nobody had told."""
    return replace(billed(talk, usage), guessed=(*talk.guessed, Attempt(call, attempt))[-MAX_GUESSED:]) if usage else talk


def spent(talk: Talk, used: Amounts) -> Talk:
    """After this much was used, by the session and of what it holds of its tenant's budget."""
    return replace(talk, used=plus(talk.used, used), account=allotment.spent(talk.account, used))


def amounts(usage: Usage) -> Amounts:
    return Amounts(tokens=usage.input_tokens + usage.output_tokens, cost_micros=usage.cost_micros)


def reserved(talk: Talk, max_tokens: int | None) -> Usage:
    """The most that a model call can cost: what is charged where the provider does not say."""
    written = max_tokens or 0
    return Usage(input_tokens=talk.context, output_tokens=written, cost_micros=cost(talk.terms.price, talk.context, written))


def cost(price: Price | None, read: int, written: int) -> int:
    """Millionths of the currency, rounded up."""
    return -(-(read * price.input_micros + written * price.output_micros) // 1_000_000) if price else 0


def step(talk: Talk, max_tokens: int | None) -> Amounts:
    """The most that the next model call can take."""
    return plus(amounts(reserved(talk, max_tokens)), Amounts(turns=1 if talk.steps == 0 else 0))


def request(talk: Talk, now: datetime) -> ReplyRequested | AllotmentAsked | TurnStopped:
    """The next model call, within what is left; the draw that it needs first; or why there is none."""
    if talk.stop:
        return TurnStopped(code=talk.stop.code, reason=talk.stop.reason)
    if talk.steps >= MAX_STEPS:
        return TurnStopped(code="steps", reason=f"The model was asked {MAX_STEPS} times in this turn and is not done.")
    if talk.messages > MAX_MESSAGES - 1:  # room for the reply
        return TurnStopped(code="full", reason=f"A session holds at most {MAX_MESSAGES} messages: start a new one.")
    until = talk.terms.until
    if until and now >= until:
        return _budget("wall time", f"It ended at {until.isoformat()}")
    deadline = now + timedelta(seconds=talk.terms.reply_seconds)
    written = _room(talk)
    if isinstance(written, TurnStopped):
        return written
    if talk.account and not allotment.covers(talk.account, need := step(talk, written)):
        return draw(talk, talk.account, need, now)
    return ReplyRequested(model=talk.terms.model, deadline=min(deadline, until) if until else deadline, max_tokens=written)


def draw(talk: Talk, account: Account, need: Amounts, now: datetime) -> AllotmentAsked:
    """Ask the tenant's budget for what an effect needs, and wish for some steps more."""
    dearest = max((tool.cost_micros * tool.attempts for tool in talk.terms.tools), default=0)
    a_call = Amounts(calls=1 if talk.terms.tools else 0, cost_micros=dearest, turns=1)
    ahead = plus(amounts(reserved(talk, _longest(talk))), a_call)
    return allotment.ask(account, need, plus(need, times(ahead, STEPS_AHEAD)), now, allotment.until(now, talk.terms.until))


def over(talk: Talk, reserved_calls: int, reserved_micros: int, micros: int) -> Stop | None:
    """Why one more tool call, which costs `micros` at most, does not fit beside those that are open."""
    limits = talk.terms.limits
    if limits is None:
        return None
    if limits.calls is not None and talk.used.calls + reserved_calls >= limits.calls:
        return Stop("budget", f"The session may make {limits.calls} tool calls, and has made or begun them all.")
    if limits.cost_micros is not None and talk.used.cost_micros + reserved_micros + micros > limits.cost_micros:
        return Stop("budget", f"The session may cost {limits.cost_micros} millionths, and this call might cost more than is left.")
    return None


def _room(talk: Talk) -> int | TurnStopped | None:
    """Tokens that the reply may take; None: as many as the model likes."""
    limits, price, most = talk.terms.limits, talk.terms.price, _longest(talk)
    if limits is None:
        return most
    if limits.turns is not None and talk.steps == 0 and talk.used.turns >= limits.turns:
        return _budget("turns", f"{limits.turns} messages were answered")
    rooms: list[int] = [] if most is None else [most]
    if limits.tokens is not None:
        rooms.append(limits.tokens - talk.used.tokens - talk.context)
    if limits.cost_micros is not None and price and price.output_micros:
        left = limits.cost_micros - talk.used.cost_micros - cost(price, talk.context, 0)
        rooms.append(left * 1_000_000 // price.output_micros)
    room = min(rooms, default=None)
    if room is not None and room < min(FLOOR_TOKENS, most or FLOOR_TOKENS):
        spent = f"{talk.used.tokens} tokens and {talk.used.cost_micros} millionths are spent"
        return _budget("tokens or money", f"{spent}, and the next prompt may take {talk.context} tokens")
    return room


def _longest(talk: Talk) -> int | None:
    """Tokens that a reply may take by the terms alone."""
    return talk.terms.max_tokens or (REPLY_TOKENS if talk.account else None)


def _budget(what: str, why: str) -> TurnStopped:
    return TurnStopped(code="budget", reason=f"The session's {what} are used up: {why}. Start a new session with a larger limit.")
