"""Whether a caller has the relation to a thing that an action takes: asked behind the policies, which have let it in.

    needs ──► policies ──► Relations.decide ──► engine (the read model, or OpenFGA) ──► Decision ──► 404, 403, or the route

Who may not even see a thing is told what is told of a thing that is not there. Where GATEWAY_RELATIONS is off, and for the anonymous caller
of an open gate, nothing is asked. Nothing is let in by a failure.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from gateway.auth import Principal
from gateway.identity import GIVEN, Home, Identity
from gateway.named import Named
from gateway.policy import Decision
from gateway.positions import Position
from gateway.problems import NotEnabled, NotFound, RelationsDown
from gateway.reader import READ_SECONDS, Reader
from gateway.relation_engine import Engine
from ops import metrics
from ops.fga import OpenFgaDown
from ops.follow import Catalogue
from projections.reach import Given, Thing
from projections.relation import Known, Relation
from projections.text import subject

log = logging.getLogger("soma.gateway")
ADMIN = frozenset({"*", "relations:admin"})
"""Scopes whose bearer is an admin of its tenant."""
HIDDEN, LACKING = "relation_hidden", "relation"
"""Rules of a decision: the caller has no relation to the thing by which it could see it; it has one, but not the one that this takes."""
KNOWN = frozenset({"group", "tenant"})
"""Kinds of what every member of the tenant may look at."""
T = TypeVar("T")


class Needed(NamedTuple):
    """The relation that an action takes, to the thing of this kind that the request names as `param`."""

    kind: str
    param: str
    relation: str


def _each(kind: str, param: str, relation: str, *actions: str) -> dict[str, Needed]:
    return dict.fromkeys(actions, Needed(kind, param, relation))


NEEDED: dict[str, Needed] = {
    **_each("session", "session_id", "viewer", "session.read", "session.follow", "session.fork", "session.shares"),
    **_each("session", "session_id", "viewer", "call.list", "call.read", "response.read"),
    **_each("session", "session_id", "editor", "session.message", "session.cancel", "session.close", "response.create"),
    **_each("session", "session_id", "approver", "call.approve", "call.deny", "call.settle"),
    **_each("session", "session_id", "owner", "session.share", "session.unshare"),
    **_each("tool", "name", "viewer", "tool.read", "tool.shares", "tool.execute"),
    **_each("tool", "name", "editor", "tool.register", "tool.retire", "tool.restore"),
    **_each("tool", "name", "owner", "tool.share", "tool.unshare"),
    **_each("agent", "name", "viewer", "agent.read", "agent.shares"),
    **_each("agent", "name", "editor", "agent.publish", "agent.retire", "agent.restore"),
    **_each("agent", "name", "owner", "agent.share", "agent.unshare"),
    **_each("group", "name", "owner", "group.share", "group.unshare"),
    **_each("tenant", "name", "admin", "tenant.share", "tenant.unshare"),
}
"""By action. Where a request names no such thing (a list, or what is made by it), none is needed."""


class Relations:
    """`given` are the relations that were given, `named` the catalogues of what has a name. `seconds` is how long a question may take."""

    def __init__(
        self,
        engine: Engine,
        given: Named[Known],
        named: Mapping[str, Catalogue[Any]],
        reader: Reader,
        identity: Identity,
        *,
        on: bool,
        seconds: float,
    ) -> None:
        self.given, self._engine, self._named, self._reader, self._identity = given, engine, named, reader, identity
        self.on, self._seconds = on, seconds

    async def decide(self, who: Principal, decided: Decision, things: Mapping[str, Any]) -> Decision:
        """The decision of the policies, or the denial that relations make of it. `things` are what the request names, by parameter.

        Raises RelationsDown, ReadModelDown, and NotFound for an id that none can have.
        """
        needed = NEEDED.get(decided.action)
        if not self._holds_for(who) or needed is None or needed.param not in things or decided.outcome == "deny":
            return decided
        thing = self.thing(needed.kind, str(things[needed.param]), who.tenant)
        if thing is None:
            return decided
        caller = given(who)
        if await self._check(caller, needed.relation, thing):
            return decided
        seen = needed.kind in KNOWN or (needed.relation != "viewer" and await self._check(caller, "viewer", thing))
        reason = f"This takes the relation {needed.relation} to the {thing.kind}." if seen else _absent(thing)
        return replace(decided, outcome="deny", rule=LACKING if seen else HIDDEN, reasons=(reason,))

    def seen_by(self, who: Principal) -> Given | None:
        """Whose relations bound what a list shows; None where it shows all of the tenant's, as it does to an admin by a scope."""
        return caller if self._holds_for(who) and not (caller := given(who)).admin else None

    async def among(self, who: Principal, sessions: Sequence[str], relation: str = "viewer") -> frozenset[str]:
        """Those to which the caller has the relation, of sessions that a list bounded by it would show.

        Raises RelationsDown, ReadModelDown.
        """
        if not self._holds_for(who):
            return frozenset(sessions)
        return await self._bounded(self._engine.among(given(who), relation, sessions))

    def scoped(self, route: str, who: Principal) -> str:
        """A route for an Idempotency-Key of its caller's own: another's key must not lead to the other's session."""
        return f"{route} {subject(who.actor)}" if self._holds_for(who) else route

    async def check_key(self, who: Principal, key: str | None, home: Home) -> None:
        """A key that a gateway gave names a session: it opens one of its caller's own, or a new one. Raises NotFound, RelationsDown."""
        if key is None or not key.startswith(GIVEN) or not self._holds_for(who):
            return
        mine = await self._check(given(who), "viewer", thing := Thing("session", home.id))
        if not mine and await self._reader.queries.session(home.id, who.tenant) is not None:
            raise NotFound(_absent(thing))

    async def written(self, relation: Relation, partition: int, offset: int) -> bool:
        """Whether the next question counts with what the command there made of the relation: waits for it, for a bounded time."""
        try:
            return await self._engine.written(relation, Position(partition, offset), READ_SECONDS)
        except OpenFgaDown as error:
            log.error("a relation is on record, but OpenFGA does not say whether it has it: %s", error)
            return False

    def check_enabled(self) -> None:
        """Raises NotEnabled."""
        if not self.on:
            raise NotEnabled("Relations mean nothing to gateways of this platform: GATEWAY_RELATIONS is off.")

    def _holds_for(self, who: Principal) -> bool:
        return self.on and who.kind != "anonymous"

    def thing(self, kind: str, id: str, tenant: str) -> Thing | None:
        """What a request names; None where it has a name that nothing has yet. Raises NotFound for an id that none can have."""
        if kind == "session":
            return Thing(kind, Home.parse(id).id)
        if kind not in self._named:
            return Thing(kind, id)
        found = self._named[kind].find(tenant, id.partition("@")[0])
        return Thing(kind, found.definition.name, subject(found.created_by)) if found else None

    async def _check(self, caller: Given, relation: str, thing: Thing) -> bool:
        """A no is believed once whoever gave it knows of the thing."""
        if await self._bounded(self._engine.check(caller, relation, thing)):
            return True
        return await self._later(caller, thing) and await self._bounded(self._engine.check(caller, relation, thing))

    async def _later(self, caller: Given, thing: Thing) -> bool:
        """Whether the thing is there, so that asking again may be answered otherwise. Raises RelationsDown where its owner is not known."""
        if thing.kind == "session":
            home = self._identity.home(thing.id)
            await self._identity.shown(home.partition)
            if await self._reader.queries.session(home.id, caller.tenant) is None:
                return False
        elif thing.owner is None:
            return False
        try:
            known = await self._engine.knows(thing, caller.tenant, READ_SECONDS)
        except OpenFgaDown as error:
            raise self._down(error) from error
        if not known:
            raise RelationsDown(f"Whose the {thing.kind} is has not come to OpenFGA yet: nothing was sent.")
        return True

    async def _bounded(self, question: Awaitable[T]) -> T:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._seconds):
                return await question
        except (OpenFgaDown, TimeoutError) as error:
            raise self._down(error) from error
        finally:
            metrics.relation_seconds.observe(time.perf_counter() - started)

    def _down(self, error: Exception) -> RelationsDown:
        why = f"took more than {self._seconds:g} s" if isinstance(error, TimeoutError) else str(error)
        metrics.relations_down.inc()
        log.error("relations cannot be asked about: %s", why)
        return RelationsDown("Relations cannot be asked about: nothing was sent.")


def given(who: Principal) -> Given:
    """What a sign-in proves about relations."""
    return Given(who.tenant, who.actor if who.kind == "key" else f"user:{who.actor}", bool(ADMIN & who.scopes))


def _absent(thing: Thing) -> str:
    return f"There is no {thing.kind} {thing.id}." if thing.kind == "session" else f"There is no {thing.kind} {thing.id!r}."
