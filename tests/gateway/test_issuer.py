"""Keys of an identity provider, which rotates them, and has bad days."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
import pytest_asyncio

from gateway import keyring
from gateway.issuer import LONGEST, Issuer
from gateway.keyring import Keyring, SourceDown
from gateway.problems import CannotVerify, Unauthenticated
from gateway.token import Terms, Tokens
from tests.gateway.provider import Provider
from tests.gateway.signing import AUDIENCE, EC, HMAC, RSA, encoded, public, saying, token

DESCRIPTION = "/.well-known/openid-configuration"


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[Provider]:
    async with Provider(RSA) as provider:
        yield provider


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


@pytest_asyncio.fixture
async def tokens(provider: Provider, client: httpx.AsyncClient) -> Tokens:
    """Whose ring asks as often as a test wants."""
    ring = Keyring(Issuer(client, provider.issuer, None), fresh=60.0, pause=0.0)
    return Tokens(Terms(issuer=provider.issuer, audience=(AUDIENCE,)), [ring])


async def test_keys_are_found_by_discovery_and_by_their_own_address(provider: Provider, client: httpx.AsyncClient, tokens: Tokens) -> None:
    assert (await tokens.principal(token(saying(iss=provider.issuer)))).actor == "ada"
    assert provider.asked == [DESCRIPTION, "/keys"]
    found = await Issuer(client, "https://somebody.example", f"{provider.issuer}/keys").fetch()
    assert [key.kid for key in found.keys] == ["rsa-1"]
    assert provider.asked == [DESCRIPTION, "/keys", "/keys"]


async def test_a_rotated_key_is_taken_at_once_and_the_former_one_no_more(provider: Provider, tokens: Tokens) -> None:
    # given
    former, latter = token(saying(iss=provider.issuer)), token(saying(iss=provider.issuer), EC)
    await tokens.principal(former)
    # when
    provider.keys = [EC]
    # then
    assert (await tokens.principal(latter)).actor == "ada"
    with pytest.raises(Unauthenticated):
        await tokens.principal(former)


async def test_a_provider_that_is_down_keeps_nobody_out_whose_key_is_known_and_its_return_is_noticed(
    provider: Provider, tokens: Tokens
) -> None:
    # given
    known, unknown = token(saying(iss=provider.issuer)), token(saying(iss=provider.issuer), EC)
    await tokens.principal(known)
    # when
    await provider.down()
    # then
    assert (await tokens.principal(known)).actor == "ada"
    with pytest.raises(CannotVerify):
        await tokens.principal(unknown)
    # when it is back, with the other key
    provider.keys = [RSA, EC]
    await provider.up()
    # then
    assert (await tokens.principal(unknown)).actor == "ada"


async def test_one_that_is_slow_is_waited_for_once_by_all_and_not_for_long(
    provider: Provider, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setattr(keyring, "ASK_SECONDS", 0.3)
    provider.slow = True
    ring = tokens.rings[0]
    ring._pause = 60.0
    # when many ask at once
    answers = await asyncio.gather(*(tokens.principal(token(saying(iss=provider.issuer))) for _ in range(20)), return_exceptions=True)
    # then
    assert {type(answer) for answer in answers} == {CannotVerify}
    assert provider.asked == [DESCRIPTION]
    assert ring.failing == "no answer within 0.3 s"


@pytest.mark.parametrize(
    ("path", "status", "body", "said"),
    [
        (DESCRIPTION, 500, b"", "HTTP 500"),
        (DESCRIPTION, 302, b"", "HTTP 302"),
        (DESCRIPTION, 200, b"<html>", "not answer in JSON"),
        (DESCRIPTION, 200, b"[]", "does not describe"),
        (DESCRIPTION, 200, b'{"issuer": "https://somebody.else", "jwks_uri": "http://127.0.0.1/keys"}', "does not describe"),
        ("/keys", 200, b"[" * 9_000, "not answer in JSON"),
        ("/keys", 200, b"{}", "no JWK Set"),
        ("/keys", 200, b'{"keys": []}', "no key"),
        ("/keys", 200, b'{"keys": [{"kty": "oct", "k": "' + encoded(b"x" * 32).encode() + b'"}]}', "no key"),
        ("/keys", 200, b" " * (LONGEST + 1), "more than"),
    ],
)
async def test_nonsense_is_no_key(provider: Provider, client: httpx.AsyncClient, path: str, status: int, body: bytes, said: str) -> None:
    provider.answers[path] = (status, body)
    with pytest.raises(SourceDown, match=said):
        await Issuer(client, provider.issuer, None).fetch()
    assert "/elsewhere" not in provider.asked


@pytest.mark.parametrize("address", ["http://keys.example/keys", "file:///etc/passwd", "http://127.0.0.1.attacker.example/", "", 7])
async def test_keys_come_by_https_or_from_this_machine(provider: Provider, client: httpx.AsyncClient, address: object) -> None:
    provider.answers[DESCRIPTION] = (200, msgspec.json.encode({"issuer": provider.issuer, "jwks_uri": address}))
    with pytest.raises(SourceDown, match="https"):
        await Issuer(client, provider.issuer, None).fetch()


async def test_a_provider_that_lists_a_shared_secret_makes_no_secret_of_it(provider: Provider, tokens: Tokens) -> None:
    provider.answers["/keys"] = (200, msgspec.json.encode({"keys": [public(RSA), HMAC.as_dict(private=True)]}))
    with pytest.raises(Unauthenticated):
        await tokens.principal(token(saying(iss=provider.issuer), HMAC))
