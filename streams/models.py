"""Asks a model for a reply, piece by piece."""

import re
from collections.abc import AsyncIterator
from typing import Literal, Protocol

from msgspec import Struct

from ops.models import Model
from schemas.types.common import Usage


class Wanted(Struct, frozen=True):
    """A tool call that a model asks for. `arguments` are what it wrote, which should be JSON."""

    id: str
    tool: str
    arguments: str


class Message(Struct, frozen=True):
    """One message of a conversation. Those of role `tool` are results: `call` says of which."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    calls: tuple[Wanted, ...] = ()
    call: str | None = None


class Offer(Struct, frozen=True):
    """A tool as a model is told of it. `parameters` is a JSON Schema, as JSON."""

    name: str
    description: str
    parameters: str


class Prompt(Struct, frozen=True):
    """What a model is asked. `max_tokens` bounds its reply."""

    messages: list[Message]
    max_tokens: int
    tools: tuple[Offer, ...] = ()


class Ending(Struct, frozen=True):
    """What comes after the last piece."""

    finish_reason: str
    usage: Usage | None
    calls: tuple[Wanted, ...] = ()


class Rejected(Exception):
    """The model's server will not answer this request, however often it is asked."""


class Unavailable(Exception):
    """The model's server did not answer; it may, later."""


class Replier(Protocol):
    """A model. Pieces of text, then one Ending; raises Rejected or Unavailable. Closing the iterator stops the call."""

    def reply(self, prompt: Prompt, seconds: float) -> AsyncIterator[str | Ending]: ...


def replier(model: Model) -> Replier:
    """The way to ask this model."""
    if model.base_url is None:
        return Echo()
    from streams.openai import OpenAI  # half of a worker's start-up time: only where it is used

    return OpenAI(model)


WISH = re.compile(r"^/([a-z][a-z0-9_-]*)[ \t]+(\{.*)$", re.MULTILINE)


class Echo:
    """Repeats what it was told, word by word, and says so: for first runs and for tests. Costs a token a word.

    Where it has tools, a line `/name {"json": "arguments"}` of a message makes it ask for that call; it then repeats the results.
    """

    async def reply(self, prompt: Prompt, seconds: float) -> AsyncIterator[str | Ending]:
        last = prompt.messages[-1]
        read = sum(len(message.content.split()) for message in prompt.messages)
        if last.role == "user" and prompt.tools and (found := WISH.findall(last.content)):
            calls = tuple(Wanted(f"call_{index}", name, arguments) for index, (name, arguments) in enumerate(found))
            yield Ending("tool_calls", Usage(input_tokens=read, output_tokens=len(calls)), calls)
            return
        said = " ".join(_results(prompt.messages)) or last.content
        words = f"echo: {said}".split(" ")[: prompt.max_tokens]
        for index, word in enumerate(words):
            yield word if index == 0 else f" {word}"
        yield Ending("stop", Usage(input_tokens=read, output_tokens=len(words)))


def _results(messages: list[Message]) -> list[str]:
    """The results at the end of a conversation."""
    results = list[str]()
    for message in reversed(messages):
        if message.role != "tool":
            break
        results.insert(0, message.content)
    return results
