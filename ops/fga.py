"""OpenFGA's HTTP API, as far as it is used here: a store with a model, tuples in it, and questions about them.

A store is found by its name, and looked for again every FRESH_SECONDS: it may be dropped and made anew, and a server goes on to answer
for one that was dropped.
Names are qualified by their tenant: `session:acme/019a…`. What is asked is asked with HIGHER_CONSISTENCY: what was written before counts.
"""

import asyncio
import hashlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from msgspec import Struct

from ops.settings import Settings

MODEL = Path(__file__).parent / "openfga" / "model.json"
"""Made from model.fga by `fga model transform`, which a test holds it to."""
MAX_WRITE = 100
"""Tuples in one transaction: the server's default."""
MAX_CHECKS = 50
"""Questions in one batch: the server's default."""
FRESH_SECONDS = 2.0
LONGEST = 120
"""Signs of an encoded name; a server takes 256 of a whole one, its kind and tenant included."""
T = TypeVar("T")
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


class _Store(Struct):
    id: str
    name: str
    created_at: str


class _Stores(Struct):
    stores: list[_Store]


class _Model(Struct):
    id: str
    type_definitions: list[dict[str, Any]]


class _Models(Struct):
    authorization_models: list[_Model]


class _Checked(Struct):
    allowed: bool


class _Batch(Struct):
    result: dict[str, _Checked]


class _Key(Struct):
    user: str


class _Written(Struct):
    key: _Key


class _Page(Struct):
    tuples: list[_Written]


class OpenFga:
    """One server. `client` bounds how long it may take."""

    def __init__(self, client: httpx.AsyncClient, name: str) -> None:
        self._client, self._name = client, name
        self._store: Store | None = None
        self._looked, self._looking = 0.0, asyncio.Lock()

    # Questions

    async def check(self, wanted: Tuple, given: Sequence[Tuple] = ()) -> bool:
        """Whether it holds, if those that are `given` held too. Raises OpenFgaDown."""
        asked = {"tuple_key": wanted._asdict(), "contextual_tuples": _keys(given)}
        return (await self._ask("check", asked, _Checked)).allowed

    async def checks(self, wanted: Sequence[Tuple], given: Sequence[Tuple] = ()) -> list[bool]:
        """The same of at most MAX_CHECKS."""
        asked = [
            {"correlation_id": str(number), "tuple_key": each._asdict(), "contextual_tuples": _keys(given)}
            for number, each in enumerate(wanted)
        ]
        found = (await self._ask("batch-check", {"checks": asked}, _Batch)).result
        asked_for = [str(number) for number in range(len(wanted))]
        if found.keys() != set(asked_for):
            raise OpenFgaDown(f"OpenFGA was asked {len(wanted)} questions, and did not answer just those")
        return [found[number].allowed for number in asked_for]

    async def read(self, object: str, relation: str, user: str | None = None) -> list[str]:
        """The users that have this very relation, as it was written; of at most one page. Raises OpenFgaDown."""
        key = {"object": object, "relation": relation} | ({"user": user} if user else {})
        return [each.key.user for each in (await self._ask("read", {"tuple_key": key}, _Page)).tuples]

    async def store(self) -> Store:
        """The one that has the name, as of FRESH_SECONDS ago at most. Raises OpenFgaDown."""
        async with self._looking:
            if self._store is None or time.monotonic() - self._looked > FRESH_SECONDS:
                looked = time.monotonic()
                self._store, self._looked = await self._look(), looked
            return self._store

    # Changes

    async def write(self, writes: Iterable[Tuple], deletes: Iterable[Tuple]) -> None:
        """All of it, or nothing. Raises Refused, OpenFgaDown."""
        store = await self.store()
        parts = {"writes": _keys(writes), "deletes": _keys(deletes)}
        body = {name: keys for name, keys in parts.items() if keys["tuple_keys"]} | {"authorization_model_id": store.model}
        await self._request("POST", f"/stores/{store.id}/write", dict[str, Any], body)

    async def prepare(self) -> str:
        """Make the store if there is none, and give it today's model if it has another. Returns what was done. Raises OpenFgaDown."""
        id = await self._oldest() or (await self._request("POST", "/stores", _Store, {"name": self._name})).id
        model = msgspec.json.decode(await asyncio.to_thread(MODEL.read_bytes))
        newest = await self._newest(id)
        if newest and _trimmed(newest.type_definitions) == _trimmed(model["type_definitions"]):
            return f"OpenFGA's store {self._name} has today's model"
        await self._request("POST", f"/stores/{id}/authorization-models", dict[str, Any], model)
        self._store = None
        return f"OpenFGA's store {self._name} was given today's model"

    # How it is reached

    async def _ask(self, what: str, body: dict[str, Any], kind: type[T]) -> T:
        store = await self.store()
        model = {} if what == "read" else {"authorization_model_id": store.model}
        return await self._request("POST", f"/stores/{store.id}/{what}", kind, body | model | {"consistency": "HIGHER_CONSISTENCY"})

    async def _look(self) -> Store:
        id = await self._oldest()
        newest = await self._newest(id) if id else None
        if not id or not newest:
            raise NoStore(f"OpenFGA has no store {self._name} with a model: run `soma prepare`")
        return Store(id, newest.id)

    async def _oldest(self) -> str | None:
        """Of stores with this name, which nothing keeps from being several, the first that was made."""
        found = (await self._request("GET", f"/stores?name={self._name}&page_size=100", _Stores)).stores
        named = [each for each in found if each.name == self._name]
        return min(named, key=lambda each: (each.created_at, each.id)).id if named else None

    async def _newest(self, id: str) -> _Model | None:
        models = (await self._request("GET", f"/stores/{id}/authorization-models?page_size=1", _Models)).authorization_models
        return models[0] if models else None

    async def _request(self, method: str, path: str, kind: type[T], body: Any = None) -> T:
        try:
            content = None if body is None else msgspec.json.encode(body)
            answer = await self._client.request(method, path, content=content, headers={"content-type": "application/json"})
            if answer.is_success:
                return msgspec.json.decode(answer.content or b"{}", type=kind)
            said = msgspec.json.decode(answer.content, type=dict[str, Any])
        except (httpx.HTTPError, msgspec.DecodeError) as error:  # a ValidationError is a DecodeError
            self._store = None
            raise OpenFgaDown(f"OpenFGA failed: {error!r}") from error
        self._store = None  # it may have been dropped, and another made
        raise _failure(answer.status_code, said)


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


def _failure(status: int, said: dict[str, Any]) -> OpenFgaDown:
    code, message = said.get("code"), str(said.get("message"))[:200]
    if code == "write_failed_due_to_invalid_input":
        return Refused(message)
    return NoStore(message) if code in _NO_MODEL else OpenFgaDown(f"OpenFGA answered {status} {code}: {message}")


def _trimmed(value: Any) -> Any:
    """Without what a server writes where the model leaves it out."""
    if isinstance(value, dict):
        kept = {key: _trimmed(each) for key, each in value.items()}
        return {key: each for key, each in kept.items() if each not in (None, "", {}, [])}
    return [_trimmed(each) for each in value] if isinstance(value, list) else value
