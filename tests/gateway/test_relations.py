"""Who may do what with things that are another's: the same through both engines, and at the next request."""

import re
import uuid
from typing import Any

import httpx
import pytest
import pytest_asyncio

from gateway.app import create_app
from gateway.auth import Principal
from gateway.needs import action_of
from gateway.relations import NEEDED, given
from ops.settings import Settings
from tests.gateway.related import ROOT, USER, Platform, a_name, api, platform, related, server, session, share, signed_in, unshare
from tests.gateway.signing import bearer
from tests.gateway.test_needs import api_routes

__all__ = ["api", "platform", "related", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
ADA, BOB, EVE = (signed_in(name) for name in ("ada", "bob", "eve"))
CALLERS = {
    "owner": ADA,
    "editor": signed_in("eddy"),
    "approver": signed_in("ann"),
    "viewer": signed_in("vic"),
    "member of a group in a group": signed_in("gus"),
    "admin by a scope": ROOT,
    "admin on record": signed_in("adam"),
    "nobody": signed_in("sam"),
    "of another tenant": signed_in("ada", tenant="other", scope="*"),
}
NEVER = {"If-Match": '"999999"'}
"""A condition that does not hold: whoever is let in changes nothing."""


def asking(id: str) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """A request for each thing that one can do with a session. None of them changes it."""
    call = f"/v1/sessions/{id}/calls/{uuid.uuid4()}"
    approval = {"arguments_digest": "00" * 16}
    return {
        "read": ("GET", f"/v1/sessions/{id}", {}),
        "follow": ("GET", f"/v1/sessions/{id}/events", {"headers": {"Accept": "application/json"}}),
        "calls": ("GET", f"/v1/sessions/{id}/calls", {}),
        "shares": ("GET", f"/v1/sessions/{id}/share", {}),
        "fork": ("POST", f"/v1/sessions/{id}/fork", {"json": {"version": 999_999}}),
        "message": ("POST", f"/v1/sessions/{id}/messages", {"json": {"input": "hello"}, "headers": NEVER}),
        "cancel": ("POST", f"/v1/sessions/{id}/cancel", {"headers": NEVER}),
        "close": ("POST", f"/v1/sessions/{id}/close", {"headers": NEVER}),
        "approve": ("POST", f"{call}/approve", {"json": approval}),
        "deny": ("POST", f"{call}/deny", {}),
        "settle": ("POST", f"{call}/settle", {"json": {"outcome": "failed", "result": "x"}}),
        "share": ("POST", f"/v1/sessions/{id}/share", {"json": {"with": "user:nobody", "as": "member"}}),
        "unshare": ("DELETE", f"/v1/sessions/{id}/share", {"params": {"with": "user:nobody", "as": "viewer"}}),
    }


READING, WRITING = {"read", "follow", "calls", "shares", "fork"}, {"message", "cancel", "close"}
APPROVING, SHARING = {"approve", "deny", "settle"}, {"share", "unshare"}
MAY = {
    "owner": READING | WRITING | APPROVING | SHARING,
    "editor": READING | WRITING,
    "approver": READING | APPROVING,
    "viewer": READING,
    "member of a group in a group": READING,
    "admin by a scope": READING | WRITING | APPROVING | SHARING,
    "admin on record": READING | WRITING | APPROVING | SHARING,
    "nobody": set[str](),
    "of another tenant": set[str](),
}


def met(answer: httpx.Response, id: str) -> str:
    """What became of a request at the gate: whoever was let in meets whatever the route says."""
    if answer.status_code == 403:
        assert answer.json()["decision"]["rule"] == "relation", answer.text
        return "lacking"
    hidden = answer.status_code == 404 and answer.json()["detail"] == f"There is no session {id}."
    return "hidden" if hidden else "let in"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(platform: Platform) -> str:
    """A session of ada's that is shared in every way there is."""
    client = platform["read_model"].client
    id, inner, outer = await session(client, ADA), a_name(), a_name()
    given = [
        (f"groups/{inner}", "user:gus", "member", ROOT),
        (f"groups/{outer}", f"group:{inner}", "member", ROOT),
        ("tenants/acme", "user:adam", "admin", ROOT),
        (f"sessions/{id}", f"group:{outer}", "viewer", ADA),
        (f"sessions/{id}", "user:vic", "viewer", ADA),
        (f"sessions/{id}", "user:eddy", "editor", ADA),
        (f"sessions/{id}", "user:ann", "approver", ADA),
    ]
    for path, subject, role, who in given:
        answer = await share(client, path, subject, role, who)
        assert answer.status_code == 200, answer.text
    # the other gateway's store has them once it has the last one
    assert (await share(platform["openfga"].client, f"sessions/{id}", "user:last", "viewer", ADA)).status_code == 200
    return id


@pytest.mark.parametrize("who", CALLERS)
async def test_each_may_do_what_its_relation_lets_it_and_nothing_else(api: httpx.AsyncClient, shared: str, who: str) -> None:
    # when
    found = dict[str, str]()
    for what, (method, path, request) in asking(shared).items():
        headers = CALLERS[who] | request.get("headers", {})
        found[what] = met(await api.request(method, path, **{**request, "headers": headers}), shared)
    # then
    otherwise = "lacking" if MAY[who] else "hidden"
    assert found == {what: "let in" if what in MAY[who] else otherwise for what in found}


async def test_what_one_may_not_see_is_told_of_as_what_is_not_there(api: httpx.AsyncClient) -> None:
    id, none = await session(api, ADA), "019ab3c2-7e1d-7cc0-9f6a-3b1de5a1c000"
    hidden, absent = [await api.get(f"/v1/sessions/{each}", headers=BOB) for each in (id, none)]
    assert (hidden.status_code, absent.status_code) == (404, 404)
    assert hidden.text.replace(id, "") == absent.text.replace(none, "")


async def test_the_next_request_finds_what_was_shared_and_misses_what_is_not_any_more(api: httpx.AsyncClient) -> None:
    id = await session(api, ADA)
    for _ in range(5):
        # when
        assert (await share(api, f"sessions/{id}", "user:bob", "viewer", ADA)).status_code == 200
        # then
        assert (await api.get(f"/v1/sessions/{id}", headers=BOB)).status_code == 200
        # when
        assert (await unshare(api, f"sessions/{id}", "user:bob", "viewer", ADA)).status_code == 200
        # then
        assert (await api.get(f"/v1/sessions/{id}", headers=BOB)).status_code == 404


async def test_a_stream_ends_when_its_callers_relation_is_taken_back(api: httpx.AsyncClient) -> None:
    # given
    id = await session(api, ADA)
    assert (await share(api, f"sessions/{id}", "user:bob", "viewer", ADA)).status_code == 200
    async with api.stream("GET", f"/v1/sessions/{id}/events", headers=BOB, timeout=60) as stream:
        lines = stream.aiter_lines()
        async for line in lines:
            if line == "event: SessionStarted":
                break
        # when
        assert (await unshare(api, f"sessions/{id}", "user:bob", "viewer", ADA)).status_code == 200
        # then it ends by itself, and begins no more
        assert [line async for line in lines if line.startswith("event: ")] == []
    assert (await api.get(f"/v1/sessions/{id}/events", headers=BOB)).status_code == 404


async def test_who_leaves_a_group_loses_what_it_had_by_it(api: httpx.AsyncClient) -> None:
    # given
    id, group = await session(api, ADA), a_name()
    await share(api, f"groups/{group}", "user:bob", "member", ROOT)
    await share(api, f"sessions/{id}", f"group:{group}", "editor", ADA)
    assert (await api.post(f"/v1/sessions/{id}/messages", json={"input": "hi"}, headers=BOB)).status_code == 200
    # when
    assert (await unshare(api, f"groups/{group}", "user:bob", "member", ROOT)).status_code == 200
    # then
    assert (await api.get(f"/v1/sessions/{id}", headers=BOB)).status_code == 404


async def test_groups_that_are_members_of_one_another_end_no_question(api: httpx.AsyncClient) -> None:
    # given
    id, one, two = await session(api, ADA), a_name(), a_name()
    await share(api, f"groups/{one}", f"group:{two}", "member", ROOT)
    await share(api, f"groups/{two}", f"group:{one}", "member", ROOT)
    await share(api, f"groups/{two}", "user:bob", "member", ROOT)
    assert (await share(api, f"sessions/{id}", f"group:{one}", "viewer", ADA)).status_code == 200
    # then
    assert (await api.get(f"/v1/sessions/{id}", headers=BOB)).status_code == 200
    assert (await api.get(f"/v1/sessions/{id}", headers=EVE)).status_code == 404


async def test_admins_of_an_organisation_are_admins_of_those_below_it(api: httpx.AsyncClient) -> None:
    # given blue, and below it green
    blue, green, lead = a_name(), a_name(), signed_in("lead")
    assert (await share(api, f"tenants/{blue}", "user:lead", "admin", ROOT)).status_code == 200
    assert (await share(api, f"tenants/{green}", "user:bob", "member", lead)).status_code == 403
    # when
    assert (await share(api, f"tenants/{green}", f"tenant:{blue}", "parent", ROOT)).status_code == 200
    # then
    assert (await share(api, f"tenants/{green}", "user:bob", "member", lead)).status_code == 200
    assert (await share(api, "tenants/acme", "user:lead", "admin", lead)).status_code == 403
    # and what is shared with an organisation is its members'
    id = await session(api, ADA)
    assert (await share(api, f"sessions/{id}", f"tenant:{green}", "viewer", ADA)).status_code == 200
    assert [(await api.get(f"/v1/sessions/{id}", headers=who)).status_code for who in (BOB, lead, EVE)] == [200, 200, 404]


async def test_only_admins_make_groups(api: httpx.AsyncClient) -> None:
    group = a_name()
    refused = await share(api, f"groups/{group}", "user:bob", "member", BOB)
    assert (refused.status_code, refused.json()["detail"]) == (403, "This takes the relation owner to the group.")
    assert (await share(api, f"groups/{group}", "user:bob", "member", ROOT)).status_code == 200
    # and everybody may look at them
    listed = await api.get("/v1/groups", params={"limit": 500}, headers=EVE)
    assert group in listed.json()["groups"]
    assert (await api.get(f"/v1/groups/{group}/share", headers=EVE)).json()["relations"] == [{"with": "user:bob", "as": "member"}]


async def test_a_list_shows_what_its_caller_may_see(api: httpx.AsyncClient) -> None:
    # given
    ann, label = signed_in(a_name()), {"label": a_name()}
    mine, shared, hidden = [await session(api, who, metadata=label) for who in (ann, ADA, ADA)]
    actor = (await api.get(f"/v1/sessions/{mine}/share", headers=ann)).json()["relations"][0]["with"]
    assert (await share(api, f"sessions/{shared}", actor, "viewer", ADA)).status_code == 200
    query = {"metadata": f"label={label['label']}", "limit": "2"}

    async def listed(who: dict[str, str]) -> list[str]:
        found, cursor = list[str](), ""
        while True:
            further = {"cursor": cursor} if cursor else {}
            page = (await api.get("/v1/sessions", params=query | further, headers=who)).json()
            found += [each["id"] for each in page["sessions"]]
            if (cursor := page["next_cursor"]) is None:
                return found

    # then
    assert await listed(ann) == [shared, mine]
    assert await listed(ROOT) == [hidden, shared, mine]
    assert await listed(EVE) == []


async def test_what_waits_for_an_approval_is_listed_for_those_who_may_give_it(api: httpx.AsyncClient) -> None:
    # given a call that waits, in a session that one may see and another may approve in
    tool, viewer, approver = a_name(), a_name(), a_name()
    paying = {"name": tool, "description": "Pays.", "parameters": {"type": "object"}, "python": {"entry_point": "calculator"}}
    assert (await api.post("/v1/tools", json=paying | {"approval": "always"}, headers=ADA)).status_code == 201
    id = await session(api, ADA, tools=[tool], input=f"/{tool} {{}}")
    for name, role in ((viewer, "viewer"), (approver, "approver")):
        assert (await share(api, f"sessions/{id}", f"user:{name}", role, ADA)).status_code == 200

    async def listed(path: str, who: dict[str, str]) -> bool:
        answer = await api.get(f"/v1/{path}", params={"limit": "200"}, headers=who)
        return id in [call["session_id"] for call in answer.json()[path]]

    # then
    for who in (ADA, signed_in(approver), ROOT):
        assert await listed("approvals", who)
    for who in (signed_in(viewer), EVE):
        assert not await listed("approvals", who)
    assert await listed("calls", signed_in(viewer))


async def test_a_tool_is_everybodys_to_see_and_its_editors_to_change(api: httpx.AsyncClient) -> None:
    # given
    name = a_name()
    tool = {"name": name, "description": "Adds.", "parameters": {"type": "object"}, "python": {"entry_point": "calculator"}}
    assert (await api.post("/v1/tools", json=tool, headers=ADA)).status_code == 201
    # then
    assert (await api.get(f"/v1/tools/{name}", headers=BOB)).status_code == 200
    changed = tool | {"description": "Adds more."}
    refused = await api.post("/v1/tools", json=changed, headers=BOB)
    assert (refused.status_code, refused.json()["detail"]) == (403, "This takes the relation editor to the tool.")
    assert (await api.delete(f"/v1/tools/{name}", headers=BOB)).status_code == 403
    assert (await share(api, f"tools/{name}", "user:eve", "editor", BOB)).status_code == 403
    # when
    shown = await share(api, f"tools/{name}", "user:bob", "editor", ADA)
    # then
    assert shown.json()["relations"] == [{"with": "user:bob", "as": "editor"}]
    assert (await api.post("/v1/tools", json=changed, headers=BOB)).status_code == 201
    owner = (await api.get(f"/v1/tools/{name}/share", headers=EVE)).json()["relations"][0]
    assert owner == {"with": "user:ada", "as": "owner"}


async def test_an_agent_is_its_publishers_to_change(api: httpx.AsyncClient) -> None:
    name, terms = a_name(), {"model": "echo"}
    assert (await api.put(f"/v1/agents/{name}", json=terms, headers=ADA)).status_code == 201
    assert (await api.put(f"/v1/agents/{name}", json=terms | {"description": "x"}, headers=BOB)).status_code == 403
    assert (await api.put(f"/v1/agents/{name}", json=terms | {"description": "x"}, headers=ROOT)).status_code == 201
    assert (await api.post("/v1/sessions", json={"agent": name}, headers=BOB)).status_code == 201


async def test_a_conversation_of_another_is_not_gone_on_with_by_its_response(api: httpx.AsyncClient) -> None:
    # given
    first = await api.post("/v1/responses", json={"model": "echo", "input": "a secret"}, headers=ADA)
    assert first.status_code == 200, first.text
    further = {"model": "echo", "input": "and?", "previous_response_id": first.json()["id"]}
    # then
    assert (await api.get(f"/v1/responses/{first.json()['id']}", headers=BOB)).status_code == 404
    assert (await api.post("/v1/responses", json=further, headers=BOB)).status_code == 404
    assert (await api.post("/v1/responses", json=further, headers=ADA)).status_code == 200


async def test_an_idempotency_key_of_another_opens_nothing_of_its(api: httpx.AsyncClient) -> None:
    body, key = {"model": "echo", "input": "a secret"}, {"Idempotency-Key": a_name()}
    mine, other = [await api.post("/v1/sessions", json=body, headers=who | key) for who in (ADA, BOB)]
    assert mine.json()["id"] != other.json()["id"]
    assert (await api.post("/v1/sessions", json=body, headers=ADA | key)).json()["id"] == mine.json()["id"]
    given = {"Idempotency-Key": f"session:{mine.json()['id']}"}
    assert (await api.post("/v1/sessions", json=body, headers=BOB | given)).status_code == 404


async def test_what_is_shared_with_an_api_key_its_bearer_reads_and_nothing_else(api: httpx.AsyncClient) -> None:
    # given a key with every scope of a user, and two sessions of which one is shared with it
    issued = await api.post("/v1/keys", json={"name": a_name(), "scopes": USER.split()}, headers=signed_in("root", scope="*"))
    assert issued.status_code == 201, issued.text
    key, who = f"key:{issued.json()['id']}", bearer(issued.json()["secret"])
    shared, other = [await session(api, ADA) for _ in range(2)]
    assert (await api.get(f"/v1/sessions/{shared}", headers=who)).status_code == 404
    assert (await share(api, f"sessions/{shared}", key, "viewer", ADA)).status_code == 200
    # then its bearer reads that one, and does nothing else with it, and a user of the key's name is not meant
    found = [await api.get(f"/v1/sessions/{id}", headers=who) for id in (shared, other)]
    assert [answer.status_code for answer in found] == [200, 404]
    assert [each["id"] for each in (await api.get("/v1/sessions", headers=who)).json()["sessions"]] == [shared]
    refused = await api.post(f"/v1/sessions/{shared}/messages", json={"input": "hi"}, headers=who)
    assert (refused.status_code, refused.json()["decision"]["rule"]) == (403, "relation")
    assert (await api.get(f"/v1/sessions/{shared}", headers=signed_in(key.partition(":")[2]))).status_code == 404
    # when it starts one itself, then that is its own
    mine = await session(api, who)
    assert (await api.get(f"/v1/sessions/{mine}", headers=ADA)).status_code == 404
    # when it is not shared any more
    assert (await unshare(api, f"sessions/{shared}", key, "viewer", ADA)).status_code == 200
    # then it is gone
    assert (await api.get(f"/v1/sessions/{shared}", headers=who)).status_code == 404
    assert [each["id"] for each in (await api.get("/v1/sessions", headers=who)).json()["sessions"]] == [mine]


async def test_a_relation_that_cannot_be_is_refused(api: httpx.AsyncClient) -> None:
    id = await session(api, ADA)
    refused = await share(api, f"sessions/{id}", "user:bob", "admin", ADA)
    assert (refused.status_code, refused.json()["refusal"]) == (409, "no_such_relation")
    assert (await share(api, f"sessions/{id}", "bob", "viewer", ADA)).status_code == 422
    assert (await unshare(api, f"sessions/{id}", "user:bob", "viewer", ADA)).status_code == 404
    again = [await share(api, f"sessions/{id}", "user:bob", "viewer", ADA) for _ in range(2)]
    assert [answer.status_code for answer in again] == [200, 200]


async def test_a_denial_is_on_record_with_the_rule(api: httpx.AsyncClient) -> None:
    # given
    id = await session(api, ADA)
    await share(api, f"sessions/{id}", "user:bob", "viewer", ADA)
    # when
    refused = await api.post(f"/v1/sessions/{id}/messages", json={"input": "hi"}, headers=BOB)
    # then
    decision = refused.json()["decision"]
    assert (refused.status_code, decision["rule"], refused.json()["detail"]) == (
        403,
        "relation",
        "This takes the relation editor to the session.",
    )
    auditor = signed_in("auditor", scope="audit:read")
    for _ in range(100):
        if (found := await api.get(f"/v1/audit/{decision['id']}", headers=auditor)).status_code == 200:
            break
    assert (found.json()["outcome"], found.json()["actor"], found.json()["resource_id"]) == ("denied", "bob", id)


async def test_every_route_that_names_a_thing_takes_a_relation_to_it() -> None:
    # given what names a session, or something that is called by a name, in its address
    named = {"session_id": "session", "response_id": "session", "name": None}
    shown = {"group.shares", "tenant.shares"}  # every member may look at them
    for route in api_routes(create_app(Settings())):
        action, params = action_of(route), set(re.findall(r"{(\w+)}", route.path))
        for param in params & named.keys():
            kind = named[param] or str(action).partition(".")[0]
            if kind in ("session", "tool", "agent", "group", "tenant") and action not in shown:
                # then its action is among those that take one
                assert action in NEEDED, f"{route.path}: which relation does {action} take?"
                assert NEEDED[action].kind == kind, route.path


async def test_a_key_is_known_by_its_own_name_and_nobody_passes_for_one() -> None:
    key, user = Principal("acme", "key:k1", "key"), Principal("acme", "key:k1", "user")
    assert (given(key).who, given(user).who) == ("key:k1", "user:key:k1")
    assert [given(Principal("acme", "a", scopes=frozenset({scope}))).admin for scope in ("*", "relations:admin", "sessions:read")] == [
        True, True, False,
    ]  # fmt: skip
