"""Tools as callers write and see them."""

import json
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from gateway.v1.named_shapes import NAME, Description, Standing
from gateway.v1.shapes import Request
from ops import json_schema
from schemas.types import tool

ADDRESS = r"^https?://[^\s]+$"
TEMPLATE = rf"{ADDRESS}|^\{{\+url\}}$"


def _usable(schema: dict[str, Any]) -> dict[str, Any]:
    if wrong := json_schema.invalid(text(schema)):
        raise ValueError(wrong)
    return schema


def text(schema: dict[str, Any]) -> str:
    """A schema as the record keeps it. Raises ValueError where it holds what JSON has no word for."""
    return json.dumps(schema, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


Schema = Annotated[dict[str, Any], AfterValidator(_usable)]
"""JSON Schema, at most 64 KiB, which refers to nothing outside of itself."""
Headers = Annotated[
    dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")], Annotated[str, Field(max_length=1024)]], Field(max_length=32)
]
Address = Annotated[str, Field(pattern=ADDRESS, max_length=2048)]
SECRETS = "Values may hold ${secret:NAME}, which is looked up where the call is made."


class Http(Request):
    """A tool behind an HTTP address."""

    method: Annotated[Literal["GET", "POST", "PUT", "PATCH", "DELETE"], Field(examples=["GET"], description="How it is called.")]
    url: Annotated[
        str,
        Field(
            pattern=TEMPLATE,
            max_length=2048,
            examples=["https://example.org/add/{x}"],
            description="RFC 6570 level 1 template: {name} is an argument. "
            "{+url} alone: the argument `url` is the address, of a host that the operator listed in SOMA_HTTP_GET_HOSTS.",
        ),
    ]
    headers: Annotated[Headers, Field(default_factory=dict, examples=[{}], description=SECRETS)]
    status_url: Annotated[
        Address | None, Field(examples=[None], description="Template with {call}: answers how a call ended whose outcome is unknown.")
    ] = None


class Mcp(Request):
    """A tool of an MCP server: of one with streamable HTTP at `url`, or of one with stdio, started by `command`."""

    tool: Annotated[str, Field(min_length=1, max_length=128, examples=["add"], description="Its name there.")]
    url: Annotated[Address | None, Field(examples=["https://example.org/mcp"], description="Of a server with streamable HTTP.")] = None
    command: Annotated[
        list[Annotated[str, Field(max_length=1024)]],
        Field(default_factory=list, max_length=32, examples=[[]], description="Of a server with stdio."),
    ]
    headers: Annotated[Headers, Field(default_factory=dict, examples=[{}], description=SECRETS)]

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        if (self.url is None) == (not self.command):
            raise ValueError("give either url or command")
        return self


class Python(Request):
    """A function that is installed beside the executor."""

    entry_point: Annotated[
        str, Field(min_length=1, max_length=128, examples=["calculator"], description="Its name in the group `soma.tools`.")
    ]


class NewTool(Request):
    """What a tool is. Exactly one of `http`, `mcp` and `python` says where."""

    name: Annotated[str, Field(pattern=NAME, description="By which models call it.", examples=["adder"])]
    description: Annotated[Description, Field(min_length=1, description="What it does, for models; at most 4 KiB.", examples=["Adds."])]
    parameters: Annotated[
        Schema,
        Field(description="JSON Schema of the arguments, at most 64 KiB, complete in itself.", examples=[{"type": "object"}]),
    ]
    result: Annotated[Schema | None, Field(description="JSON Schema of the result.", examples=[{"type": "number"}])] = None
    http: Annotated[Http | None, Field(description="Where it is.", examples=[{"method": "GET", "url": "https://example.org/add/{x}"}])] = (
        None
    )
    mcp: Annotated[Mcp | None, Field(description="Where it is.", examples=[None])] = None
    python: Annotated[Python | None, Field(description="Where it is.", examples=[None])] = None
    repeat: Annotated[
        Literal["safe", "never"], Field(description="Whether a call may be run again after a lost executor.", examples=["safe"])
    ] = "never"
    timeout_seconds: Annotated[int, Field(ge=1, le=3600, description="How long one attempt may take.", examples=[30])] = 30
    attempts: Annotated[
        int, Field(ge=1, le=10, description="How often a call may be started, where it may be run again.", examples=[3])
    ] = 3
    cost_micros: Annotated[int, Field(ge=0, le=10**12, description="What an attempt costs at most, in millionths.", examples=[0])] = 0
    approval: Annotated[
        Literal["never", "always", "when"], Field(description="Whether a person has to approve of a call.", examples=["never"])
    ] = "never"
    approval_when: Annotated[
        Schema | None, Field(description="With `approval: when`: arguments that fit it need an approval.", examples=[None])
    ] = None
    allowed_hosts: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=253)]],
        Field(
            default_factory=list,
            max_length=64,
            description="Hosts that it may reach; none: the one of its address.",
            examples=[["example.org"]],
        ),
    ]
    concurrency: Annotated[int, Field(ge=1, le=1000, description="Calls that one executor runs at once.", examples=[8])] = 8

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if [self.http, self.mcp, self.python].count(None) != 2:
            raise ValueError("give exactly one of http, mcp and python")
        if (self.approval == "when") != (self.approval_when is not None):
            raise ValueError("approval_when belongs to approval: when")
        return self

    def definition(self) -> tool.Definition:
        """As the record keeps it."""
        http, mcp, python = self.http, self.mcp, self.python
        plain = self.model_dump(exclude={"parameters", "result", "approval_when", "http", "mcp", "python", "allowed_hosts"})
        return tool.Definition(
            **plain,
            parameters=text(self.parameters),
            result=text(self.result) if self.result is not None else None,
            approval_when=text(self.approval_when) if self.approval_when is not None else None,
            http=tool.Http(**http.model_dump()) if http else None,
            mcp=tool.Mcp(tool=mcp.tool, url=mcp.url, command=tuple(mcp.command), headers=mcp.headers) if mcp else None,
            python=tool.Python(entry_point=python.entry_point) if python else None,
            allowed_hosts=tuple(self.allowed_hosts),
        )


class Breaker(BaseModel):
    """Whether it works. `open`: calls are answered at once that it is unavailable; `half_open`: one call tries."""

    status: Literal["closed", "open", "half_open"]
    failures: Annotated[int | None, Field(description="How many in a row, while it is closed.")]
    until: Annotated[datetime | None, Field(description="When one may try, while it is open.")]


class ToolOverview(Standing):
    """A tool without its definition."""

    breaker: Breaker


class Tool(ToolOverview):
    """A tool, whole: the definition of one version, and how the tool stands now."""

    newest: Annotated[int, Field(description="The newest version; this is one of those up to it.", examples=[2])]
    parameters: dict[str, Any]
    result: dict[str, Any] | None
    http: Http | None
    mcp: Mcp | None
    python: Python | None
    repeat: Literal["safe", "never"]
    timeout_seconds: int
    attempts: int
    cost_micros: int
    approval: Literal["never", "always", "when"]
    approval_when: dict[str, Any] | None
    allowed_hosts: list[str]
    concurrency: int


class ToolList(BaseModel):
    """A page of tools, by name."""

    tools: list[ToolOverview]
    next_cursor: Annotated[str | None, Field(description="Gives the next page; null on the last one.")]
