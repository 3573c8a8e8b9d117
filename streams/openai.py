"""Asks a model over HTTP, as OpenAI's chat completions do."""

from collections.abc import AsyncIterator

import openai
from openai.types.chat import ChatCompletionMessageParam

from ops.models import Model
from schemas.types.common import Usage
from streams.models import Ending, Message, Rejected, Unavailable


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
