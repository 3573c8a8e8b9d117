"""What goes in and out of version 1, as callers see it."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

INPUT_BYTES = 128 << 10
Status = Literal["idle", "thinking", "acting", "waiting", "ended"]


def _within_bytes(text: str) -> str:
    if len(text.encode()) > INPUT_BYTES:
        raise ValueError(f"it takes more than {INPUT_BYTES} bytes in UTF-8")
    return text


Input = Annotated[str, Field(min_length=1, max_length=INPUT_BYTES), AfterValidator(_within_bytes)]
Subject = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=256,
        description="Whom it is about, in words of your own: `soma erase --subject` makes the text of all its sessions unreadable. "
        "Null: who asks. It is not recorded, and not shown again.",
        examples=["customer-4711"],
    ),
]
Metadata = Annotated[dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)]


class Request(BaseModel):
    """A body: unknown fields are refused, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Limits(Request):
    """What a session may use at most. Reserved before each effect, so that it holds."""

    tokens: Annotated[int | None, Field(ge=1, le=10**12, description="Tokens read and written by models.", examples=[100_000])] = None
    cost_micros: Annotated[int | None, Field(ge=1, le=10**15, description="Millionths of your currency.", examples=[500_000])] = None
    calls: Annotated[int | None, Field(ge=0, le=10**6, description="Tool calls.", examples=[20])] = None
    turns: Annotated[int | None, Field(ge=1, le=10**6, description="Messages that are answered.", examples=[10])] = None
    seconds: Annotated[int | None, Field(ge=1, le=366 * 86400, description="From its start to its last effect.", examples=[600])] = None


ToolName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}(@[1-9][0-9]{0,5})?$")]


class NewSession(Request):
    """What to start a session with."""

    model: Annotated[
        str | None, Field(min_length=1, max_length=128, description="A name that GET /v1/models lists.", examples=["echo"])
    ] = None
    agent: Annotated[
        ToolName | None,
        Field(description="Instead of a model: an agent, `name` or `name@version`, whose terms the session takes over.", examples=[None]),
    ] = None
    input: Annotated[Input | None, Field(description="The first message, at most 128 KiB in UTF-8.", examples=["hello"])] = None
    metadata: Annotated[Metadata, Field(description="Labels of your own, at most 16.", examples=[{"team": "blue"}])] = {}
    instructions: Annotated[Input | None, Field(description="What the model is told first.", examples=["Answer in one word."])] = None
    tools: Annotated[
        list[ToolName],
        Field(max_length=64, description="Tools to give it: `name`, or `name@version`.", examples=[["calculator"]]),
    ] = []
    limits: Annotated[
        Limits | None, Field(description="What the session may use; with an agent, no more than that allows.", examples=[{"calls": 20}])
    ] = None
    subject: Subject = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.model is None) == (self.agent is None):
            raise ValueError("give either model or agent")
        if self.agent and (self.instructions is not None or self.tools):
            raise ValueError("instructions and tools are the agent's: leave them out")
        return self


class Fork(Request):
    """Where to fork, and what to do otherwise from there."""

    version: Annotated[
        int | None,
        Field(ge=1, le=10**12, description="A version at which the session rested; null: the last of them.", examples=[4]),
    ] = None
    model: Annotated[
        str | None, Field(min_length=1, max_length=128, description="Another model than the session's.", examples=["echo"])
    ] = None
    input: Annotated[Input | None, Field(description="The next message.", examples=["and in French?"])] = None
    metadata: Annotated[Metadata | None, Field(description="Other labels than the session's.", examples=[{"try": "2"}])] = None
    limits: Annotated[Limits | None, Field(description="Other limits than the session's; used up anew.", examples=[{"calls": 20}])] = None
    subject: Subject = None


class Execution(Request):
    """Which tool to call with what."""

    tool: Annotated[ToolName, Field(description="`name`, or `name@version`.", examples=["calculator"])]
    arguments: Annotated[dict[str, Any], Field(description="As the tool's schema says.", examples=[{"expression": "6*7"}])] = {}
    metadata: Annotated[Metadata, Field(description="Labels of your own, at most 16.", examples=[{"team": "blue"}])] = {}
    limits: Annotated[Limits | None, Field(description="What the call may use.", examples=[{"cost_micros": 1000}])] = None
    subject: Subject = None


class NewMessage(Request):
    """What to say to the model."""

    input: Annotated[Input, Field(description="The message, at most 128 KiB in UTF-8.", examples=["and now?"])]


class Cancellation(Request):
    """Why a session is cancelled."""

    reason: Annotated[str | None, Field(max_length=512, description="For the record.", examples=["no longer needed"])] = None


class Closing(Request):
    """Nothing but an empty object."""


class Sealed(BaseModel):
    """Text that only the holder of a key can read."""

    sealed: Annotated[str, Field(description="Which key it was sealed with.")]


class ToolCall(BaseModel):
    """A tool call as the model asked for it."""

    id: str
    tool: Annotated[str, Field(examples=["calculator"])]
    arguments: Annotated[str | Sealed, Field(description="JSON.", examples=['{"expression":"6*7"}'])]


class Message(BaseModel):
    """One message of the conversation."""

    role: Annotated[Literal["system", "user", "assistant", "tool"], Field(description="`tool`: the result of a tool call.")]
    content: str | Sealed
    at: datetime
    place: Annotated[str, Field(description="The place of its event in the log.", examples=["e0-41"])]
    tool_calls: Annotated[list[ToolCall], Field(description="The calls that this reply asked for.")] = []
    call: Annotated[str | None, Field(description="Of which call it is the result.")] = None


class Failure(BaseModel):
    """Why the last turn got no reply."""

    code: Annotated[str, Field(examples=["deadline"], description="deadline, unavailable, rejected, too_large, budget, steps …")]
    reason: str | Sealed


class Usage(BaseModel):
    """What the providers billed, summed over the session."""

    input_tokens: int
    output_tokens: int
    cost_micros: Annotated[int, Field(description="Millionths of the currency of prices.")]


class Origin(BaseModel):
    """The session that this one was forked from."""

    session_id: str
    version: int


class Overview(BaseModel):
    """A session without its messages."""

    id: Annotated[str, Field(examples=["019ab3c2-7e1d-7cc0-9f6a-3b1de5a1c000"])]
    status: Status
    outcome: Annotated[str | None, Field(description="How it ended: closed, cancelled or expired; null before that.")]
    model: Annotated[str, Field(examples=["echo"])]
    agent: Annotated[str | None, Field(description="The preset that it was started from.")]
    origin: Origin | None
    version: Annotated[int, Field(description="Counts what changed the session; also its ETag.", examples=[4])]
    position: Annotated[str, Field(description="The last command that the session took: `partition:offset`.", examples=["0:42"])]
    metadata: dict[str, str]
    error: Failure | None
    usage: Usage
    created_at: datetime
    updated_at: datetime


class Session(Overview):
    """A session, whole."""

    messages: list[Message]


class SessionList(BaseModel):
    """A page of sessions, the newest first."""

    sessions: list[Overview]
    next_cursor: Annotated[str | None, Field(description="Gives the next page; null on the last one.")]


class Accepted(BaseModel):
    """The command is in the log for good and will be decided; what became of it is not known yet."""

    id: Annotated[str, Field(description="The session.")]
    position: Annotated[str, Field(description="Where the command stands: read the session with it.", examples=["0:42"])]
    detail: str


class Event(BaseModel):
    """One record of a session."""

    place: Annotated[str, Field(description="Its place in the log.", examples=["e0-41"])]
    type: Annotated[str, Field(examples=["ReplyRecorded"])]
    id: str
    session_id: str
    version: Annotated[int | None, Field(description="The session's version after it; null for a refusal.")]
    at: datetime
    actor: str
    command_id: str
    position: Annotated[str, Field(description="The command that led to it.", examples=["0:42"])]
    data: Annotated[dict[str, Any], Field(description="As the event's Avro schema says.")]


class EventPage(BaseModel):
    """Some of a session's events, in order."""

    events: list[Event]
    next_after: Annotated[str | None, Field(description="Pass it as `after` to go on; null as long as there is no event.")]
    more: Annotated[bool, Field(description="Whether there are further events now.")]


class Model(BaseModel):
    """A model, in OpenAI's shape, and whether it answers."""

    id: Annotated[str, Field(examples=["echo"])]
    object: Literal["model"]
    created: int
    owned_by: str
    status: Literal["available", "unavailable"]
    detail: str


class ModelList(BaseModel):
    """The models that sessions can be started with, in OpenAI's list shape."""

    object: Literal["list"]
    data: list[Model]


class Part(BaseModel):
    """One thing that the platform needs."""

    status: Literal["ok", "degraded", "down"]
    detail: str


class Health(BaseModel):
    """`ok`: everything works. `degraded`: everything is served, and something needs a look. `down`: something is not served."""

    status: Literal["ok", "degraded", "down"]
    parts: dict[Literal["gateway", "kafka", "registry", "read_model", "lag", "sign_in", "audit", "seal"], Part]


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"]
