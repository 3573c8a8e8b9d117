"""What readers know of what tenants call by names: what each of its versions says, for sessions pin them, and how it stands."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from commands import agent, tool
from commands.tool import Breaker
from schemas.types.agent import AgentEvent
from schemas.types.agent import Definition as AgentDefinition
from schemas.types.common import Position
from schemas.types.tool import Definition as ToolDefinition
from schemas.types.tool import ToolEvent

S = TypeVar("S")
D = TypeVar("D")
K = TypeVar("K", bound="Known[Any, Any]")


class Known(Struct, Generic[S, D], frozen=True):
    """One of a noun. `state` has its newest definition and version; `versions` begin with version 1; `position` is the last command
    that changed it; `created_by` the actor of the first one.
    """

    state: S
    versions: tuple[D, ...]
    position: Position
    created_at: datetime
    updated_at: datetime
    created_by: str

    @property
    def definition(self) -> D:
        """What its newest version says."""
        return self.versions[-1]

    @property
    def version(self) -> int:
        """The newest one."""
        return len(self.versions)

    @property
    def retired(self) -> bool:
        """Whether no new session may use it."""
        return isinstance(self.state, tool.Retired | agent.Retired)

    def at(self, version: int) -> D | None:
        """What this version says, if there is one of this number."""
        return self.versions[version - 1] if 1 <= version <= len(self.versions) else None


class Tool(Known[tool.Offered | tool.Retired, ToolDefinition], frozen=True):
    """A tool that was registered."""

    @property
    def breaker(self) -> Breaker:
        """Whether it works."""
        return self.state.breaker


class Agent(Known[agent.Offered | agent.Retired, AgentDefinition], frozen=True):
    """An agent that was published."""


def know_tool(known: Tool | None, event: ToolEvent) -> Tool:
    """What is known of a tool after a versioned event; before the first one it is None. Raises ValueError as `tool.evolve` does."""
    return _know(Tool, known, event, tool.evolve(known.state if known else tool.initial, event))


def know_agent(known: Agent | None, event: AgentEvent) -> Agent:
    """The same of an agent."""
    return _know(Agent, known, event, agent.evolve(known.state if known else agent.initial, event))


def _know(kind: Callable[..., K], known: K | None, event: Any, state: Any) -> K:
    """Bodies that hold a definition are new versions."""
    meta, definition = event.meta, getattr(event.body, "definition", None)
    if known is None:
        return kind(state, (definition,), meta.command, meta.time, meta.time, meta.actor)
    versions = known.versions if definition is None else (*known.versions, definition)
    return replace(known, state=state, versions=versions, position=meta.command, updated_at=meta.time)
