"""What a token has to be to prove anybody, and what it can try."""

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, Key, RSAKey

from gateway.auth import Principal
from gateway.key_material import PUBLIC, jwks_keys, pem_key, secret_key
from gateway.keyring import Fetched, Keyring, Secret, SourceDown
from gateway.problems import CannotVerify, Unauthenticated
from gateway.token import LONGEST, Terms, Tokens, issue, parse
from ops.settings import Settings
from tests.gateway.signing import AUDIENCE, EC, ED, HMAC, ISSUER, LONG, RSA, SECRET, encoded, hs256, public, saying, token

TERMS = Terms(issuer=ISSUER, audience=(AUDIENCE, "other"))
NOW = int(time.time())
STRANGER = RSAKey.generate_key(2048, {"kid": "rsa-1"})
PEM = RSA.as_pem(private=False)


class Shown:
    """A source that answers with what it was given."""

    name, kinds = "shown", PUBLIC

    def __init__(self, *keys: Key) -> None:
        self.keys, self.asked, self.down = keys, 0, False

    async def fetch(self) -> Fetched:
        self.asked += 1
        if self.down:
            raise SourceDown("down")
        return Fetched(jwks_keys({"keys": [public(key) for key in self.keys]}), 60.0)


def verifier(*, terms: Terms = TERMS) -> Tokens:
    return Tokens(terms, [Keyring(Shown(RSA, EC, ED), 60.0), Keyring(Secret(SECRET), 60.0)])


@pytest.mark.parametrize(
    ("key", "algorithm"), [(RSA, "RS256"), (RSA, "PS512"), (EC, "ES256"), (ED, "Ed25519"), (ED, "EdDSA"), (HMAC, "HS256")]
)
async def test_a_token_proves_its_caller_by_each_kind_of_key(key: Key, algorithm: str) -> None:
    # given
    claims = saying(scope="sessions:read sessions:write", roles=["admin"], groups=["blue"])
    # when
    who = await verifier().principal(token(claims, key, alg=algorithm))
    # then
    assert (who.tenant, who.actor, who.kind) == ("acme", "ada", "user")
    assert (who.scopes, who.roles) == (frozenset({"sessions:read", "sessions:write"}), frozenset({"admin"}))
    assert who.claims["groups"] == ["blue"]
    assert who.expires_at and who.expires_at.timestamp() == claims["exp"]


@pytest.mark.parametrize(
    "good",
    [
        pytest.param(token(typ="JWT"), id="the older type"),
        pytest.param(token(typ="application/at+jwt"), id="the type in full"),
        pytest.param(token(kid=None), id="no key id: every key of the kind is tried"),
        pytest.param(token(saying(aud=["x", AUDIENCE])), id="several audiences"),
        pytest.param(token(saying(nbf=NOW + 20, iat=NOW + 20)), id="early within the leeway"),
        pytest.param(token(saying(iat=None)), id="no time of issue"),
        pytest.param(hs256(saying(), SECRET.encode()), id="the one that attacks begin with"),
        pytest.param(token(extra="unknown"), id="a header that nobody knows"),
    ],
)
async def test_these_tokens_are_good(good: str) -> None:
    assert (await verifier().principal(good)).actor == "ada"


async def test_a_token_that_ended_a_moment_ago_is_good_within_the_leeway() -> None:
    assert (await verifier().principal(token(saying(exp=int(time.time()) - 10)))).actor == "ada"


def ours(**header: Any) -> str:
    """Nothing is wrong with it but its header."""
    return hs256(saying(), SECRET.encode(), **header)


ATTACKS = {
    "empty": "",
    "garbage": "garbage",
    "two parts": "a.b",
    "garbage in three parts": "a.b.c",
    "no JSON in three parts": f"{encoded(b'x')}.{encoded(b'x')}.{encoded(b'x')}",
    "not ASCII": "ä.ö.ü",
    "a deep header": f"{encoded(b'[' * 1_400)}..",
    "oversized": token(saying(filler="x" * LONGEST)),
    "signature cut off": token().rpartition(".")[0] + ".",
    "signature altered": token()[:-6] + "AAAAAA",
    "payload altered": ".".join([token().split(".")[0], encoded(saying(tenant="other")), token().split(".")[2]]),
    "none": f"{encoded({'alg': 'none', 'typ': 'at+jwt'})}.{encoded(saying())}.",
    "none with a signature": f"{encoded({'alg': 'none', 'typ': 'at+jwt'})}.{encoded(saying())}.{token().split('.')[2]}",
    "None, oddly written": f"{encoded({'alg': 'nOnE', 'typ': 'at+jwt'})}.{encoded(saying())}.",
    "alg is no text": f"{encoded({'alg': ['RS256'], 'typ': 'at+jwt'})}.{encoded(saying())}.",
    "alg is missing": f"{encoded({'typ': 'at+jwt'})}.{encoded(saying())}.{token().split('.')[2]}",
    "HS256 with the public key in PEM": hs256(saying(), PEM, kid="rsa-1"),
    "HS256 with the public key's modulus": hs256(saying(), str(public(RSA)["n"]).encode(), kid="rsa-1"),
    "HS256 with an empty secret": hs256(saying(), b""),
    "RS256 by a stranger under a known id": token(key=STRANGER),
    "ES256 under an id of an RSA key": token(key=ECKey.generate_key("P-256", {"kid": "rsa-1"})),
    "a key of its own": token(key=STRANGER, jwk=public(STRANGER)),
    "the address of a key": ours(jku="https://attacker.example/keys"),
    "the address of a certificate": ours(x5u="https://attacker.example/cert"),
    "a certificate of its own": ours(x5c=["MIIB"]),
    "kid is a path": token(key=STRANGER, kid="../../../../dev/null"),
    "kid is an address": token(key=STRANGER, kid="https://attacker.example/key"),
    "kid is a query": token(key=STRANGER, kid="' OR 1=1 --"),
    "kid is no text": ours(kid=["rsa-1"]),
    "kid is too long": ours(kid="k" * 300),
    "crit that is not understood": ours(crit=["exp"], exp=1),
    "crit of an empty list": ours(crit=[]),
    "payload that is not encoded": ours(b64=False, crit=["b64"]),
    "typ of something else": token(typ="dpop+jwt"),
    "typ is missing": token(typ=None),
    "expired": token(saying(exp=NOW - 60)),
    "never expires": token(saying(exp=None)),
    "expires at no time": token(saying(exp=1e300)),
    "exp is text": token(saying(exp="tomorrow")),
    "not yet valid": token(saying(nbf=NOW + LONG, exp=NOW + 2 * LONG)),
    "issued in the future": token(saying(iat=NOW + LONG, exp=NOW + 2 * LONG)),
    "another issuer": token(saying(iss="https://attacker.example")),
    "an issuer that begins alike": token(saying(iss=ISSUER + ".attacker.example")),
    "no issuer": token(saying(iss=None)),
    "another audience": token(saying(aud="billing")),
    "no audience": token(saying(aud=None)),
    "no tenant": token(saying(tenant=None)),
    "tenant is a path": token(saying(tenant="../acme")),
    "tenant with a line break": token(saying(tenant="acme\n")),
    "tenant is a list": token(saying(tenant=["acme"])),
    "no subject": token(saying(sub=None)),
    "subject with a line break": token(saying(sub="ada\r\nSet-Cookie: x")),
    "the platform itself": token(saying(sub="platform")),
    "claims are a list": f"{encoded({'alg': 'RS256', 'typ': 'at+jwt'})}.{encoded([])}.{token().split('.')[2]}",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
async def test_no_attack_proves_anybody(attack: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await verifier().principal(attack)
    # then the answer says how to sign in, in one line, and repeats nothing of the token
    challenge = refused.value.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="soma", error="invalid_token", error_description="')
    assert challenge.isprintable()
    assert "attacker" not in challenge + refused.value.detail


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_whatever_is_written_in_a_token_is_refused_without_a_defect(header: bytes, payload: bytes) -> None:
    with pytest.raises(Unauthenticated):
        parse(f"{encoded(header)}.{encoded(payload)}.AAAA", TERMS)


@pytest.mark.parametrize("payload", [b"[]", b"{", b"[" * 5_000, b"\xff", b"{}", b'{"exp": NaN}', b""])
async def test_claims_that_are_signed_and_badly_formed_are_refused_too(payload: bytes) -> None:
    with pytest.raises(Unauthenticated):
        await verifier().principal(hs256(payload, SECRET.encode()))


async def test_an_algorithm_that_is_not_allowed_here_is_refused_whatever_keys_there_are() -> None:
    with pytest.raises(Unauthenticated):
        await verifier(terms=Terms(algorithms=frozenset({"RS256"}), issuer=ISSUER, audience=(AUDIENCE,))).principal(token(key=HMAC))


async def test_a_token_without_a_tenant_is_of_the_one_that_the_settings_name() -> None:
    terms = Terms(issuer=ISSUER, audience=(AUDIENCE,), tenant="acme", tenant_claims=("org_id",), actor_claim="email", scope_claims=("scp",))

    who = await verifier(terms=terms).principal(token(saying(tenant=None, email="ada@acme.example", scp=["a", "b"])))

    assert (who.tenant, who.actor, who.scopes) == ("acme", "ada@acme.example", frozenset({"a", "b"}))


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def test_a_key_that_was_rotated_in_is_found_and_an_unknown_one_is_not_asked_for_again_and_again() -> None:
    # given
    clock, source = Clock(), Shown(RSA)
    tokens = Tokens(TERMS, [ring := Keyring(source, 60.0, 5.0, clock)])
    await tokens.principal(token())
    # when the issuer signs with another key
    clock.now += 6
    source.keys = (EC,)
    # then
    assert (await tokens.principal(token(key=EC))).actor == "ada"
    with pytest.raises(Unauthenticated):
        await tokens.principal(token())
    # when strangers come
    for number in range(50):
        with pytest.raises(Unauthenticated):
            await tokens.principal(token(key=STRANGER, kid=f"unknown-{number}"))
    assert source.asked == 2
    assert not ring.failing


async def test_while_a_source_is_down_its_keys_are_believed_as_long_as_they_are_fresh_and_then_nobody_is() -> None:
    # given
    clock, source = Clock(), Shown(RSA)
    tokens = Tokens(TERMS, [Keyring(source, 60.0, 5.0, clock)])
    await tokens.principal(token())
    # when
    source.down = True
    clock.now += 59
    # then
    assert (await tokens.principal(token())).actor == "ada"
    clock.now += 2
    with pytest.raises(CannotVerify):
        await tokens.principal(token())
    # when it is back
    source.down = False
    clock.now += 5
    assert (await tokens.principal(token())).actor == "ada"


def test_what_is_weak_or_public_is_no_secret_and_what_is_private_or_weak_is_no_public_key() -> None:
    weak = RSAKey.generate_key(1024, {"kid": "weak"})
    for text in ("short", PEM.decode()):
        with pytest.raises(ValueError, match=r"bytes|PEM"):
            secret_key(text)
    with pytest.raises(ValueError, match="kind or size"):
        pem_key(weak.as_pem(private=False).decode(), "weak")
    encrypting = {**public(RSA), "use": "enc"}
    assert jwks_keys({"keys": [public(weak), encrypting, HMAC.as_dict(private=True), {"kty": "RSA"}, 7, {}, public(EC)]}) == jwks_keys(
        {"keys": [public(EC)]}
    )


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, {"keys": "x"}])
def test_what_is_no_jwk_set_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="JWK Set"):
        jwks_keys(document)


async def test_a_token_made_by_the_command_line_is_good_for_the_gateway_of_the_same_settings() -> None:
    # given
    settings = Settings(gateway_jwt_secret=SECRET, gateway_jwt_audience=(AUDIENCE,), gateway_jwt_issuer=ISSUER)
    # when
    made = issue(settings, Principal("acme", "ada", scopes=frozenset({"a", "b"})), 60, NOW)
    # then
    who = await verifier().principal(made)
    assert (who.tenant, who.actor, who.scopes) == ("acme", "ada", frozenset({"a", "b"}))
    assert "a secret" not in repr(settings)
    assert msgspec.json.decode(parse(made, TERMS).payload or b"")["exp"] == NOW + 60
