"""Tokens: JSON Web Tokens (RFC 7519) as access tokens (RFC 9068), checked as RFC 8725 advises, and the principal that one proves.

What a token says of how it should be checked is not believed: its algorithm has to be one that we allow and that fits the kind of the key,
`kid` only chooses among keys that we have, and a token that brings its key, or the address of one, is refused.
"""

import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jws import CompactSignature, JWSRegistry
from joserfc.jwt import JWTClaimsRegistry
from msgspec import Struct

from gateway.auth import Principal
from gateway.key_material import secret_key
from gateway.keyring import Keyring
from gateway.problems import CannotVerify, Unauthenticated
from ops.settings import Settings

LONGEST = 8 << 10
KINDS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    **dict.fromkeys(("EdDSA", "Ed25519"), "OKP"),
    "HS256": "oct",
}
"""The algorithms that can be allowed, and the one kind of key that each is checked with."""
FOREIGN_KEYS = ("jwk", "jku", "x5u", "x5c")
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""A tenant is part of paths and of metrics' labels."""
ACTOR = re.compile(r"[^\x00-\x20\x7f]{1,255}")
OURS = frozenset({"platform", "anonymous"})
"""Actors that no token can be."""
RIGHTS = 200

warnings.filterwarnings("ignore", "EdDSA is deprecated", SecurityWarning)  # RFC 9864 renames it; issuers go on to write it


class Terms(Struct, frozen=True):
    """What a token has to say to be believed, and where it says who the caller is. Of several claims the first that is there counts."""

    algorithms: frozenset[str] = frozenset(KINDS)
    types: frozenset[str] = frozenset({"at+jwt", "jwt"})
    issuer: str | None = None
    audience: tuple[str, ...] = ()
    leeway: int = 30
    tenant: str | None = None
    tenant_claims: tuple[str, ...] = ("tenant", "org_id")
    actor_claim: str = "sub"
    scope_claims: tuple[str, ...] = ("scope", "scp")
    role_claims: tuple[str, ...] = ("roles",)
    policy_claims: frozenset[str] = frozenset({"iss", "aud", "azp", "client_id", "groups", "acr", "amr", "auth_time"})
    """What policies may see of the rest. The audit keeps it: nothing of it should be a secret, or more about a person than is needed."""


class Tokens:
    """A Verifier that takes what no other one knows for a token."""

    def __init__(self, terms: Terms, rings: Sequence[Keyring], clock: Callable[[], float] = time.time) -> None:
        self.rings = rings
        self._terms, self._clock = terms, clock

    def knows(self, credential: str) -> bool:
        return True

    async def principal(self, credential: str) -> Principal:
        """Raises Unauthenticated, CannotVerify. A key that is not known is looked for once: it may have been rotated in."""
        token = parse(credential, self._terms)
        rings = [ring for ring in self.rings if KINDS[token.protected["alg"]] in ring.kinds]
        if not any(_proves(ring, token) for ring in rings):
            for ring in rings:
                await ring.renew()
            if not any(_proves(ring, token) for ring in rings):
                raise _unproved(rings)
        return principal(claims(token, self._terms, int(self._clock())), self._terms)


def parse(credential: str, terms: Terms) -> CompactSignature:
    """A token whose header is one that we check; nothing is proved yet. Raises Unauthenticated."""
    if len(credential) > LONGEST:
        raise Unauthenticated(f"The token is longer than {LONGEST} bytes.")
    try:
        token = jws.extract_compact(credential.encode("ascii"), registry=_Lengths())
    except (JoseError, ValueError, TypeError, RecursionError):
        raise Unauthenticated("The token is no JSON Web Token.") from None
    if wrong := _wrong_header(token.protected, terms):
        raise Unauthenticated(wrong)
    return token


def claims(token: CompactSignature, terms: Terms, now: int) -> dict[str, Any]:
    """What a proved token says, if it is meant for here and now (RFC 7519 §4.1). `now` is in Unix seconds. Raises Unauthenticated."""
    try:
        said = msgspec.json.decode(token.payload or b"", type=dict[str, Any])
        _registry(terms, now).validate(said)
    except JoseError as error:
        raise Unauthenticated(f"The token does not hold here: {error}.") from None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise Unauthenticated("The token's claims are no JSON object.") from None
    return said


def principal(said: Mapping[str, Any], terms: Terms) -> Principal:
    """The caller that claims name. Raises Unauthenticated."""
    tenant = _first(said, terms.tenant_claims) or terms.tenant
    if not (isinstance(tenant, str) and TENANT.fullmatch(tenant)):
        raise Unauthenticated(f"The token names no tenant in {' or '.join(terms.tenant_claims)}.")
    actor = said.get(terms.actor_claim)
    if not (isinstance(actor, str) and ACTOR.fullmatch(actor)) or actor in OURS:
        raise Unauthenticated(f"The token names no caller in {terms.actor_claim}.")
    scopes, roles = _words(_first(said, terms.scope_claims)), _words(_first(said, terms.role_claims))
    shown = {name: said[name] for name in sorted(terms.policy_claims & said.keys())}
    return Principal(tenant, actor, "user", scopes, roles, shown, _time(said["exp"]))


def issue(settings: Settings, who: Principal, seconds: int, now: int) -> str:
    """A token for `who`, signed with GATEWAY_JWT_SECRET, as this gateway takes it. `now` is in Unix seconds. Raises ValueError."""
    if not settings.gateway_jwt_secret:
        raise ValueError("GATEWAY_JWT_SECRET is not set: tokens come from the identity provider that the gateway names")
    said: dict[str, Any] = {
        settings.gateway_jwt_tenant_claims[0]: who.tenant,
        settings.gateway_jwt_actor_claim: who.actor,
        settings.gateway_jwt_scope_claims[0]: " ".join(sorted(who.scopes)),
        "iat": now,
        "exp": now + seconds,
    }
    said |= {"iss": settings.gateway_jwt_issuer} if settings.gateway_jwt_issuer else {}
    said |= {"aud": settings.gateway_jwt_audience[0]} if settings.gateway_jwt_audience else {}
    header = {"alg": "HS256", "typ": settings.gateway_jwt_types[0]}
    return jws.serialize_compact(header, msgspec.json.encode(said), secret_key(settings.gateway_jwt_secret))


class _Lengths(JWSRegistry):
    """The library's bounds, in encoded bytes, wide enough for headers that issuers write."""

    max_header_length = 2 << 10
    max_payload_length = LONGEST


def _wrong_header(header: Mapping[str, Any], terms: Terms) -> str | None:
    """Why a token with this header is not looked at any further, if so."""
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(algorithm, str) or algorithm not in terms.algorithms or algorithm not in KINDS:
        return "The token's algorithm is not one that is accepted here."
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in terms.types:
        return "The token's type is not one that is accepted here."
    if "crit" in header or "b64" in header:
        return "The token demands an extension that is not understood here."
    if any(name in header for name in FOREIGN_KEYS):
        return "The token brings a key of its own."
    if kid is not None and not (isinstance(kid, str) and len(kid) <= 256):
        return "The token's key id is not one."
    return None


def _proves(ring: Keyring, token: CompactSignature) -> bool:
    """Whether one of the ring's keys signed it. The library checks that the key is of the algorithm's kind, curve and use."""
    algorithm, kid = token.protected["alg"], token.protected.get("kid")
    registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    for key in ring.fitting(KINDS[algorithm], kid):
        try:
            if jws.validate_compact(token, key, registry=registry):
                return True
        except (JoseError, ValueError):
            pass  # a key of another curve or use; the next one may fit
    return False


def _unproved(rings: Sequence[Keyring]) -> Unauthenticated | CannotVerify:
    if any(ring.failing for ring in rings):
        return CannotVerify("The keys that tokens are checked with cannot be fetched now.")
    return Unauthenticated("The token is not signed with a key that is known here.")


def _registry(terms: Terms, now: int) -> JWTClaimsRegistry:
    wanted: dict[str, Any] = {"exp": {"essential": True}}
    if terms.issuer:
        wanted["iss"] = {"essential": True, "value": terms.issuer}
    if terms.audience:
        wanted["aud"] = {"essential": True, "values": list(terms.audience)}
    return JWTClaimsRegistry(now, terms.leeway, **wanted)


def _first(said: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((said[name] for name in names if said.get(name)), None)


def _words(value: Any) -> frozenset[str]:
    """Scopes and roles are written as words with spaces between them (RFC 8693 §4.2), or as a list."""
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    return frozenset(word for word in words[:RIGHTS] if isinstance(word, str))


def _time(seconds: float) -> datetime:
    """Raises Unauthenticated for a time that no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        raise Unauthenticated("The token's exp is no time.") from None
