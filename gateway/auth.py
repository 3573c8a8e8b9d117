"""Who asks: a credential, what it proves, and the caller that a route sees.

Authorization: Bearer … ──► Gate ──► the first Verifier that knows the form ──► Principal ──► Caller
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol

from fastapi import Depends, Request
from msgspec import Struct
from starlette.datastructures import Headers
from starlette.types import Scope

from gateway.problems import CannotVerify, Malformed, RateLimited, Unauthenticated, challenge
from gateway.secret import PREFIX
from gateway.strangers import Strangers


class Principal(Struct, frozen=True):
    """The tenant whose data a request may see and change, the actor who is written into the record, and what was proved about them.

    `claims` are what the credential says besides (bounded, for policies to decide upon); after `expires_at` it proves nothing more.
    """

    tenant: str
    actor: str
    kind: Literal["user", "key", "anonymous"] = "user"
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    claims: dict[str, Any] = {}
    expires_at: datetime | None = None


ANONYMOUS = Principal("default", "anonymous", "anonymous", frozenset({"*"}))
"""Everyone, where the gate stands open."""
PUBLIC = re.compile(r"(/v1)?/health(/live)?|/openapi\.json|/docs|/static-offline-docs/[a-z0-9.-]+|/problems/[a-z_]+")
"""Compared with the same text that routes are matched with: whatever else an address is made to look like is not public."""


class Verifier(Protocol):
    """Knows one form of credential."""

    def knows(self, credential: str) -> bool:
        """Whether it has this form. Says nothing about its worth."""
        ...

    async def principal(self, credential: str) -> Principal:
        """Whom it proves. Raises Unauthenticated; CannotVerify where what it takes to tell cannot be had now."""
        ...


class Gate:
    """Tries its verifiers in order. Where no sign-in is `required`, whoever shows no credential is ANONYMOUS."""

    def __init__(self, verifiers: Sequence[Verifier], strangers: Strangers, *, required: bool) -> None:
        self.verifiers, self.strangers, self.required = verifiers, strangers, required

    async def admit(self, method: str, path: str, authorization: Sequence[str], address: str) -> Principal | None:
        """Who asks, by what the request shows; None for somebody unknown who asks for what everybody may see.

        `address` is where its failures count. Raises Unauthenticated, Malformed, CannotVerify, RateLimited.
        """
        if is_public(method, path):
            return await self._known(authorization, address)
        return await self._admitted(authorization, address)

    async def _known(self, authorization: Sequence[str], address: str) -> Principal | None:
        try:
            return await self._admitted(authorization, address)
        except (Unauthenticated, Malformed, CannotVerify, RateLimited):
            return None

    async def _admitted(self, authorization: Sequence[str], address: str) -> Principal:
        if not self.required and not any(self._knows(each) for each in authorization):
            return ANONYMOUS
        if not authorization:
            raise Unauthenticated("The request shows no credential.", error=None)
        self.strangers.check(address)
        try:
            return await self._proved(authorization)
        except Unauthenticated:
            self.strangers.failed(address)
            raise

    async def _proved(self, authorization: Sequence[str]) -> Principal:
        credential = _bearer(authorization)
        for verifier in self.verifiers:
            if verifier.knows(credential):
                return await verifier.principal(credential)
        raise Unauthenticated("The credential has no form that is known here.")

    def _knows(self, authorization: str) -> bool:
        """An open gate looks at what it knows alone: programs that must send something may send anything."""
        credential = authorization.partition(" ")[2].strip()
        return any(verifier.knows(credential) for verifier in self.verifiers)


def shown(headers: Headers) -> list[str]:
    """What a request shows: `X-API-Key: …` says the same as `Authorization: Bearer …`, of API keys alone; no token counts there."""
    return [*headers.getlist("authorization"), *(f"Bearer {key}" for key in headers.getlist("x-api-key") if key.startswith(PREFIX))]


def address(gate: Gate, scope: Scope) -> str:
    """Where the failures of a request count: at its sender, or at whom a trusted proxy names."""
    peer, _ = scope["client"] or ("", 0)
    return gate.strangers.address(peer, Headers(scope=scope).getlist("x-forwarded-for"))


def is_public(method: str, path: str) -> bool:
    """Whether everybody may see it: health for who watches the process, the API's description, and what problems mean."""
    return method in ("GET", "HEAD") and PUBLIC.fullmatch(path) is not None


def _bearer(authorization: Sequence[str]) -> str:
    """RFC 6750 §2.1, and no other way: not in a form, not in an address, which logs would keep. Raises Unauthenticated, Malformed."""
    if len(authorization) > 1:
        detail = "The request shows more than one credential."
        raise Malformed(detail, {"WWW-Authenticate": challenge("invalid_request", detail)})
    scheme, _, credential = authorization[0].partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise Unauthenticated("The header Authorization has to be `Bearer`, a space, and the credential.")
    return credential.strip()


async def visitor(request: Request) -> Principal | None:
    """The caller of a public route, who may be unknown."""
    found: Principal | None = request.scope["soma.principal"]
    return found


Visitor = Annotated[Principal | None, Depends(visitor)]


async def principal(found: Visitor) -> Principal:
    """The caller of this request, as the gate found it before any route was looked for. Raises Unauthenticated."""
    if found is None:
        raise Unauthenticated("The request shows no credential.", error=None)
    return found


Caller = Annotated[Principal, Depends(principal)]
