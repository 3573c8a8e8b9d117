"""Asks a model over HTTP, as OpenAI's chat completions do."""

import re
from collections.abc import AsyncIterator, Iterable

import msgspec
import openai
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionMessageToolCallUnionParam, ChatCompletionToolUnionParam
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall

from commands.call import MAX_CALLS
from ops.models import Model
from schemas.types.common import Usage
from streams.conversation import ARGUMENT_BYTES
from streams.models import Ending, Message, Offer, Prompt, Rejected, Unavailable, Wanted

MOST_CALLS = 2 * MAX_CALLS
"""Of one reply. Those beyond the number that a session takes are refused one by one; beyond this they are not even counted."""
MOST_NAME = 256
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")


class OpenAI:
    """Any server that speaks OpenAI's chat completions: OpenAI, Ollama, vLLM, llama.cpp."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._client = openai.AsyncOpenAI(base_url=str(model.base_url), api_key=model.api_key or "none", max_retries=0)

    async def reply(self, prompt: Prompt, seconds: float) -> AsyncIterator[str | Ending]:
        finish_reason, usage, calls = "stop", None, Calls()
        try:
            stream = await self._client.chat.completions.create(
                model=self._model.model or self._model.name,
                messages=[_param(message) for message in prompt.messages],
                max_tokens=prompt.max_tokens,
                tools=[_tool(offer) for offer in prompt.tools] or openai.omit,
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
                        calls.take(choice.delta.tool_calls or ())
                        if choice.delta.content:
                            yield choice.delta.content
        except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
            raise Unavailable(_brief(error)) from error
        except openai.APIError as error:
            raise Rejected(_brief(error)) from error
        yield Ending(finish_reason, usage, calls.wanted())


class Calls:
    """Tool calls as they come in pieces. Of more than a reply may ask for, and of arguments that are too large anyway, no more is kept."""

    def __init__(self) -> None:
        self._pieces: dict[int, tuple[str, str, str]] = {}

    def take(self, pieces: Iterable[ChoiceDeltaToolCall]) -> None:
        for piece in pieces:
            if piece.index not in self._pieces and len(self._pieces) >= MOST_CALLS:
                continue
            id, name, arguments = self._pieces.get(piece.index, ("", "", ""))
            function = piece.function
            self._pieces[piece.index] = (
                piece.id or id,
                (name + (function.name or "" if function else ""))[:MOST_NAME],
                (arguments + (function.arguments or "" if function else ""))[: ARGUMENT_BYTES + 1],
            )

    def wanted(self) -> tuple[Wanted, ...]:
        return tuple(Wanted(id or f"call_{index}", name, arguments) for index, (id, name, arguments) in sorted(self._pieces.items()))


def _param(message: Message) -> ChatCompletionMessageParam:
    match message.role:
        case "system":
            return {"role": "system", "content": message.content}
        case "user":
            return {"role": "user", "content": message.content}
        case "tool":
            return {"role": "tool", "content": message.content, "tool_call_id": message.call or ""}
        case "assistant" if not message.calls:
            return {"role": "assistant", "content": message.content}
    return {"role": "assistant", "content": message.content, "tool_calls": [_asked(call) for call in message.calls]}


def _asked(call: Wanted) -> ChatCompletionMessageToolCallUnionParam:
    """Names and arguments that no tool can have were answered with what is wrong; some servers stumble over them here."""
    try:
        msgspec.json.decode(call.arguments)
        arguments = call.arguments
    except (msgspec.DecodeError, RecursionError):
        arguments = "{}"
    name = _NOT_IN_NAMES.sub("_", call.tool)[:64] or "unnamed"
    return {"type": "function", "id": call.id, "function": {"name": name, "arguments": arguments}}


def _tool(offer: Offer) -> ChatCompletionToolUnionParam:
    parameters = msgspec.json.decode(offer.parameters, type=dict[str, object])
    return {"type": "function", "function": {"name": offer.name, "description": offer.description, "parameters": parameters}}


def _brief(error: openai.APIError) -> str:
    """What happened, without the request: it holds the conversation."""
    status = f" (HTTP {error.status_code})" if isinstance(error, openai.APIStatusError) else ""
    return f"{type(error).__name__}{status}: {error.message[:300]}"
