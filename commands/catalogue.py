"""What readers know of a tool: what each of its versions says, for sessions pin them, and how it stands."""

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from commands import tool
from commands.tool import Breaker, Offered, Retired
from schemas.types.common import Position
from schemas.types.tool import Definition, ToolEvent, ToolRegistered


class Tool(Struct, frozen=True):
    """A tool that was registered. `versions` begin with version 1; `position` is the last command that changed it."""

    state: Offered | Retired
    versions: tuple[Definition, ...]
    position: Position
    created_at: datetime
    updated_at: datetime

    @property
    def definition(self) -> Definition:
        """What its newest version says."""
        return self.state.definition

    @property
    def version(self) -> int:
        """The newest one."""
        return self.state.version

    @property
    def retired(self) -> bool:
        """Whether no new session may use it."""
        return isinstance(self.state, Retired)

    @property
    def breaker(self) -> Breaker:
        """Whether it works."""
        return self.state.breaker

    def at(self, version: int) -> Definition | None:
        """What this version says, if there is one of this number."""
        return self.versions[version - 1] if 1 <= version <= len(self.versions) else None


def know(known: Tool | None, event: ToolEvent) -> Tool:
    """What is known after a versioned event; before the first one it is None. Raises ValueError as `tool.evolve` does."""
    meta, body = event.meta, event.body
    state = tool.evolve(known.state if known else tool.initial, event)
    assert not isinstance(state, tool.Absent), "nothing makes a tool absent again"
    if known is None:
        return Tool(state, (state.definition,), meta.command, meta.time, meta.time)
    versions = (*known.versions, body.definition) if isinstance(body, ToolRegistered) else known.versions
    return replace(known, state=state, versions=versions, position=meta.command, updated_at=meta.time)
