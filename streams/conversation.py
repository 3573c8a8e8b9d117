"""What a model is told: the session's records, folded into messages. And what a model asks for, checked before it is recorded."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from commands.ledger import DENIED
from ops import json_schema
from schemas.chain import digest
from schemas.types.common import Sealed
from schemas.types.session import (
    AskedCall,
    MessagePosted,
    ReplyRecorded,
    SessionStarted,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallSettled,
)
from schemas.types.tool import Definition
from streams.models import Message, Rejected, Wanted

ARGUMENT_BYTES = 64 << 10
"""Arguments of one call; all those of a reply may take four times as many."""
ROLES: dict[str, Literal["system", "user", "assistant"]] = {"system": "system", "user": "user", "assistant": "assistant"}
"""Of what was said before a session."""
KEPT_CHARACTERS = 1_000
"""What is recorded of arguments that are too large, or no JSON."""


def messages(bodies: Iterable[Any]) -> list[Message]:
    """The conversation. Raises Rejected where it holds text that was sealed."""
    told: list[Message] = []
    for body in bodies:
        match body:
            case SessionStarted():
                told += [Message("system", _open(body.instructions))] if body.instructions else []
                told += [Message(ROLES.get(said.role, "user"), _open(said.content)) for said in body.history]
            case MessagePosted():
                told.append(Message("user", _open(body.content)))
            case ReplyRecorded():
                told.append(Message("assistant", _open(body.content)))
            case ToolCallRequested():
                _attach(told, Wanted(body.call, body.tool, _open(body.arguments)))
            case ToolCallFinished():
                told.append(Message("tool", _result(body), call=body.call))
            case ToolCallSettled():
                told = [replace(each, content=_open(body.content)) if each.call == body.call else each for each in told]
    return _in_order(told)


def asked(wanted: Iterable[Wanted], tools: Mapping[str, Definition]) -> tuple[AskedCall, ...]:
    """The calls that a model asks for, each with what is wrong with it in words that it can mend. `tools` are the session's."""
    calls, room = list[AskedCall](), 4 * ARGUMENT_BYTES
    for each in wanted:
        definition = tools.get(each.tool)
        arguments, problem = _checked(each.arguments, definition, min(room, ARGUMENT_BYTES))
        room -= len(arguments.encode())
        condition = definition.approval_when if definition and definition.approval == "when" else None
        calls.append(
            AskedCall(
                model_id=each.id[:128],
                tool=each.tool[:128],
                arguments=arguments,
                digest=digest(arguments.encode()),
                needs_approval=condition is not None
                and not problem
                and json_schema.problem(condition, msgspec.json.decode(arguments)) is None,
                problem=problem,
            )
        )
    return tuple(calls)


def _checked(text: str, definition: Definition | None, room: int) -> tuple[str, str | None]:
    """The arguments, in one spelling, and what is wrong with them."""
    if len(text.encode()) > room:
        return text[
            :KEPT_CHARACTERS
        ], f"The arguments are too large: at most {ARGUMENT_BYTES} bytes, and {4 * ARGUMENT_BYTES} in one reply."
    try:
        value = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, RecursionError) as error:
        return text[:KEPT_CHARACTERS], f"The arguments are no JSON: {error}"
    if not isinstance(value, dict):
        return text[:KEPT_CHARACTERS], "The arguments must be a JSON object."
    canonical = msgspec.json.encode(value, order="sorted").decode()
    return canonical, json_schema.problem(definition.parameters, value) if definition else None


def _attach(told: list[Message], wanted: Wanted) -> None:
    """Put a call beside the others of its reply. A session for one call has no reply that asked for it."""
    for index in range(len(told) - 1, -1, -1):
        if told[index].role == "assistant":
            told[index] = replace(told[index], calls=(*told[index].calls, wanted))
            return
    told.append(Message("assistant", "", (wanted,)))


def _in_order(told: list[Message]) -> list[Message]:
    """Results in the order in which they were asked for, whenever they came: some servers insist on it."""
    results = {each.call: each for each in told if each.role == "tool"}
    ordered: list[Message] = []
    for each in told:
        if each.role != "tool":
            ordered += [each, *(results[call.id] for call in each.calls if call.id in results)]
    return ordered


def _result(body: ToolCallFinished) -> str:
    """A denial whose note was sealed says no more than the note in the record."""
    text = _open(body.content)
    return f"{DENIED} {text}" if body.outcome == "denied" and not text.startswith(DENIED) and text == body.note else text


def _open(text: str | Sealed) -> str:
    if isinstance(text, Sealed):
        raise Rejected(f"A message of this session is sealed with key {text.key_id}, which is not to be had here.")
    return text
