"""Every route, and whoever may not use it: a matrix over the API's description, so that a route of tomorrow is held to the same.

| who | is answered |
|---|---|
| nobody; every forged, altered or expired token; a revoked key | 401 |
| somebody with every scope but the one that it takes | 403, by the rule `scope` |
| somebody of another tenant, with an id that exists | 404 |
"""

import asyncio

import httpx
import pytest

from gateway.auth import is_public
from gateway.needs import action_of
from ops import rego
from tests.faults.cluster import Process
from tests.gateway.closed import (
    EVERYBODY,
    address,
    client,
    closed,
    gateway,
    operations,
    provider,
    routes,
    signed_in,
    theirs,
    worker,
)
from tests.gateway.platform import Gateway
from tests.gateway.provider import Provider
from tests.gateway.test_needs import api_routes
from tests.gateway.test_token import ATTACKS

pytestmark = pytest.mark.asyncio(loop_scope="module")
__all__ = ["client", "closed", "gateway", "provider", "theirs", "worker"]
PLATFORM, SHARING = "/v1/policies", "/share"
"""Of no tenant but the platform's; switched off here, and asked in test_relations."""
SCOPES: dict[str, str] = rego.load(None).data["soma"]["actions"]


async def test_no_route_but_those_for_everybody_answers_without_a_token(gateway: Gateway, client: httpx.AsyncClient) -> None:
    found = set(routes(gateway))
    assert len(found) > 20
    for method, path in found:
        answer = await client.request(method, address(path), json={} if method == "POST" else None)
        if (method, path) in EVERYBODY:
            assert answer.status_code != 401, path
        else:
            assert answer.status_code == 401, f"{method} {path}"
            assert answer.headers["www-authenticate"] == 'Bearer realm="soma"'
            assert answer.headers["content-type"] == "application/problem+json"
    assert {(method, path) for method, path in found if is_public(method, address(path))} <= EVERYBODY


async def test_the_description_says_which_operations_need_a_token(gateway: Gateway) -> None:
    for path, item in gateway.app.openapi()["paths"].items():
        for method, operation in item.items():
            public = (method.upper(), path) in EVERYBODY
            assert operation["security"] == ([] if public else [{"bearer": []}]), path
            assert public or "401" in operation["responses"], path


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
async def test_no_token_that_attacks_opens_any_route(gateway: Gateway, client: httpx.AsyncClient, attack: str) -> None:
    header = f"Bearer {attack}".strip().encode()
    for method, path in {route for route in routes(gateway) if route not in EVERYBODY}:
        answer = await client.request(method, address(path), headers=[(b"Authorization", header)], json={} if method == "POST" else None)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), path


async def test_a_revoked_key_opens_no_route(gateway: Gateway, client: httpx.AsyncClient, provider: Provider, worker: Process) -> None:
    # given a key that may do everything, and did
    ada = signed_in(provider)
    key = (await client.post("/v1/keys", json={"name": "leaked", "scopes": ["*"]}, headers=ada)).json()
    shown = ({"Authorization": f"Bearer {key['secret']}"}, {"X-API-Key": key["secret"]})
    assert [(await client.get("/v1/sessions", headers=header)).status_code for header in shown] == [200, 200]
    # when
    assert (await client.delete(f"/v1/keys/{key['id']}", headers=ada)).status_code == 200
    # then
    for method, path, body in operations(gateway):
        for header in shown:
            answer = await client.request(method, address(path), json=body, headers=header)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), f"{method} {path}"


def scope_of(gateway: Gateway) -> dict[tuple[str, str], str]:
    """The scope that each operation takes, by method and address."""
    found = {(method, route.path): action_of(route) for route in api_routes(gateway.app) for method in route.methods or ()}
    return {place: SCOPES[action] for place, action in found.items() if action}


async def test_who_has_every_scope_but_the_one_is_kept_out_of_each_route_and_who_has_that_one_alone_is_not(
    gateway: Gateway, client: httpx.AsyncClient, provider: Provider, theirs: dict[str, str]
) -> None:
    scopes, everything = scope_of(gateway), set(SCOPES.values())
    tried = set()
    for method, path, body in operations(gateway):
        if path == "/metrics":  # of the process, and of no tenant: whoever is known may read it
            continue
        scope = scopes[method, path.removeprefix("/v1")]
        tried.add(scope)
        # when somebody of the tenant has all others
        most = signed_in(provider, sub="bob", scope=" ".join(everything - {scope}))
        answer = await client.request(method, path.format(**theirs), json=body, headers=most)
        # then they are told which one it takes
        assert answer.status_code == 403, f"{method} {path}: {answer.text}"
        problem = answer.json().get("error") or answer.json()  # the door for OpenAI's clients has their shape of it
        assert (problem["decision"]["rule"], f"This takes the scope {scope}." in answer.text) == ("scope", True), path
        # when somebody of another tenant has it, and nothing else
        alone = signed_in(provider, sub="mallory", tenant="elsewhere", scope=scope)
        answer = await client.request(method, path.format(**theirs), json=body, headers=alone)
        # then it is no policy that keeps them out, save of what is the whole platform's
        assert answer.status_code != 500, f"{method} {path}: {answer.text}"
        kept_out = answer.json()["decision"]["rule"] if '"forbidden"' in answer.text else None
        assert kept_out == ("operator" if path.startswith(PLATFORM) else None), f"{method} {path}: {answer.text}"
    assert tried == everything


async def test_what_is_of_one_tenant_is_not_there_for_another(
    gateway: Gateway, client: httpx.AsyncClient, provider: Provider, theirs: dict[str, str]
) -> None:
    # given
    ada, eve = signed_in(provider), signed_in(provider, tenant="evil")
    with_id = [
        each for each in operations(gateway) if "{" in each[1] and not each[1].startswith(PLATFORM) and not each[1].endswith(SHARING)
    ]
    shows = {path.format(**theirs) for method, path, _ in with_id if method == "GET" and not path.endswith(("/result", "/events"))}
    async with asyncio.timeout(20):
        while any([(await client.get(path, headers=ada)).status_code != 200 for path in shows]):
            await asyncio.sleep(0.1)
    before = {path: (await client.get(path, headers=ada)).json() for path in shows}
    # when eve asks for each thing of ada's by its id, in every way that there is
    for method, path, body in with_id:
        if method == "PUT":  # makes one of eve's own, whatever the name
            continue
        answer = await client.request(method, path.format(**theirs), json=body, headers=eve)
        # then it is not there, and nothing of it is told; of a decision that would be new, that it is not there yet
        assert answer.status_code == 404 or (answer.json()["code"] == "not_yet" and "audit" in path), f"{method} {path}: {answer.text}"
        assert not any(word in answer.text for word in ("blue", "Pays", "acme", '"session"')), answer.text
    # and for ada all of it is as it was
    assert {path: (await client.get(path, headers=ada)).json() for path in shows} == before
    assert len(shows) >= 8


async def test_lists_pasts_streams_and_keys_are_of_ones_own_tenant(
    client: httpx.AsyncClient, provider: Provider, theirs: dict[str, str]
) -> None:
    ada, eve = signed_in(provider), signed_in(provider, tenant="evil")
    # lists
    for path, name in (("/v1/sessions", "sessions"), ("/v1/calls", "calls"), ("/v1/approvals", "approvals"), ("/v1/tools", "tools")):
        assert (await client.get(path, headers=ada)).json()[name], path
        assert (await client.get(path, headers=eve)).json()[name] == [], path
    assert (await client.get("/v1/sessions", params={"metadata": "team=blue"}, headers=eve)).json()["sessions"] == []
    # pasts, and streams
    session = f"/v1/sessions/{theirs['session_id']}"
    for as_of in ("1", "0:0", "2999-01-01T00:00:00Z"):
        assert (await client.get(session, params={"as_of": as_of}, headers=eve)).status_code in (400, 404)
    for accept in ("text/event-stream", "application/json"):
        for more in ({}, {"Last-Event-ID": "e0-0"}):
            answer = await client.get(f"{session}/events", headers=eve | {"Accept": accept} | more)
            assert answer.status_code in (400, 404), answer.text
    # a tool of another tenant is none
    assert (await client.post("/v1/sessions", json={"model": "echo", "tools": ["payer"]}, headers=eve)).status_code == 422
    # the same key of another tenant is another key
    hers = await client.post("/v1/sessions", json={"model": "echo"}, headers=eve | {"Idempotency-Key": "theirs"})
    assert hers.status_code == 201
    assert hers.json()["id"] != theirs["session_id"]
    # nor does a key that names the id of a session open it
    given = await client.post("/v1/sessions", json={"model": "echo"}, headers=eve | {"Idempotency-Key": f"session:{theirs['session_id']}"})
    assert given.status_code == 404, given.text
