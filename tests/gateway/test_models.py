"""Whether a model answers."""

from collections.abc import Callable

import httpx
import pytest

from gateway.models import Models
from ops.models import ECHO, Model

LLAMA = Model.model_validate({"name": "llama", "base_url": "http://llama.test/v1", "api_key_env": None})


def refused(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


@pytest.mark.parametrize(
    ("answer", "status", "detail"),
    [
        (lambda _: httpx.Response(200), "available", "answers"),
        (lambda _: httpx.Response(404), "available", "answers"),
        (lambda _: httpx.Response(401), "unavailable", "refuses the key"),
        (lambda _: httpx.Response(500), "unavailable", "HTTP 500"),
        (refused, "unavailable", "does not answer"),
    ],
)
async def test_a_models_server_is_asked(answer: Callable[[httpx.Request], httpx.Response], status: str, detail: str) -> None:
    asked = list[str]()

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return answer(request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as client:
        models = Models({"echo": ECHO, "llama": LLAMA}, client)
        # when it is asked for twice
        await models.listed()
        echo, llama = await models.listed()
    # then the server is asked once
    assert (echo["status"], llama["status"], llama["owned_by"]) == ("available", status, "llama.test")
    assert detail in llama["detail"]
    assert asked == ["http://llama.test/v1/models"]
