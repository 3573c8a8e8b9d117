"""The attempts of a session's tool calls whose results have not come: by it a result that comes too late is known to be its tool's.

The record of a refusal says what was billed and which command it was, and the ids of such commands are derived (rule 11).
"""

from commands import call as calling
from commands.situation import State, calls
from schemas.ids import derived_id
from schemas.types.session import SessionEvent, ToolCallFinished, ToolCallReturned, ToolCallStarted

MOST = 64
"""Attempts that are remembered, the last ones."""
Begun = dict[str, str]
"""The tool, by the id that the command with the attempt's result has."""


def evolve(begun: Begun, state: State, event: SessionEvent) -> Begun:
    """After a versioned event. `state` is the session's before it."""
    match event.body:
        case ToolCallStarted() as body:
            id, tool = derived_id(body.call, "result", body.attempt, ""), calling.find(calls(state), body.call).tool
            return dict([*begun.items(), (id, tool)][-MOST:])
        case ToolCallFinished() | ToolCallReturned() if event.meta.command_id in begun:
            return {id: tool for id, tool in begun.items() if id != event.meta.command_id}
    return begun
