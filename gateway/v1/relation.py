"""Relations: share a session, a tool, an agent; make groups, and admins of tenants. One way for all kinds."""

import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from gateway.auth import Caller
from gateway.identity import Home
from gateway.named import Written
from gateway.needs import needs
from gateway.parts import Gateway, Parts
from gateway.problems import Declined, Invalid, Malformed, NotEnabled, NotFound, NotYet, ReadModelDown
from gateway.reader import READ_SECONDS
from gateway.v1.asking import Asked, Asking, Fresh
from gateway.v1.named_shapes import NAME
from gateway.v1.names import READ, WRITE, Limit, NameCursor, ask, replayed
from gateway.v1.relation_shapes import DOCUMENT, SUBJECT, GroupList, RelationAccepted, Relations, Role, Share
from gateway.v1.responses import bad, good, json
from projections.relation import Relation, document
from projections.text import subject
from schemas.types.relation import Relate, Unrelate

router = APIRouter(tags=["relations"])
LATER = "The command is on record; whether it counts already is not known."
ACCEPTED = good(202, "Recorded; that it counts is not known yet", {"object": DOCUMENT["object"], "position": "0:12", "detail": LATER}, READ)
ACCEPTED[202]["model"] = RelationAccepted
ERRORS = (*WRITE, NotFound, Declined, NotEnabled, ReadModelDown)
With = Annotated[str, Query(alias="with", pattern=SUBJECT, description="Whose relation is taken back.", examples=["group:reviewers"])]
As = Annotated[Role, Query(alias="as", description="Which one.", examples=["viewer"])]
PLURALS = {"session": "sessions", "tool": "tools", "agent": "agents", "group": "groups", "tenant": "tenants"}


def _routes(kind: str) -> None:
    """The three routes of a kind of things."""
    param = "session_id" if kind == "session" else "name"
    path = f"/{PLURALS[kind]}/{{{param}}}/share"
    Id = Annotated[str, Path(alias=param, max_length=200, description="Its id, or its name.", examples=[_example(kind)])]  # noqa: N806

    @router.post(
        path,
        dependencies=[needs(f"{kind}.share")],
        summary=f"Share a {kind}" if kind not in ("group", "tenant") else f"Add to a {kind}",
        name=f"share_{kind}",
        response_model=Relations,
        responses=good(200, "Its relations, with this one: the next request finds it", DOCUMENT, READ) | ACCEPTED | bad(*ERRORS),
    )
    async def share(id: Id, body: Share, asked: Asking, gateway: Gateway) -> Response:
        """Give a relation. Who has one already keeps it. 202 where it is on record, and does not count yet."""
        return await _change(gateway, asked, _object(kind, id), body, held=True)

    @router.delete(
        path,
        dependencies=[needs(f"{kind}.unshare")],
        summary=f"Share a {kind} no more" if kind not in ("group", "tenant") else f"Remove from a {kind}",
        name=f"unshare_{kind}",
        response_model=Relations,
        responses=good(200, "Its relations, without this one: the next request misses it", DOCUMENT, READ) | ACCEPTED | bad(*ERRORS),
    )
    async def unshare(id: Id, whose: With, role: As, asked: Asking, gateway: Gateway) -> Response:
        """Take a relation back. Who has the same by another way, as by a group, keeps that."""
        return await _change(gateway, asked, _object(kind, id), Share.model_validate({"with": whose, "as": role}), held=False)

    @router.get(
        path,
        dependencies=[needs(f"{kind}.shares")],
        summary=f"List who a {kind} is shared with" if kind not in ("group", "tenant") else f"List who is in a {kind}",
        name=f"shares_{kind}",
        response_model=Relations,
        responses=good(200, "Its relations", DOCUMENT, READ) | bad(Malformed, NotFound, Invalid, NotYet, NotEnabled, ReadModelDown),
    )
    async def shares(id: Id, caller: Caller, fresh: Fresh, gateway: Gateway) -> Response:
        """Who has which relation to it. With `position` the answer holds at least what that command did."""
        gateway.relations.check_enabled()
        object = _object(kind, id)
        known = await gateway.relations.given.fresh(fresh.position, fresh.prefer.seconds(READ_SECONDS), lenient=fresh.prefer.lenient)
        found = document(object, await _owner(gateway, kind, id, caller.tenant), known.find(caller.tenant, object))
        return json(found, headers=_marks(found) | fresh.prefer.applied())


def _example(kind: str) -> str:
    return DOCUMENT["object"].partition(":")[2] if kind == "session" else {"tool": "adder", "agent": "accountant"}.get(kind, "reviewers")


for _kind in PLURALS:
    _routes(_kind)


@router.get(
    "/groups",
    dependencies=[needs("group.list")],
    summary="List groups",
    response_model=GroupList,
    responses=good(200, "A page, by name", {"groups": ["reviewers"], "next_cursor": None}) | bad(Malformed, Invalid, NotYet, NotEnabled),
)
async def groups(gateway: Gateway, caller: Caller, fresh: Fresh, cursor: NameCursor = None, limit: Limit = 50) -> Response:
    """The groups that have members. A group is there as soon as it has one."""
    gateway.relations.check_enabled()
    if cursor is not None and not re.fullmatch(NAME, cursor):
        raise Malformed("This cursor is none that a list gave: begin without one.")
    known = await gateway.relations.given.fresh(fresh.position, fresh.prefer.seconds(READ_SECONDS), lenient=fresh.prefer.lenient)
    objects = (each.state.object.partition(":") for each in known.all(caller.tenant) if each.state.bonds)
    names = sorted(name for kind, _, name in objects if kind == "group" and name > (cursor or ""))
    more = len(names) > limit
    return json({"groups": names[:limit], "next_cursor": names[limit - 1] if more else None}, headers=fresh.prefer.applied())


async def _change(gateway: Parts, asked: Asked, object: str, body: Share, *, held: bool) -> Response:
    """Raises as `Named.write` does, NotEnabled."""
    gateway.relations.check_enabled()
    kind: Callable[..., Relate | Unrelate] = Relate if held else Unrelate
    command = kind(object=object, relation=body.relation, subject=body.subject)
    route = f"{'POST' if held else 'DELETE'} share {object}"
    outcome = await gateway.relations.given.write(ask(gateway, asked, object, command, route, body))
    position = outcome.known.position if isinstance(outcome, Written) else outcome.position
    relation = Relation(asked.principal.tenant, position.partition, object, body.relation, body.subject, held)
    if isinstance(outcome, Written) and await gateway.relations.written(relation, position.partition, position.offset):
        found = document(object, None, outcome.known)
        return json(found, 200, _marks(found) | replayed(outcome) | asked.prefer.applied())
    place = f"{position.partition}:{position.offset}"
    return json({"object": object, "position": place, "detail": LATER}, 202, {"Soma-Position": place} | asked.prefer.applied())


def _object(kind: str, id: str) -> str:
    """As relations name it. Raises NotFound for a name that nothing can have."""
    if kind == "session":
        return f"session:{Home.parse(id).id}"
    if not re.fullmatch(NAME if kind != "tenant" else r"[A-Za-z0-9._-]{1,128}", id):
        raise NotFound(f"There is no {kind} {id!r}.")
    return f"{kind}:{id}"


async def _owner(gateway: Parts, kind: str, id: str, tenant: str) -> str | None:
    """Who started or registered it. Raises NotFound where there is no such thing; groups and tenants have no owner."""
    if kind in ("group", "tenant"):
        return None
    if kind == "session":
        summary = await gateway.reader.queries.session(Home.parse(id).id, tenant)
        if summary is None:
            raise NotFound(f"There is no session {id}.")
        return subject(summary.started_by)
    thing = gateway.relations.thing(kind, id, tenant)
    if thing is None:
        raise NotFound(f"There is no {kind} {id!r}.")
    return thing.owner


def _marks(found: dict[str, Any]) -> dict[str, str]:
    return {"Soma-Position": found["position"]} if found["position"] else {}
