"""Who is signed in, in a cookie that only gateways can read and write: any gateway of a platform serves it, and none remembers it.

The cookie is a JWE (RFC 7516: `dir`, A256GCM). It holds the credential that was shown at sign-in, which the gate looks at again with every
request: a key that is revoked, or a token that expires, ends the session at once.
"""

import secrets
from collections.abc import Callable, Mapping
from hashlib import blake2b
from time import time
from typing import TypeVar

import msgspec
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from msgspec import Struct
from starlette.responses import Response

from ops import pepper
from ops.settings import Settings

SESSION, VISIT, FLOW = "soma", "soma-visit", "soma-flow"
"""Somebody signed in; somebody who is not; a sign-in at an identity provider that is under way."""
SESSION_SECONDS, FLOW_SECONDS = 8 * 3600, 600
LONGEST = 3800
"""Browsers keep cookies of up to 4,096 bytes, name and attributes counted (RFC 6265bis §5.6)."""
_HEADER = {"alg": "dir", "enc": "A256GCM"}


class TooLong(ValueError):
    """The credential does not fit into a cookie."""


class Session(Struct, frozen=True):
    """`csrf` is asked for in every form; `until` is in Unix seconds. Made anew at every sign-in: none can be prepared for another."""

    csrf: str
    until: int
    credential: str | None = None


class Flow(Struct, frozen=True):
    """What has to come back from an identity provider, and the verifier of RFC 7636."""

    state: str
    verifier: str
    until: int
    then: str


Cookie = TypeVar("Cookie", Session, Flow)


class Cookies:
    """Seals cookies and opens them. `secure` says whether browsers reach the gateway by https."""

    def __init__(self, key: bytes, clock: Callable[[], float] = time) -> None:
        self._key, self._clock = OctKey.import_key(key), clock

    def begin(self, credential: str | None = None) -> Session:
        return Session(secrets.token_urlsafe(24), int(self._clock()) + SESSION_SECONDS, credential)

    def flow(self, then: str) -> Flow:
        return Flow(secrets.token_urlsafe(24), secrets.token_urlsafe(48), int(self._clock()) + FLOW_SECONDS, then)

    def session(self, cookies: Mapping[str, str], *, secure: bool) -> Session | None:
        """Of who is signed in, else of who only looks in; None where neither cookie is one of ours, or its time is over."""
        for kind in (SESSION, VISIT):
            if found := self._open(cookies, kind, Session, secure=secure):
                return found
        return None

    def flowing(self, cookies: Mapping[str, str], *, secure: bool) -> Flow | None:
        return self._open(cookies, FLOW, Flow, secure=secure)

    def set(self, response: Response, value: Session | Flow, *, secure: bool) -> None:
        """Raises TooLong. The one for the way to a provider and back has to come along when that one sends the browser here."""
        flowing = isinstance(value, Flow)
        kind = FLOW if flowing else SESSION if isinstance(value, Session) and value.credential else VISIT
        sealed = jwe.encrypt_compact(_HEADER | {"typ": kind}, msgspec.json.encode(value), self._key)
        if len(sealed) > LONGEST:
            raise TooLong("The credential is too long to be kept in a cookie: have the provider put less into its tokens, or use a key.")
        response.set_cookie(
            _name(kind, secure=secure),
            sealed,
            max_age=FLOW_SECONDS if flowing else SESSION_SECONDS,
            secure=secure,
            httponly=True,
            samesite="lax" if flowing else "strict",
        )

    def forget(self, response: Response, *kinds: str, secure: bool) -> None:
        for kind in kinds:
            response.delete_cookie(_name(kind, secure=secure), secure=secure, httponly=True, samesite="strict")

    def _open(self, cookies: Mapping[str, str], kind: str, type: type[Cookie], *, secure: bool) -> Cookie | None:
        sealed = cookies.get(_name(kind, secure=secure), "")
        try:
            opened = jwe.decrypt_compact(sealed, self._key, algorithms=["dir", "A256GCM"])
            value = msgspec.json.decode(opened.plaintext or b"", type=type)
        except (JoseError, ValueError, TypeError):
            return None
        return value if opened.protected.get("typ") == kind and value.until > self._clock() else None


def key(settings: Settings) -> bytes:
    """The key of the cookies: the same in all gateways that share a secret; where there is none, this process's own."""
    shared = pepper.load(settings) or (settings.gateway_jwt_secret or "").encode() or secrets.token_bytes(32)
    return blake2b(shared, digest_size=32, person=b"soma.console").digest()


def _name(kind: str, *, secure: bool) -> str:
    """RFC 6265bis §4.1.3.2: a cookie of this name was set by this host alone, over https."""
    return f"__Host-{kind}" if secure else kind
