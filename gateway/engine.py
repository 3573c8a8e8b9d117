"""Where policies are evaluated: in this process, or by an OPA server. Both hold the same policies and are asked the same question."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import aiohttp
import msgspec
from opa_client.opa_async import AsyncOpaClient
from regopy import Interpreter, RegoError

from ops.rego import QUESTION, Policies, load
from ops.settings import Settings


class EngineDown(Exception):
    """It does not answer, or not with what can be read."""


class Answer(NamedTuple):
    """What the policies say, unchecked: None where they leave the decision undefined. `version`: of those policies."""

    found: Any
    version: str


class Engine(Protocol):
    """Evaluates the decision for an input document. `line`: so many seconds a question may wait until those before it are answered."""

    line: float

    async def ask(self, document: dict[str, Any]) -> Answer:
        """Raises EngineDown. How long it takes is for the caller to bound."""
        ...


class Embedded:
    """Rego inside this process: compiled once, and run on one thread, for an interpreter may not be shared by two.

    An evaluation takes a millisecond or less, so as many as may be in flight at once have been answered within its line.
    """

    line = 5.0

    def __init__(self, policies: Policies) -> None:
        """Raises ValueError where they cannot be compiled."""
        self._version = policies.version
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="policy")
        self._thread.submit(self._compile, policies).result()

    async def ask(self, document: dict[str, Any]) -> Answer:
        term = msgspec.json.encode(document).decode()  # the other way in, regopy's Input, leaves quotes in texts unescaped
        try:
            return Answer(await asyncio.get_running_loop().run_in_executor(self._thread, self._evaluate, term), self._version)
        except (RegoError, ValueError) as error:  # ValueError: what it wrote is no JSON
            raise EngineDown(f"the embedded engine failed: {error}") from error

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _compile(self, policies: Policies) -> None:
        compiler = Interpreter()
        try:
            for name, text in policies.modules.items():
                compiler.add_module(name, text)
            compiler.add_data(policies.data)
            self._bundle = compiler.build(None, [QUESTION])
        except RegoError as error:
            raise ValueError(f"The policies cannot be compiled: {error}") from error
        if not self._bundle.ok():
            raise ValueError(f"The policies cannot be compiled: they do not define {QUESTION}, or define it wrongly.")
        self._running = Interpreter()

    def _evaluate(self, term: str) -> Any:
        self._running.set_input_term(term)
        output = self._running.query_bundle_entrypoint(self._bundle, QUESTION)
        if not output.ok():
            raise RegoError(str(output))
        expressions = output[0].expressions
        return expressions[0] if expressions else None


class Server:
    """An OPA server that was given the policies. Their version is the revision of its bundle, where that has one."""

    line = 0.0

    def __init__(self, client: AsyncOpaClient) -> None:
        self._client = client

    async def ask(self, document: dict[str, Any]) -> Answer:
        try:
            answer = await self._client.query_rule(document, QUESTION, query_params={"provenance": True})
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: no JSON
            raise EngineDown(f"OPA failed: {error!r}") from error
        if not isinstance(answer, dict):
            raise EngineDown("OPA answered with what is no JSON object")
        return Answer(answer.get("result"), _revision(answer))


def _revision(answer: dict[str, Any]) -> str:
    try:
        bundles = answer["provenance"]["bundles"]
        return "+".join(bundle["revision"] for bundle in bundles.values())[:64] or "unversioned"
    except (KeyError, TypeError, AttributeError):
        return "unversioned"


@asynccontextmanager
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    """The one that the settings name. Raises ValueError for policies, or an address, that cannot be used."""
    if settings.opa_url is None:
        embedded = await asyncio.to_thread(partial(Embedded, load(settings.soma_policy_dir)))
        try:
            yield embedded
        finally:
            embedded.close()
    else:
        async with _client(settings, settings.opa_url) as client:
            yield Server(client)


def usable(settings: Settings) -> None:
    """Raises ValueError for policies that cannot be used here."""
    if settings.opa_url is None:
        Embedded(load(settings.soma_policy_dir)).close()


def _client(settings: Settings, url: str) -> AsyncOpaClient:
    """Without retries of its own: a request that is kept waiting is worse than one that is told to come back."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return AsyncOpaClient(
        host=f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or "",
        port=parts.port or (443 if secure else 8181),
        ssl=secure,
        token=settings.opa_token,
        retries=0,
        timeout=settings.policy_seconds,
    )
