"""The models that sessions can be started with, and whether they answer."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import httpx

from gateway.problems import UnknownModel
from ops.models import Model

ASK_SECONDS = 2.0
FRESH_SECONDS = 10.0


class Models:
    """Asks each model's server at most every FRESH_SECONDS."""

    def __init__(self, models: Mapping[str, Model], client: httpx.AsyncClient) -> None:
        self._models, self._client = models, client
        self._looked, self._listed = float("-inf"), list[dict[str, Any]]()
        self._looking = asyncio.Lock()

    def has(self, name: str) -> bool:
        """Whether there is a model of this name."""
        return name in self._models

    def find(self, name: str) -> Model:
        """Raises UnknownModel."""
        if not self.has(name):
            raise UnknownModel(f"There is no model {name!r}. There are: {', '.join(self._models)}.")
        return self._models[name]

    async def listed(self) -> list[dict[str, Any]]:
        """Entries of OpenAI's list, with `status` and `detail` added."""
        async with self._looking:
            if time.monotonic() - self._looked > FRESH_SECONDS:
                self._listed = await asyncio.gather(*(self._entry(model) for model in self._models.values()))
                self._looked = time.monotonic()
        return self._listed

    async def _entry(self, model: Model) -> dict[str, Any]:
        owner = model.base_url.host if model.base_url else "somaagenthub"
        unavailable = await self._ask(model)
        state = {"status": "unavailable" if unavailable else "available", "detail": unavailable or _about(model)}
        return {"id": model.name, "object": "model", "created": 0, "owned_by": owner, **state}

    async def _ask(self, model: Model) -> str:
        """Why the model cannot be used now, if it cannot."""
        if model.base_url is None:
            return ""
        try:
            headers = {"Authorization": f"Bearer {model.api_key}"}
            answer = await self._client.get(f"{str(model.base_url).rstrip('/')}/models", headers=headers, timeout=ASK_SECONDS)
        except httpx.HTTPError as error:
            return f"its server does not answer ({type(error).__name__})"
        if answer.status_code in (401, 403):
            return f"its server refuses the key (HTTP {answer.status_code}): check the variable {model.api_key_env}"
        return "" if answer.is_success or answer.status_code == httpx.codes.NOT_FOUND else f"its server answers HTTP {answer.status_code}"


def _about(model: Model) -> str:
    return "answers" if model.base_url else "built in: repeats what it is told, for first runs and tests"
