"""OpenFGA's HTTP API, as far as it is used here: a store with a model, tuples in it, and questions about them.

A store is found by its name, and looked for again whenever an answer shows that it is not there any more: it may be dropped and made anew.
Names are qualified by their tenant: `session:acme/019a…`. What is asked is asked with HIGHER_CONSISTENCY: what was written before counts.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import msgspec

from ops.settings import Settings

MODEL = Path(__file__).parent / "openfga" / "model.json"
"""Made from model.fga by `fga model transform`, which a test holds it to."""
MAX_WRITE = 100
"""Tuples in one transaction: the server's default."""
MAX_CHECKS = 50
"""Questions in one batch: the server's default."""
LONGEST = 160
"""Signs of an encoded name; a server takes 256 of a whole one, its kind and tenant included."""
_NO_MODEL = ("latest_authorization_model_not_found", "store_id_not_found", "authorization_model_not_found")


class OpenFgaDown(Exception):
    """It does not answer, or not with what can be read; the message says how."""


class NoStore(OpenFgaDown):
    """It has no store of this name, or none with a model."""


class Refused(OpenFgaDown):
    """It did not write: a tuple was there that should not be, or the other way round. Nothing of the transaction is written."""


class Tuple(NamedTuple):
    """`user` has `relation` to `object`, all three as OpenFGA names them."""

    user: str
    relation: str
    object: str


class Store(NamedTuple):
    """A store, and the model that questions are asked of."""

    id: str
    model: str


class OpenFga:
    """One server. `client` bounds how long it may take."""

    def __init__(self, client: httpx.AsyncClient, name: str) -> None:
        self._client, self._name = client, name
        self._store: Store | None = None

    # Questions

    async def check(self, wanted: Tuple, given: Sequence[Tuple] = ()) -> bool:
        """Whether it holds, if those that are `given` held too. Raises OpenFgaDown."""
        answer = await self._ask("check", {"tuple_key": wanted._asdict(), "contextual_tuples": _keys(given)})
        return _truth(answer.get("allowed"))

    async def checks(self, wanted: Sequence[Tuple], given: Sequence[Tuple] = ()) -> list[bool]:
        """The same of at most MAX_CHECKS."""
        asked = [
            {"correlation_id": str(number), "tuple_key": each._asdict(), "contextual_tuples": _keys(given)}
            for number, each in enumerate(wanted)
        ]
        found = (await self._ask("batch-check", {"checks": asked})).get("result")
        if not isinstance(found, dict):
            raise OpenFgaDown("OpenFGA answered a batch without results")
        return [_truth((found.get(str(number)) or {}).get("allowed")) for number in range(len(wanted))]

    async def read(self, object: str, relation: str, user: str | None = None) -> list[str]:
        """The users that have this very relation, as it was written; of at most one page. Raises OpenFgaDown."""
        key = {"object": object, "relation": relation} | ({"user": user} if user else {})
        found = (await self._ask("read", {"tuple_key": key})).get("tuples")
        try:
            return [str(each["key"]["user"]) for each in found or ()]
        except (TypeError, KeyError) as error:
            raise OpenFgaDown("OpenFGA answered with what are no tuples") from error

    # Changes

    async def write(self, writes: Iterable[Tuple], deletes: Iterable[Tuple]) -> None:
        """All of it, or nothing. Raises Refused, OpenFgaDown."""
        store = await self._found()
        parts = {"writes": _keys(writes), "deletes": _keys(deletes)}
        body = {name: keys for name, keys in parts.items() if keys["tuple_keys"]} | {"authorization_model_id": store.model}
        await self._post(f"/stores/{store.id}/write", body)

    async def prepare(self) -> str:
        """Make the store if there is none, and give it today's model if it has another. Returns what was done. Raises OpenFgaDown."""
        id = await self._oldest() or str((await self._post("/stores", {"name": self._name})).get("id"))
        model = msgspec.json.decode(await asyncio.to_thread(MODEL.read_bytes))
        newest = await self._newest(id)
        if newest and _comparable(newest) == _comparable(model):
            return f"OpenFGA's store {self._name} has today's model"
        await self._post(f"/stores/{id}/authorization-models", model)
        self._store = None
        return f"OpenFGA's store {self._name} was given today's model"

    async def drop(self) -> None:
        """Remove the store with all that is in it."""
        store = await self._found()
        self._store = None
        await self._request("DELETE", f"/stores/{store.id}")

    # How it is reached

    async def _ask(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        store = await self._found()
        model = {} if what == "read" else {"authorization_model_id": store.model}
        return await self._post(f"/stores/{store.id}/{what}", body | model | {"consistency": "HIGHER_CONSISTENCY"})

    async def _found(self) -> Store:
        if self._store is None:
            id = await self._oldest()
            newest = await self._newest(id) if id else None
            if not id or not newest:
                raise NoStore(f"OpenFGA has no store {self._name} with a model: run `soma prepare`")
            self._store = Store(id, str(newest["id"]))
        return self._store

    async def _oldest(self) -> str | None:
        """Of stores with this name, which nothing keeps from being several, the first that was made."""
        stores = (await self._request("GET", "/stores", {"name": self._name, "page_size": "100"})).get("stores")
        named = [each for each in stores or () if each.get("name") == self._name]
        return str(min(named, key=lambda each: (each["created_at"], each["id"]))["id"]) if named else None

    async def _newest(self, id: str) -> dict[str, Any] | None:
        models = (await self._request("GET", f"/stores/{id}/authorization-models", {"page_size": "1"})).get("authorization_models")
        return dict(models[0]) if models else None

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._request("POST", path, content=msgspec.json.encode(body))

    async def _request(
        self, method: str, path: str, params: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> dict[str, Any]:
        try:
            answer = await self._client.request(method, path, params=params, content=content, headers={"content-type": "application/json"})
            said = msgspec.json.decode(answer.content or b"{}")
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            raise OpenFgaDown(f"OpenFGA failed: {error!r}") from error
        if not isinstance(said, dict):
            raise OpenFgaDown("OpenFGA answered with what is no JSON object")
        if not answer.is_success:
            raise self._failure(answer.status_code, said)
        return said

    def _failure(self, status: int, said: dict[str, Any]) -> OpenFgaDown:
        self._store = None  # it may have been dropped, and another made: whoever asks next looks again
        code, message = said.get("code"), str(said.get("message"))[:200]
        if code == "write_failed_due_to_invalid_input":
            return Refused(message)
        return NoStore(message) if code in _NO_MODEL else OpenFgaDown(f"OpenFGA answered {status} {code}: {message}")


def client(settings: Settings, seconds: float) -> httpx.AsyncClient:
    """Who speaks to the server that the settings name, waiting at most so long for each answer."""
    signed = {"authorization": f"Bearer {settings.openfga_api_token}"} if settings.openfga_api_token else {}
    return httpx.AsyncClient(base_url=settings.openfga_api_url or "", headers=signed, timeout=seconds, follow_redirects=False)


async def prepare(settings: Settings, seconds: float = 10) -> str:
    """`soma prepare`'s part. Raises OpenFgaDown."""
    async with client(settings, seconds) as reached:
        return await OpenFga(reached, settings.openfga_store).prepare()


def named(tenant: str, name: str) -> str:
    """What a tenant calls `session:019a…`, as it is called among all tenants."""
    kind, _, own = name.partition(":")
    return f"{kind}:{_encoded(tenant)}/{_encoded(own)}"


def subject(tenant: str, name: str, relation: str) -> str:
    """Who has a relation: of groups and tenants their members, but of a parent the tenant itself."""
    several = name.startswith(("group:", "tenant:")) and relation != "parent"
    return named(tenant, name) + ("#member" if several else "")


def _encoded(text: str) -> str:
    """Without the signs that mean something to OpenFGA. What is too long for it goes by its digest."""
    quoted = quote(text, safe="@")
    return quoted if len(quoted) <= LONGEST else f"~{hashlib.blake2b(text.encode(), digest_size=24).hexdigest()}"


def _keys(tuples: Iterable[Tuple]) -> dict[str, Any]:
    return {"tuple_keys": [each._asdict() for each in tuples]}


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise OpenFgaDown("OpenFGA answered with neither true nor false")
    return value


def _comparable(model: dict[str, Any]) -> Any:
    """Without its id, and without what one of both writes where the other leaves it out."""
    return {kind["type"]: _trimmed(kind) for kind in model.get("type_definitions", ())}


def _trimmed(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _trimmed(each) for key, each in value.items()}
        return {key: each for key, each in kept.items() if each not in (None, "", {}, [])}
    return [_trimmed(each) for each in value] if isinstance(value, list) else value
