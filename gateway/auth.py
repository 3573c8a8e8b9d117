"""Who asks: a credential, what it proves, and the caller that a route sees.

Authorization: Bearer … ──► Gate ──► the first Verifier that knows the form ──► Principal ──► Caller
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol

from fastapi import Depends, Request
from msgspec import Struct


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


ANONYMOUS = Principal("default", "anonymous", "anonymous")
"""Everyone, where the gate stands open."""


class Verifier(Protocol):
    """Knows one form of credential."""

    def knows(self, credential: str) -> bool:
        """Whether it has this form. Says nothing about its worth."""
        ...

    async def principal(self, credential: str) -> Principal:
        """Whom it proves. Raises Unauthenticated; CannotVerify where what it takes to tell cannot be had now."""
        ...


class Gate:
    """Tries its verifiers in order. Without `required` it stands open: whoever shows no credential is ANONYMOUS."""

    def __init__(self, verifiers: Sequence[Verifier], *, required: bool) -> None:
        self.verifiers, self.required = verifiers, required


async def principal(request: Request) -> Principal:
    """The caller of this request, as the gate found it before any route was looked for."""
    found: Principal = request.scope.get("soma.principal", ANONYMOUS)
    return found


Caller = Annotated[Principal, Depends(principal)]
