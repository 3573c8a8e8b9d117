"""Generated from schemas/avro/agent/ by `soma schemas generate`: change those files instead of this one."""

from msgspec import Struct

from schemas.types.common import CommandMeta, CommandsLost, EventMeta, RecordVoided, Refused, Sealed
from schemas.types.session import Limits



class Definition(Struct, frozen=True, kw_only=True):
    """What an agent is: the terms that its sessions begin with."""

    name: str
    description: str
    model: str
    instructions: str | Sealed | None = None
    tools: tuple[str, ...] = ()
    limits: Limits | None = None
    approvals: dict[str, str] = {}
    metadata: dict[str, str] = {}


class PublishAgent(Struct, frozen=True, kw_only=True, tag=True):
    """Define an agent, or a new version of it."""

    definition: Definition


class RetireAgent(Struct, frozen=True, kw_only=True, tag=True):
    """Let no new session begin with it."""

    reason: str | None = None


class RestoreAgent(Struct, frozen=True, kw_only=True, tag=True):
    """Offer a retired agent again."""


class AgentCommand(Struct, frozen=True, kw_only=True):
    """Value of soma.agent.commands."""

    meta: CommandMeta
    body: PublishAgent | RetireAgent | RestoreAgent


class AgentPublished(Struct, frozen=True, kw_only=True, tag=True):
    """A version of the agent."""

    version: int
    definition: Definition


class AgentRetired(Struct, frozen=True, kw_only=True, tag=True):
    """No new session may begin with it."""

    reason: str | None = None


class AgentRestored(Struct, frozen=True, kw_only=True, tag=True):
    """New sessions may begin with it again."""


class AgentEvent(Struct, frozen=True, kw_only=True):
    """Value of soma.agent.events."""

    meta: EventMeta
    body: AgentPublished | AgentRetired | AgentRestored | Refused | CommandsLost | RecordVoided
