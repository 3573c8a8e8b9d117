"""The console under attack: other sites, other people's cookies, forged forms; and that it opens no door beside the API's."""

import httpx
import pytest

from gateway.console.door import NOUNS
from gateway.console.guard import HEADERS
from tests.faults.cluster import Process
from tests.gateway.closed import raw
from tests.gateway.code_flow import CodeFlow
from tests.gateway.console import PAGES, SCOPES, Person, guarded, provider, signed_in, waiting_call
from tests.gateway.keys import api, gateway, peppered, worker
from tests.gateway.platform import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")
__all__ = ["api", "gateway", "guarded", "peppered", "provider", "worker"]
ROUTES = [(method, path) for noun in NOUNS for method, path, _ in noun.ROUTES if "sign-in" not in path]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_nobody_sees_or_does_anything_without_signing_in(method: str, path: str, guarded: Gateway) -> None:
    answer = await guarded.client.request(
        method, path.format(id="x", call="x", name="x", key="x"), headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/console/sign-in?then=%2Fconsole")


async def test_the_cookie_opens_no_route_of_the_api(guarded: Gateway, api: httpx.AsyncClient) -> None:
    person, _ = await signed_in(guarded, api)
    assert (await person.client.get("/v1/sessions")).status_code == 401
    assert (await person.client.post("/v1/keys", json={"name": "x"})).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/console/../v1/keys",
        "/console/%2e%2e/v1/keys",
        "/console/static/../page.py",
        "/console/static/%2e%2e/page.py",
        "/console/static/",
        "/console//keys",
    ],
)
async def test_nothing_lies_behind_the_console_that_is_no_page_of_it(path: str, guarded: Gateway) -> None:
    answer = await raw(guarded, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), answer
    assert b"def " not in answer


async def test_no_site_can_frame_a_page_or_add_to_it(guarded: Gateway, api: httpx.AsyncClient) -> None:
    # given
    person, _ = await signed_in(guarded, api)
    stranger = Person(guarded)
    # when
    answers = [await person.look(page) for page in PAGES] + [await stranger.look(page) for page in ("/sign-in", "/none", "/sessions")]
    # then
    for answer in answers:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert answer.headers["cache-control"] == "no-store"
        assert "unsafe" not in answer.headers["content-security-policy"]
    assert [answer.status_code for answer in answers[: len(PAGES)]] == [200] * len(PAGES)


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({}, {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}),
        ({}, {"Origin": "https://evil.example"}),
        ({}, {"Origin": "null", "Sec-Fetch-Site": "cross-site"}),
        ({}, {"Origin": "null"}),
        ({}, {"Sec-Fetch-Site": "same-site"}),
        ({}, {}),
        ({"csrf": ""}, None),
        ({"csrf": "guessed"}, None),
    ],
)
async def test_a_form_of_another_site_does_nothing(
    fields: dict[str, str], headers: dict[str, str] | None, guarded: Gateway, api: httpx.AsyncClient
) -> None:
    # given somebody who is signed in
    person, key = await signed_in(guarded, api)
    # when
    answer = await person.send("/keys", f"/keys/{key.id}/revoke", fields, headers)
    # then
    assert answer.status_code == 403
    assert "This was not done" in answer.text
    assert (await api.get(f"/v1/keys/{key.id}")).json()["status"] == "active"


async def test_the_token_of_one_sign_in_is_worth_nothing_to_another(guarded: Gateway, api: httpx.AsyncClient) -> None:
    one, _ = await signed_in(guarded, api)
    other, key = await signed_in(guarded, api)
    page = (await one.look("/keys")).text
    foreign = page.split('name="csrf" value="')[1].split('"')[0]
    assert (await other.send("/keys", f"/keys/{key.id}/revoke", {"csrf": foreign})).status_code == 403
    assert (await other.send("/keys", f"/keys/{key.id}/revoke", {})).status_code == 303


async def test_a_session_that_was_prepared_for_somebody_is_not_the_one_they_sign_in_with(guarded: Gateway, api: httpx.AsyncClient) -> None:
    # given cookies that an attacker has got, and planted
    attacker, _ = await signed_in(guarded, api)
    await Person(guarded).look("/sign-in")
    victim = Person(guarded)
    victim.client.cookies.update(attacker.client.cookies)
    planted = dict(victim.client.cookies)
    # when
    _, key = await signed_in(guarded, api)
    answer = await victim.client.post(
        "/console/sign-in",
        data={"credential": key.secret or "", "csrf": (await attacker.look("/keys")).text.split('csrf" value="')[1].split('"')[0]},
        headers={"Origin": victim.origin, "Sec-Fetch-Site": "same-origin"},
    )
    # then the browser has a session that nobody had before, and the attacker's is still the attacker's
    assert answer.status_code == 303
    assert victim.client.cookies["soma"] != planted["soma"]
    assert key.id in (await victim.look("")).text
    assert key.id not in (await attacker.look("")).text.split("<main")[0]


async def test_a_cookie_can_be_read_by_no_script_and_is_sent_by_no_other_site(guarded: Gateway, api: httpx.AsyncClient) -> None:
    key = (await api.post("/v1/keys", json={"name": "cookie", "scopes": SCOPES})).json()
    plain = (await Person(guarded).sign_in(key["secret"])).headers.get_list("set-cookie")[0].lower()
    assert plain.startswith("soma=")
    assert all(word in plain for word in ("httponly", "samesite=strict", "path=/", "max-age="))
    # and by any other name than this machine's it is for https alone
    named = (await Person(guarded).look("/sign-in", Host="soma.example.com")).headers["set-cookie"]
    assert named.startswith("__Host-soma-visit=")
    assert "Secure" in named
    assert "Domain" not in named


@pytest.mark.parametrize("then", ["https://evil.example", "//evil.example", "/\\evil.example", "/console/..//evil.example"])
async def test_nobody_is_led_to_another_site_by_signing_in(then: str, guarded: Gateway, api: httpx.AsyncClient) -> None:
    key = (await api.post("/v1/keys", json={"name": "led", "scopes": SCOPES})).json()
    assert (await Person(guarded).sign_in(key["secret"], then=then)).headers["location"] == "/console"
    assert "evil" not in (await Person(guarded).client.get("/console/sign-in", params={"then": then})).text


async def test_what_is_no_credential_signs_nobody_in(guarded: Gateway, gateway: Gateway) -> None:
    for one in (guarded, gateway):
        for wrong in ("", "x", "soma_" + "a" * 56, "eyJhbGciOiJub25lIn0.e30."):
            answer = await Person(one).sign_in(wrong)
            assert answer.status_code == 401
            assert "soma=" not in answer.headers.get("set-cookie", "")
            assert 'role="alert"' in answer.text


async def test_a_key_that_is_revoked_ends_its_session_at_once(guarded: Gateway, api: httpx.AsyncClient) -> None:
    person, key = await signed_in(guarded, api)
    assert (await person.look("/keys")).status_code == 200
    await person.send("/keys", f"/keys/{key.id}/revoke", {})
    answer = await person.look("/keys")
    assert answer.headers["location"] == "/console/sign-in?then=%2Fconsole%2Fkeys&reason=over"
    assert "signed out" in (await person.look("/sign-in?reason=over")).text


async def test_the_policies_decide_here_as_they_do_for_the_api(guarded: Gateway, api: httpx.AsyncClient) -> None:
    # given somebody who may look at sessions
    person, _ = await signed_in(guarded, api, ["sessions:read"])
    # when
    seen, tried = await person.look("/sessions"), await person.send("/sign-in", "/keys", {"name": "more"})
    hidden = await person.send("/sessions", "/keys", {"name": "more"})
    # then
    assert "This takes the scope" not in seen.text.split("Start a session")[0]
    assert (tried.status_code, hidden.status_code) == (403, 403)
    assert "This takes the scope" in hidden.text
    assert "Decision " in hidden.text


async def test_a_form_that_is_sent_twice_does_it_once(guarded: Gateway, api: httpx.AsyncClient) -> None:
    person, _ = await signed_in(guarded, api)
    fields = {"name": "twice", "scopes": "sessions:read", "once": "the-key-of-one-page"}
    one, other = [await person.send("/keys", "/keys", fields) for _ in range(2)]
    secrets = [page.text.split('id="secret" tabindex="0">')[1].split("<")[0] for page in (one, other)]
    assert secrets[0] == secrets[1]
    assert [key["name"] for key in (await api.get("/v1/keys", params={"limit": 500})).json()["keys"]].count("twice") == 1
    assert secrets[0] not in (await person.look("/keys")).text


async def test_a_name_that_another_site_gave_this_machine_opens_nothing_where_the_gate_is_open(gateway: Gateway) -> None:
    assert (await Person(gateway).look("", Host="rebound.evil.example:8010")).status_code == 403
    assert "Nobody has to sign in" in (await Person(gateway).look("")).text
    refused = await Person(gateway).send("/keys", "/keys", {"name": "x"}, {"Origin": "http://localhost:3000"})
    assert refused.status_code == 403


async def test_somebody_signs_in_at_the_provider_and_nobody_with_an_answer_meant_for_others(guarded: Gateway, provider: CodeFlow) -> None:
    # given
    person, stranger = Person(guarded), Person(guarded)
    off = await person.look("/sign-in/provider?then=/console/sessions")
    back = (await person.client.get(off.headers["location"])).headers["location"]
    # when an attacker's browser, or one with another state, brings the answer
    assert (await stranger.client.get(back)).status_code == 401
    assert (await person.client.get(back.replace("state=", "state=x"))).status_code == 401
    assert (await person.client.get(back.replace("iss=", "iss=x"))).status_code == 401
    # then only the one who was sent for it is signed in
    welcome = await person.client.get(back)
    assert 'content="0; url=/console/sessions"' in welcome.text
    assert "ada · default" in (await person.look("/sessions")).text
    # and the code is good once
    assert (await person.client.get(back)).status_code == 401


async def test_a_call_is_approved_only_with_the_arguments_that_were_seen(guarded: Gateway, api: httpx.AsyncClient, worker: Process) -> None:
    # given
    person, _ = await signed_in(guarded, api)
    session, call = await waiting_call(api, "<b>7</b>")
    assert "&lt;b&gt;7&lt;/b&gt;" in (await person.look("/approvals")).text
    address = f"/sessions/{session}/calls/{call}"
    # when, then
    answer = await person.send("/approvals", f"{address}/approve", {"digest": "0" * 32})
    shown = await person.client.get(answer.headers["location"]) if answer.is_redirect else answer
    assert "efused" in shown.text
    assert (await api.get(f"/v1/sessions/{session}/calls/{call}")).json()["status"] == "awaiting"
    assert (await person.send("/approvals", f"{address}/deny", {"note": "<i>no</i>"})).status_code == 303
    page = await person.look(f"/sessions/{session}")
    assert "&lt;i&gt;no&lt;/i&gt;" in page.text
    assert (await api.get(f"/v1/sessions/{session}/calls/{call}")).json()["outcome"] == "denied"
