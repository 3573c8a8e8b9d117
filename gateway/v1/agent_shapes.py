"""Agents as callers write and see them."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from gateway.v1.named_shapes import Description, Standing
from gateway.v1.shapes import Input, Limits, Metadata, Request, Sealed, ToolName
from schemas.types import agent, session

EXAMPLE: dict[str, Any] = {
    "name": "accountant",
    "version": 1,
    "status": "offered",
    "description": "Answers questions about numbers.",
    "model": "echo",
    "position": "0:12",
    "created_at": "2026-01-31T12:00:00.000000Z",
    "updated_at": "2026-01-31T12:00:00.000000Z",
}
AGENT = EXAMPLE | {
    "newest": 1,
    "instructions": "Calculate with the calculator.",
    "tools": ["calculator"],
    "limits": {"tokens": None, "cost_micros": None, "calls": 20, "turns": None, "seconds": None},
    "approvals": {"calculator": "always"},
    "metadata": {"team": "blue"},
}


class NewAgent(Request):
    """The terms that sessions begin with."""

    description: Annotated[
        Description, Field(description="What it is for; at most 4 KiB.", examples=["Answers questions about numbers."])
    ] = ""
    model: Annotated[str, Field(min_length=1, max_length=128, description="A name that GET /v1/models lists.", examples=["echo"])]
    instructions: Annotated[
        Input | None, Field(description="What the model is told first.", examples=["Calculate with the calculator."])
    ] = None
    tools: Annotated[
        list[ToolName],
        Field(
            default_factory=list,
            max_length=64,
            description="`name`, the newest version when a session begins, or `name@version`.",
            examples=[["calculator"]],
        ),
    ]
    limits: Annotated[Limits | None, Field(description="What each of its sessions may use.", examples=[{"calls": 20}])] = None
    approvals: Annotated[
        dict[str, Literal["always"]],
        Field(
            default_factory=dict,
            description="By the tool's name: a person has to approve of each call, whatever the tool itself says.",
            examples=[{"calculator": "always"}],
        ),
    ]
    metadata: Annotated[Metadata, Field(default_factory=dict, description="Labels of your own.", examples=[{"team": "blue"}])]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [tool.partition("@")[0] for tool in self.tools]
        if len(set(names)) < len(names):
            raise ValueError("tools names one of them twice")
        if strange := sorted(self.approvals.keys() - set(names)):
            raise ValueError(f"approvals names {strange[0][:64]!r}, which is none of the tools")
        return self

    def definition(self, name: str) -> agent.Definition:
        """As the record keeps it."""
        plain = self.model_dump(exclude={"tools", "limits"})
        limits = session.Limits(**self.limits.model_dump()) if self.limits else None
        return agent.Definition(name=name, tools=tuple(self.tools), limits=limits, **plain)


class AgentOverview(Standing):
    """An agent without its terms."""

    model: Annotated[str, Field(examples=["echo"])]


class Agent(AgentOverview):
    """An agent, whole: the terms of one version, and how the agent stands now."""

    newest: Annotated[int, Field(description="The newest version; this is one of those up to it.", examples=[2])]
    instructions: str | Sealed | None
    tools: list[str]
    limits: Limits | None
    approvals: dict[str, Literal["always"]]
    metadata: dict[str, str]


class AgentList(BaseModel):
    """A page of agents, by name."""

    agents: list[AgentOverview]
    next_cursor: Annotated[str | None, Field(description="Gives the next page; null on the last one.")]
