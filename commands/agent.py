"""The agent: the terms that sessions begin with, under a name. Each version stays, and a session keeps to the one that it began with."""

from msgspec import Struct

from commands.decision import Refusal
from schemas.ids import named_id
from schemas.types.agent import (
    AgentCommand,
    AgentEvent,
    AgentPublished,
    AgentRestored,
    AgentRetired,
    Definition,
    PublishAgent,
    RestoreAgent,
    RetireAgent,
)
from schemas.types.common import CommandMeta

MAX_VERSIONS = 1_000

Body = AgentPublished | AgentRetired | AgentRestored


class Absent(Struct, frozen=True, tag=True):
    """Never published."""


class Offered(Struct, frozen=True, tag=True):
    """Sessions may begin with it."""

    definition: Definition
    version: int


class Retired(Struct, frozen=True, tag=True):
    """No new session may begin with it; those that did go on."""

    definition: Definition
    version: int


State = Absent | Offered | Retired
initial: State = Absent()
Decision = list[Body] | Refusal


def decide(state: State, command: AgentCommand) -> Decision:
    """The events that the command leads to in this state (at least one), or why it is refused. Pure (rule 4)."""
    match command.body, state:
        case PublishAgent() as body, _:
            return _publish(state, body, command.meta)
        case _, Absent():
            return Refusal("not_found", "There is no agent of this name.")
        case RetireAgent() as body, Offered():
            return [AgentRetired(reason=body.reason)]
        case RetireAgent(), Retired():
            return Refusal("unchanged", "It is retired already.")
        case RestoreAgent(), Retired():
            return [AgentRestored()]
        case RestoreAgent(), Offered():
            return Refusal("unchanged", "It is not retired.")
    raise TypeError(f"{type(command.body).__name__} is no command of an agent")


def evolve(state: State, event: AgentEvent) -> State:
    """The state after a versioned event. Total over what `decide` can have decided; raises ValueError on anything else."""
    match event.body, state:
        case AgentPublished() as body, Absent() | Offered():
            return Offered(body.definition, body.version)
        case AgentPublished() as body, Retired():
            return Retired(body.definition, body.version)
        case AgentRetired(), Offered(definition, version):
            return Retired(definition, version)
        case AgentRestored(), Retired(definition, version):
            return Offered(definition, version)
    kind, about = type(event.body).__name__, f"{event.meta.aggregate_id} v{event.meta.version}"
    raise ValueError(f"{kind} cannot follow {type(state).__name__}: {about}")


def _publish(state: State, body: PublishAgent, meta: CommandMeta) -> Decision:
    definition, version = body.definition, 0 if isinstance(state, Absent) else state.version
    if named_id(meta.tenant, "agent", definition.name) != meta.aggregate_id:
        return Refusal("misnamed", f"{definition.name} is not the name of this agent.")
    if not isinstance(state, Absent) and state.definition == definition:
        return Refusal("unchanged", f"This is what version {version} says.")
    if version >= MAX_VERSIONS:
        return Refusal("full", f"An agent has at most {MAX_VERSIONS} versions: publish another one.")
    return [AgentPublished(version=version + 1, definition=definition)]
