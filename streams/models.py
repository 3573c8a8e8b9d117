"""Asks a model for a reply, piece by piece."""

from collections.abc import AsyncIterator
from typing import Literal, Protocol

from msgspec import Struct

from ops.models import Model
from schemas.types.common import Usage


class Message(Struct, frozen=True):
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    content: str


class Ending(Struct, frozen=True):
    """What comes after the last piece."""

    finish_reason: str
    usage: Usage | None


class Rejected(Exception):
    """The model's server will not answer this request, however often it is asked."""


class Unavailable(Exception):
    """The model's server did not answer; it may, later."""


class Replier(Protocol):
    """A model. Pieces of text, then one Ending; raises Rejected or Unavailable. Closing the iterator stops the call."""

    def reply(self, conversation: list[Message], seconds: float) -> AsyncIterator[str | Ending]: ...


def replier(model: Model) -> Replier:
    """The way to ask this model."""
    if model.base_url is None:
        return Echo()
    from streams.openai import OpenAI  # half of a worker's start-up time: only where it is used

    return OpenAI(model)


class Echo:
    """Repeats what it was told, word by word, and says so: for first runs and for tests. Costs a token a word."""

    async def reply(self, conversation: list[Message], seconds: float) -> AsyncIterator[str | Ending]:
        words = f"echo: {conversation[-1].content}".split(" ")
        for index, word in enumerate(words):
            yield word if index == 0 else f" {word}"
        read = sum(len(message.content.split()) for message in conversation)
        yield Ending("stop", Usage(input_tokens=read, output_tokens=len(words)))
