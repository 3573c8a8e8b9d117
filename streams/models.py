"""Asks a model for a reply, piece by piece."""

from collections.abc import AsyncIterator
from typing import Literal, Protocol

import openai
from msgspec import Struct
from openai.types.chat import ChatCompletionMessageParam

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
    return OpenAI(model) if model.base_url else Echo()


class Echo:
    """Repeats what it was told, word by word, and says so: for first runs and for tests. Costs a token a word."""

    async def reply(self, conversation: list[Message], seconds: float) -> AsyncIterator[str | Ending]:
        words = f"echo: {conversation[-1].content}".split(" ")
        for index, word in enumerate(words):
            yield word if index == 0 else f" {word}"
        read = sum(len(message.content.split()) for message in conversation)
        yield Ending("stop", Usage(input_tokens=read, output_tokens=len(words)))


class OpenAI:
    """Any server that speaks OpenAI's chat completions: OpenAI, Ollama, vLLM, llama.cpp."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._client = openai.AsyncOpenAI(base_url=str(model.base_url), api_key=model.api_key or "none", max_retries=0)

    async def reply(self, conversation: list[Message], seconds: float) -> AsyncIterator[str | Ending]:
        finish_reason, usage = "stop", None
        try:
            stream = await self._client.chat.completions.create(
                model=self._model.model or self._model.name,
                messages=[_param(message) for message in conversation],
                max_tokens=self._model.max_tokens,
                timeout=seconds,
                stream=True,
                stream_options={"include_usage": True},
            )
            async with stream:
                async for chunk in stream:
                    if chunk.usage:
                        usage = Usage(input_tokens=chunk.usage.prompt_tokens, output_tokens=chunk.usage.completion_tokens)
                    for choice in chunk.choices:
                        finish_reason = choice.finish_reason or finish_reason
                        if choice.delta.content:
                            yield choice.delta.content
        except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
            raise Unavailable(_brief(error)) from error
        except openai.APIError as error:
            raise Rejected(_brief(error)) from error
        yield Ending(finish_reason, usage)


def _param(message: Message) -> ChatCompletionMessageParam:
    if message.role == "user":
        return {"role": "user", "content": message.content}
    return {"role": "assistant", "content": message.content}


def _brief(error: openai.APIError) -> str:
    """What happened, without the request: it holds the conversation."""
    status = f" (HTTP {error.status_code})" if isinstance(error, openai.APIStatusError) else ""
    return f"{type(error).__name__}{status}: {error.message[:300]}"
