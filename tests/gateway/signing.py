"""Keys of a test's own, and tokens signed with them, well or badly."""

import hashlib
import hmac
import time
from base64 import urlsafe_b64encode
from typing import Any

import msgspec
from joserfc import jws
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

SECRET = "a secret of this test that is long enough"
ISSUER, AUDIENCE = "https://login.example.com", "soma"
RSA = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "ec-1"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed-1"})
HMAC = OctKey.import_key(SECRET)
ALGORITHMS = {"RSA": "RS256", "EC": "ES256", "OKP": "Ed25519", "oct": "HS256"}


LONG = 6 * 3_600
"""Seconds. Tokens are made when tests are collected, and have to hold until the last one has run."""


def saying(**claims: Any) -> dict[str, Any]:
    """Claims that hold; those that are None are left out."""
    now = int(time.time())
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "tenant": "acme", "scope": "*", "iat": now, "exp": now + LONG, **claims}
    return {name: value for name, value in said.items() if value is not None}


def token(claims: dict[str, Any] | None = None, key: Key = RSA, **header: Any) -> str:
    """Signed with the key. Members of the header that are None are left out."""
    members = {"alg": ALGORITHMS[key.key_type], "typ": "at+jwt", "kid": key.kid, **header}
    members = {name: value for name, value in members.items() if value is not None}
    registry = jws.JWSRegistry(algorithms=[members["alg"]], strict_check_header=False)
    registry.max_header_length = 100_000
    return jws.serialize_compact(members, msgspec.json.encode(saying() if claims is None else claims), key, registry=registry)


def hs256(payload: Any, secret: bytes, **header: Any) -> str:
    """Signed by hand: with what no library takes for a secret, or of what no library takes for claims."""
    signed = f"{encoded({'alg': 'HS256', 'typ': 'at+jwt', **header})}.{encoded(payload)}"
    return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def encoded(part: Any) -> str:
    """A part of a token, of whatever: bytes as they are, else as JSON."""
    raw = part if isinstance(part, bytes) else msgspec.json.encode(part)
    return urlsafe_b64encode(raw).decode().rstrip("=")


def public(key: Key) -> dict[str, Any]:
    """As a JWK Set shows it."""
    return {**key.as_dict(private=False), "kid": key.kid}


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}
