"""Where policies are evaluated: in this process, or by an OPA server. Both hold the same policies and are asked the same question.

An engine begins with the policies that the settings name, and makes an engine of the same kind for any others.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec
from cachetools import TTLCache
from opa_client.errors import DeletePolicyError, RegoParseError
from opa_client.opa_async import AsyncOpaClient
from regopy import Interpreter, LogLevel, RegoError

from gateway.bundle import ANSWER, Fault, Joined, Unusable, faults_of, join
from ops.rego import QUESTION, Policies, load
from ops.settings import Settings


class EngineDown(Exception):
    """It does not answer, or not with what can be read."""


SAME_SECONDS, MOST_ASKED = 0.5, 1_000


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


class Maker(Engine, Protocol):
    """An engine that makes others."""

    async def other(self, policies: Policies) -> Engine:
        """An engine for these, which have the form that `bundle.check` asks for. Raises Unusable, EngineDown."""
        ...

    async def compile(self, policies: Policies) -> None:
        """The same, of which nothing is kept."""
        ...


class Embedded:
    """Rego inside this process: compiled once, and run on one thread, for an interpreter may not be shared by two.

    An evaluation takes a millisecond or less, so as many as may be in flight at once have been answered within its line. The same question
    within SAME_SECONDS is not put twice: policies see nothing but it, and a credential that ends is noticed before they are asked.
    """

    line = 5.0

    def __init__(self, policies: Policies) -> None:
        """Raises Unusable, a ValueError."""
        self._version = policies.version
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="policy")
        self._asked: TTLCache[str, asyncio.Future[Any]] = TTLCache(MOST_ASKED, SAME_SECONDS)
        self._thread.submit(self._compile, policies).result()

    async def other(self, policies: Policies) -> Self:
        return await asyncio.to_thread(type(self), policies)

    async def compile(self, policies: Policies) -> None:
        (await self.other(policies)).close()

    async def ask(self, document: dict[str, Any]) -> Answer:
        term = msgspec.json.encode(document).decode()  # the other way in, regopy's Input, leaves quotes in texts unescaped
        if (found := self._asked.get(term)) is None:
            found = self._asked[term] = asyncio.get_running_loop().run_in_executor(self._thread, self._evaluate, term)
        try:
            return Answer(await asyncio.shield(found), self._version)  # whoever asked first may go away: the others want it too
        except (RegoError, ValueError) as error:  # ValueError: what it wrote is no JSON
            raise EngineDown(f"the embedded engine failed: {error}") from error

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _compile(self, policies: Policies) -> None:
        compiler = Interpreter()
        compiler.log_level = LogLevel.NONE  # else what is wrong is written to standard output, too
        try:
            for name, text in policies.modules.items():
                compiler.add_module(name, text)
            compiler.add_data(policies.data)
            self._bundle = compiler.build(None, [QUESTION])
        except RegoError as error:
            raise Unusable(faults_of(str(error), policies.modules)) from error
        if not self._bundle.ok():
            raise Unusable([Fault("policies", None, None, f"They do not define {QUESTION}, or define it wrongly.")])
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

    async def other(self, policies: Policies) -> "Pushed":
        pushed = Pushed(self._client, policies)
        await pushed.push()
        return pushed

    async def compile(self, policies: Policies) -> None:
        """In this process first, which tells where the fault is; one compiler takes what the other does not."""
        await asyncio.to_thread(lambda: Embedded(policies).close())
        await (await self.other(policies)).withdraw()

    async def ask(self, document: dict[str, Any]) -> Answer:
        answer = await _query(self._client, document, QUESTION)
        return Answer(answer.get("result"), _revision(answer))


class Pushed:
    """A version that gateways hand to an OPA server, beside what it was given, in a package named after its version.

    What a server forgot when it was started anew is handed to it again as soon as it is asked about that. Where several gateways do so at
    once each writes the same.
    """

    line = 0.0

    def __init__(self, client: AsyncOpaClient, policies: Policies) -> None:
        self._client, self._version = client, policies.version
        self._name = "soma_policy_" + policies.version.replace("@", "_")
        self._module = join(policies, self._name, msgspec.json.encode(policies.data, order="sorted").decode())

    async def ask(self, document: dict[str, Any]) -> Answer:
        if (answer := await self._asked(document)) is None:
            try:
                await self.push()
            except Unusable as error:
                raise EngineDown(str(error)) from error
            answer = await self._asked(document)
        if not isinstance(answer, list):
            raise EngineDown("OPA does not hold the policies that it was handed")
        return Answer(answer[0] if answer else None, self._version)

    async def push(self) -> None:
        """Raises Unusable, EngineDown."""
        try:
            await self._client.update_policy_from_string(self._module.text, self._name, rego_compat=False)
        except RegoParseError as error:
            raise _refused(error, self._module) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise EngineDown(f"OPA does not take the policies: {error!r}") from error

    async def withdraw(self) -> None:
        """Let the server forget it, if that can be done now."""
        with suppress(DeletePolicyError, aiohttp.ClientError, OSError, ValueError):
            await self._client.delete_policy(self._name)

    async def _asked(self, document: dict[str, Any]) -> Any:
        return (await _query(self._client, document, f"{self._name}/{ANSWER}")).get("result")


async def _query(client: AsyncOpaClient, document: dict[str, Any], path: str) -> dict[str, Any]:
    try:
        answer = await client.query_rule(document, path, query_params={"provenance": True})
    except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: no JSON
        raise EngineDown(f"OPA failed: {error!r}") from error
    if not isinstance(answer, dict):
        raise EngineDown("OPA answered with what is no JSON object")
    return answer


def _refused(error: RegoParseError, module: Joined) -> Exception:
    """Unusable where the server's compiler says what is wrong with them, else EngineDown: it is not for gateways to write there, say."""
    faults = [
        module.fault(place["row"], place.get("col"), str(each.get("message")))
        for each in error.errors
        if isinstance(each, dict) and isinstance(place := each.get("location"), dict) and isinstance(place.get("row"), int)
    ]
    return Unusable(faults) if faults else EngineDown(f"OPA does not take the policies: {error}")


def _revision(answer: dict[str, Any]) -> str:
    try:
        bundles = answer["provenance"]["bundles"]
        return "+".join(bundle["revision"] for bundle in bundles.values())[:64] or "unversioned"
    except (KeyError, TypeError, AttributeError):
        return "unversioned"


@asynccontextmanager
async def engine(settings: Settings) -> AsyncIterator[Maker]:
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
