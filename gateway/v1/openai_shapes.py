"""What clients of OpenAI's API send, and what they are answered (docs/openai.md)."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, model_validator

from gateway.problems import Invalid
from gateway.v1.shapes import INPUT_BYTES, Metadata, Request

MAX_MESSAGES = 500
IGNORED = frozenset(
    {
        *("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "truncation"),
        *("reasoning", "reasoning_effort", "verbosity", "parallel_tool_calls", "service_tier", "safety_identifier"),
        *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
    }
)
"""Parameters that tune how a model answers, not what the answer is: each is the business of the model's configuration here."""


class Meaning(NamedTuple):
    """Values of a parameter that say what is the case anyway; and why another one is refused, which would change what the answer is."""

    values: tuple[Any, ...]
    why: str


TOOLS = "tools are run by the platform: register them (POST /v1/tools), and name an agent that has them as `model`"
TEXT = "answers are plain text"
ONE = "there is one answer to a request"
REFUSED = {
    "n": Meaning((1,), ONE),
    "logprobs": Meaning((False,), "probabilities of tokens are not known here"),
    "top_logprobs": Meaning((0,), "probabilities of tokens are not known here"),
    "logit_bias": Meaning(({},), "it is not handed to models"),
    "stop": Meaning(([],), "it is not handed to models"),
    "tools": Meaning(([],), TOOLS),
    "functions": Meaning(([],), TOOLS),
    "tool_choice": Meaning(("auto", "none"), TOOLS),
    "function_call": Meaning(("auto", "none"), TOOLS),
    "max_tool_calls": Meaning((), "give the agent `limits`"),
    "response_format": Meaning(({"type": "text"},), TEXT),
    "text": Meaning(({}, {"format": {"type": "text"}}), TEXT),
    "modalities": Meaning((["text"],), TEXT),
    "audio": Meaning((), TEXT),
    "prediction": Meaning((), "it is not handed to models"),
    "web_search_options": Meaning((), TOOLS),
    "include": Meaning(([],), "there is nothing to include"),
    "background": Meaning((False,), "begin it by POST /v1/sessions with `Prefer: respond-async`"),
    "conversation": Meaning((), "go on with `previous_response_id`"),
    "prompt": Meaning((), "publish an agent, and name it as `model`"),
    "store": Meaning((True,), "everything is recorded here: a request that must not be is not for this platform"),
}
Text = Annotated[str, Field(max_length=INPUT_BYTES)]


class Part(BaseModel):
    """A piece of text. What else the client says of it is not needed."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    type: Literal["text", "input_text", "output_text"]
    text: Text


class Message(BaseModel):
    """A message of a conversation. What else the client says of it is not needed."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[Part]

    @model_validator(mode="before")
    @classmethod
    def _no_tools(cls, data: Any) -> Any:
        if isinstance(data, dict):
            strange = data.get("type", "message") != "message" or data.get("role") in ("tool", "function")
            if strange or data.get("tool_calls") or data.get("function_call"):
                raise ValueError(f"this is no message of text; {TOOLS}")
        return data

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


Words = Annotated[str, Field(min_length=1, max_length=INPUT_BYTES)]
Messages = Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]


class _Asked(Request):
    """What both kinds of request say."""

    model: Annotated[
        str, Field(min_length=1, max_length=128, description="A model, or an agent: `name` or `name@version`.", examples=["echo"])
    ]
    stream: Annotated[bool, Field(description="Answer by Server-Sent Events, as the text is written.", examples=[False])] = False
    metadata: Annotated[Metadata, Field(default_factory=dict, description="Labels of the session.", examples=[{"team": "blue"}])]
    user: Annotated[
        str | None,
        Field(
            max_length=512,
            description="Another label of the session, and whom it is about: the subject of its sealed text.",
            examples=["ada"],
        ),
    ] = None

    @model_validator(mode="wrap")
    @classmethod
    def _understood(cls, data: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        """Leave out what is not needed. Raises Invalid where a parameter would change what the answer is."""
        if not isinstance(data, dict):
            return handler(data)
        given = {name: value for name, value in data.items() if value is not None and name not in IGNORED}
        strange = {name: REFUSED[name] for name in given if name in REFUSED and given[name] not in REFUSED[name].values}
        if strange:
            errors = [{"field": f"body.{name}", "problem": meaning.why} for name, meaning in strange.items()]
            raise Invalid("Parameters that change what the answer is are not supported.", errors=errors)
        return handler({name: value for name, value in given.items() if name not in REFUSED})

    def labels(self) -> dict[str, str]:
        """The session's metadata."""
        return self.metadata | ({"user": self.user} if self.user else {})


class StreamOptions(BaseModel):
    """What a stream shows."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    include_usage: Annotated[bool, Field(description="End with a chunk that counts tokens.", examples=[True])] = False


class NewCompletion(_Asked):
    """A conversation, whole, whose next message is asked for."""

    messages: Annotated[
        Messages, Field(description="What was said; the last one is the user's.", examples=[[{"role": "user", "content": "hello"}]])
    ]
    max_tokens: Annotated[int | None, Field(ge=1, le=10**6, description="Tokens of a reply at most.", examples=[256])] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1, le=10**6, description="The same.", examples=[256])] = None
    stream_options: Annotated[StreamOptions | None, Field(description="What a stream shows.", examples=[{"include_usage": True}])] = None

    @property
    def bound(self) -> int | None:
        return min(filter(None, (self.max_tokens, self.max_completion_tokens)), default=None)


class NewResponse(_Asked):
    """What is said to a model, or to an agent: in a new conversation, or in one that goes on."""

    input: Annotated[Words | Messages, Field(description="A text, or messages, of which the last one is the user's.", examples=["hello"])]
    instructions: Annotated[Text | None, Field(description="What the model is told first.", examples=["Answer in one word."])] = None
    previous_response_id: Annotated[
        str | None, Field(max_length=128, description="Go on after this response, the newest of its conversation.", examples=[None])
    ] = None
    max_output_tokens: Annotated[int | None, Field(ge=1, le=10**6, description="Tokens of a reply at most.", examples=[256])] = None
    stream_options: Annotated[StreamOptions | None, Field(description="Taken, and not needed.", examples=[None])] = None


class Usage(BaseModel):
    """Tokens that models read and wrote in the turn, tool rounds included."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionMessage(BaseModel):
    """What the model answered."""

    role: Literal["assistant"]
    content: str
    refusal: None


class Choice(BaseModel):
    """The one answer."""

    index: int
    message: CompletionMessage
    finish_reason: Literal["stop", "length", "content_filter"]
    logprobs: None


class Completion(BaseModel):
    """OpenAI's ChatCompletion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class Response(BaseModel):
    """OpenAI's Response."""

    id: Annotated[str, Field(description="Names the session and the turn; for `previous_response_id`.")]
    object: Literal["response"]
    created_at: int
    completed_at: Annotated[int | None, Field(description="Of a response that is `completed`: when its last reply was given.")]
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    instructions: str | None
    metadata: dict[str, str]
    model: str
    output: list[dict[str, Any]]
    parallel_tool_calls: bool
    previous_response_id: str | None
    tool_choice: Literal["auto"]
    tools: list[Any]
    usage: dict[str, Any] | None


class Fault(BaseModel):
    """What went wrong. `code` is that of the problem, by which /problems/{code} explains it."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str
    decision: dict[str, str] | None = Field(None, description="For `forbidden`: which decision it was.")


class OpenAIError(BaseModel):
    """OpenAI's shape of an error."""

    error: Fault
