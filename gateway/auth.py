"""Who asks."""

from typing import Annotated, NamedTuple

from fastapi import Depends


class Principal(NamedTuple):
    """The tenant whose data a request may see and change, and the actor who is written into the record."""

    tenant: str
    actor: str


async def principal() -> Principal:
    """The caller of this request. Everyone is the same one until callers sign in."""
    return Principal("default", "anonymous")


Caller = Annotated[Principal, Depends(principal)]
