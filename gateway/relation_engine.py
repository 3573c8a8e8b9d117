"""Where relations are asked about: in the read model, or at an OpenFGA server. Both know them from the same events."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from gateway.positions import Position
from ops import fga
from ops.fga import MAX_CHECKS, OpenFga, Tuple
from ops.settings import Settings
from projections.applied import Applied
from projections.queries import Queries
from projections.reach import HOLDS, Given, Thing
from projections.relation import COMMANDS, Relation

EVERYBODYS = frozenset({"tool", "agent", "capsule"})
"""Kinds of things that every member of the tenant may see."""
ABOVE = {"group": "tenant", "tenant": "parent"}
"""How the tenant itself stands above what is in it, where no event needs to say so."""
LOOK_SECONDS = 0.05


class Engine(Protocol):
    """Knows relations. Every method raises OpenFgaDown or ReadModelDown; how long `check` and `among` take is for the caller to bound."""

    async def check(self, given: Given, relation: str, thing: Thing) -> bool:
        """Whether the caller has the relation to the thing."""
        ...

    async def among(self, given: Given, relation: str, sessions: Sequence[str]) -> frozenset[str]:
        """Those to which the caller has the relation, of sessions to which it has it by the read model."""
        ...

    async def knows(self, thing: Thing, tenant: str, seconds: float) -> bool:
        """Whether the thing's owner is known, at the latest after so long. The thing is there."""
        ...

    async def written(self, relation: Relation, position: Position, seconds: float) -> bool:
        """Whether what the command at this position made of a relation counts for questions, at the latest after so long."""
        ...


class ReadModel:
    """One query. What the read model has is what it answers by, so there is nothing that it could be behind."""

    def __init__(self, queries: Queries, applied: Applied) -> None:
        self._queries, self._applied = queries, applied

    async def check(self, given: Given, relation: str, thing: Thing) -> bool:
        if relation == "viewer" and thing.kind in EVERYBODYS:
            return True
        return bool(await self._queries.roles(given, thing) & HOLDS[relation])

    async def among(self, given: Given, relation: str, sessions: Sequence[str]) -> frozenset[str]:
        return frozenset(sessions)

    async def knows(self, thing: Thing, tenant: str, seconds: float) -> bool:
        return True

    async def written(self, relation: Relation, position: Position, seconds: float) -> bool:
        return await self._applied.command(COMMANDS, position.partition, position.offset, seconds)


class Server:
    """An OpenFGA server, to which the projector writes. Lists are proposed by the read model, and confirmed here."""

    def __init__(self, store: OpenFga, proposing: ReadModel) -> None:
        self._store, self._proposing = store, proposing

    async def check(self, given: Given, relation: str, thing: Thing) -> bool:
        return await self._store.check(_asked(given, relation, str(thing)), proved(given, thing))

    async def among(self, given: Given, relation: str, sessions: Sequence[str]) -> frozenset[str]:
        asked = [_asked(given, relation, f"session:{id}") for id in sessions]
        batches = (asked[first : first + MAX_CHECKS] for first in range(0, len(asked), MAX_CHECKS))
        answers = await asyncio.gather(*(self._store.checks(batch, proved(given)) for batch in batches))
        allowed = [answer for batch in answers for answer in batch]
        return frozenset(id for id, may in zip(sessions, allowed, strict=True) if may)

    async def knows(self, thing: Thing, tenant: str, seconds: float) -> bool:
        return await self._until(fga.named(tenant, str(thing)), "owner", None, held=True, seconds=seconds)

    async def written(self, relation: Relation, position: Position, seconds: float) -> bool:
        user = fga.subject(relation.tenant, relation.subject, relation.relation)
        object = fga.named(relation.tenant, relation.object)
        proposed = await self._proposing.written(relation, position, seconds)
        return await self._until(object, relation.relation, user, held=relation.held, seconds=seconds) and proposed

    async def _until(self, object: str, relation: str, user: str | None, *, held: bool, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while bool(await self._store.read(object, relation, user)) is not held:
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            return False
        return True


def proved(given: Given, thing: Thing | None = None) -> list[Tuple]:
    """What the sign-in proves of the caller, and no event says: a member of the tenant, perhaps its admin. What is in the tenant is
    below it.
    """
    who, tenant = fga.named(given.tenant, given.who), fga.named(given.tenant, f"tenant:{given.tenant}")
    held = [Tuple(who, "admin" if given.admin else "member", tenant)]
    if thing and thing.kind in ABOVE and (name := fga.named(given.tenant, str(thing))) != tenant:
        held.append(Tuple(tenant, ABOVE[thing.kind], name))
    return held


def _asked(given: Given, relation: str, name: str) -> Tuple:
    return Tuple(fga.named(given.tenant, given.who), relation, fga.named(given.tenant, name))


@asynccontextmanager
async def engine(settings: Settings, queries: Queries, applied: Applied) -> AsyncIterator[Engine]:
    """The one that the settings name."""
    read_model = ReadModel(queries, applied)
    if settings.openfga_api_url is None:
        yield read_model
        return
    async with fga.client(settings, settings.gateway_relations_seconds) as client:
        yield Server(OpenFga(client, settings.openfga_store), read_model)
