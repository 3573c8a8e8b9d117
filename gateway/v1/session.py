"""Sessions: start, talk, end, look, follow."""

from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel

from gateway.auth import Caller
from gateway.identity import START, Home
from gateway.needs import Facts, needs
from gateway.parts import Gateway, Parts
from gateway.positions import Moment, Place, Position, moment
from gateway.problems import (
    Busy,
    Ended,
    Full,
    Invalid,
    KeyReused,
    Malformed,
    NotFound,
    NotJson,
    NotYet,
    OutcomeUnknown,
    OverBudget,
    ReadModelDown,
    SealDown,
    SubjectErased,
    TooLarge,
    TooMany,
    TooManyCommands,
    TooSlow,
    UnknownAgent,
    UnknownModel,
    UnknownTool,
    VersionConflict,
)
from gateway.reader import READ_SECONDS
from gateway.stream import document as event_document
from gateway.v1.asking import After, Asked, Asking, Expected, Fresh, Freshness, IfNoneMatch, Wanted, digest_of, matches
from gateway.v1.responses import ACCEPTED, EVENT, OVERVIEW, SESSION, STREAM, bad, good, json, marks, of_session
from gateway.v1.shapes import Accepted, Cancellation, Closing, EventPage, Execution, Fork, NewMessage, NewSession, Session, SessionList
from gateway.v1.starting import Opening, facts, requested, started
from gateway.writer import Body, Done, Write
from projections.queries import BadCursor
from projections.session import overview
from schemas.types.session import CancelSession, CloseSession, PostMessage, StartSession

router = APIRouter(tags=["sessions"])
Id = Annotated[str, Path(description="The session's id.", examples=[SESSION["id"]])]
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
HEADERS = {
    "Soma-Position": "The last command that the session took.",
    "ETag": "The session's version.",
    "Idempotency-Replayed": "`true` where this is the answer to an earlier request with this key.",
    "Preference-Applied": "The preferences that were honoured.",
}
LOCATION = {"Location": "The session."}
ACCEPTED_RESPONSE = good(202, "Recorded; what became of it is not known yet", ACCEPTED, LOCATION | HEADERS)
ACCEPTED_RESPONSE[202]["model"] = Accepted
WRITE = (Malformed, TooSlow, TooLarge, NotJson, Invalid, KeyReused, SubjectErased, TooMany, TooManyCommands, SealDown, OutcomeUnknown)

START_ERRORS = (*WRITE, NotFound, UnknownModel, UnknownAgent, UnknownTool, OverBudget)


async def wanted_terms(body: NewSession, caller: Caller, gateway: Gateway) -> Facts:
    """What a start asks for, for the policies: of an agent, what that has."""
    definition = requested(gateway, caller.tenant, body).definition
    return facts(definition.model, definition.tools, definition.limits)


@router.post(
    "/sessions",
    status_code=201,
    dependencies=[needs("session.start", wanted_terms)],
    summary="Start a session",
    response_model=Session,
    responses=good(201, "The session, after its first turn", SESSION, LOCATION | HEADERS) | ACCEPTED_RESPONSE | bad(*START_ERRORS),
)
async def start(body: NewSession, asked: Asking, gateway: Gateway) -> Response:
    """Open a session with a model, or with an agent, whose terms it takes over.

    With `input`, this waits for the reply: 201 with the session once the turn is over.

    Under `Prefer: respond-async`, or when the wait runs out, 202 with the position to read it with.
    """
    tenant = asked.principal.tenant
    command = started(gateway, tenant, requested(gateway, tenant, body), Opening(body.input, body.metadata))
    return await write(gateway, asked, await opening(gateway, asked, command, body), 201)


class Change(NamedTuple):
    """What a POST to a session that is there already says besides its body."""

    home: Home
    asked: Asked
    expected_version: int | None


async def change(session_id: Id, gateway: Gateway, asked: Asking, expected: Expected) -> Change:
    """Raises NotFound."""
    return Change(gateway.identity.home(session_id), asked, expected)


Changing = Annotated[Change, Depends(change)]


@router.post(
    "/sessions/{session_id}/messages",
    dependencies=[needs("session.message")],
    summary="Post a message",
    response_model=Session,
    responses=good(200, "The session, after the turn", SESSION, HEADERS)
    | ACCEPTED_RESPONSE
    | bad(*WRITE, NotFound, Busy, Ended, Full, OverBudget, VersionConflict),
)
async def post_message(body: NewMessage, change: Changing, gateway: Gateway) -> Response:
    """Say something to the model, and wait for its reply. Where the model fails, the answer is 200 and `error` says why."""
    return await change_session(gateway, change, "messages", PostMessage(input=body.input), body)


@router.post(
    "/sessions/{session_id}/cancel",
    dependencies=[needs("session.cancel")],
    summary="Cancel a session",
    response_model=Session,
    responses=good(200, "The session, ended", SESSION | {"status": "ended", "outcome": "cancelled"}, HEADERS)
    | ACCEPTED_RESPONSE
    | bad(*WRITE, NotFound, Ended, VersionConflict),
)
async def cancel(change: Changing, gateway: Gateway, body: Cancellation | None = None) -> Response:
    """End a session whatever it does: a model call that runs is stopped, and its reply is not recorded."""
    return await change_session(gateway, change, "cancel", CancelSession(reason=body.reason if body else None), body)


@router.post(
    "/sessions/{session_id}/close",
    dependencies=[needs("session.close")],
    summary="Close a session",
    response_model=Session,
    responses=good(200, "The session, ended", SESSION | {"status": "ended", "outcome": "closed"}, HEADERS)
    | ACCEPTED_RESPONSE
    | bad(*WRITE, NotFound, Busy, Ended, VersionConflict),
)
async def close(change: Changing, gateway: Gateway, body: Closing | None = None) -> Response:
    """End a session that is idle."""
    return await change_session(gateway, change, "close", CloseSession(), body)


@router.get(
    "/sessions",
    dependencies=[needs("session.list")],
    summary="List sessions",
    response_model=SessionList,
    responses=good(200, "A page, the newest first", {"sessions": [OVERVIEW], "next_cursor": None})
    | bad(Malformed, Invalid, ReadModelDown, SealDown, NotYet),
)
async def sessions(
    gateway: Gateway,
    caller: Caller,
    fresh: Fresh,
    wanted: Wanted,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")] = None,
    limit: Limit = 50,
) -> Response:
    """The sessions that fit all of the filters."""
    await wait_for(gateway, fresh)
    try:
        page = await gateway.reader.queries.sessions(caller.tenant, wanted, cursor, limit, gateway.relations.seen_by(caller))
    except BadCursor as error:
        raise Malformed(str(error)) from error
    seen = await gateway.relations.among(caller, [summary.id for summary in page.sessions])
    opened = [await gateway.reader.seals.opened(summary, summary.id) for summary in page.sessions if summary.id in seen]
    return json({"sessions": [overview(summary) for summary in opened], "next_cursor": page.cursor}, headers=fresh.prefer.applied())


@router.get(
    "/sessions/{session_id}",
    dependencies=[needs("session.read")],
    summary="Read a session",
    response_model=Session,
    responses=good(200, "The session", SESSION, HEADERS)
    | {304: {"description": "It is still at the version of If-None-Match"}}
    | bad(Malformed, NotFound, Invalid, ReadModelDown, SealDown, NotYet),
)
async def read(
    session_id: Id,
    gateway: Gateway,
    caller: Caller,
    fresh: Fresh,
    as_of: Annotated[
        str | None,
        Query(
            max_length=64,
            description="The session as it was: after a version (`12`), after a command (`0:42`), or at a time (RFC 3339).",
            examples=["12"],
        ),
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The session with its messages, now or as it was. With `position` the answer holds at least what that command did.

    The messages of a fork begin with those of its origin; each one's `place` says where it was said.
    """
    home = Home.parse(session_id)
    then = None if as_of is None else moment(as_of)
    await wait_for(gateway, fresh, _awaited(then, home.partition))
    if then is None:
        view = await gateway.reader.view(home.id, caller.tenant)
    else:
        view = await gateway.reader.view_as_of(home.id, caller.tenant, then)
    if view is None or view.summary is None:
        raise NotFound(f"There is no session {session_id}.")
    headers = marks(view.summary)
    if matches(headers["ETag"], if_none_match):
        return Response(status_code=304, headers=headers)
    return of_session(await gateway.reader.whole(view), headers=fresh.prefer.applied())


@router.get(
    "/sessions/{session_id}/events",
    dependencies=[needs("session.follow")],
    summary="Follow a session",
    response_model=EventPage,
    responses=good(200, "The events, as a page or as they happen", {"events": [EVENT], "next_after": "e0-42", "more": False}, stream=STREAM)
    | {204: {"description": "The session has ended, and nothing comes after the event named"}}
    | bad(Malformed, NotFound, Invalid, TooMany, ReadModelDown, SealDown, NotYet),
)
async def events(
    session_id: Id,
    request: Request,
    gateway: Gateway,
    caller: Caller,
    fresh: Fresh,
    after: After,
    limit: Limit = 100,
) -> Response:
    """Server-Sent Events: everything that happened to the session, then what happens, until it ends.

    `id` is the event's place in the log, `event` its type, `data` the event. While a reply is written its pieces come as
    `output.delta` without an id: `{"request", "attempt", "index", "text", "reset"}`, where `reset` begins the text anew.
    A client that comes back with Last-Event-ID misses nothing and gets nothing twice. With `Accept: application/json`: a page.
    """
    home = Home.parse(session_id)
    behind = _behind(after, home.partition)
    await wait_for(gateway, fresh)
    accepted = request.headers.get("accept", "")
    if "application/json" not in accepted or "text/event-stream" in accepted:
        return await gateway.streams.answer(gateway.identity.home(home.id), caller, behind)
    if await gateway.reader.queries.session(home.id, caller.tenant) is None:
        raise NotFound(f"There is no session {session_id}.")
    found = await gateway.reader.page(home.id, caller.tenant, behind, limit + 1)
    page, more = [(place, await gateway.reader.seals.opened(event, home.id)) for place, event in found[:limit]], len(found) > limit
    last = page[-1][0] if page else after
    return json({"events": [event_document(event, place) for place, event in page], "next_after": last and str(last), "more": more})


def _who(gateway: Parts, asked: Asked) -> tuple[str, str, str, float, dict[str, str]]:
    """The fields of a Write that come from the request alone."""
    return (
        asked.principal.tenant,
        asked.principal.actor,
        asked.policy,
        asked.prefer.seconds(gateway.settings.gateway_wait_seconds),
        asked.trace,
    )


async def change_session(gateway: Parts, change: Change, action: str, command: Body, body: BaseModel | None) -> Response:
    home, asked, expected = change
    route, key = f"POST /v1/sessions/{home.id}/{action}", asked.key or gateway.identity.key()
    return await write(gateway, asked, Write(home, command, route, key, digest_of(body), *_who(gateway, asked), expected), 200)


async def opening(
    gateway: Parts, asked: Asked, command: StartSession, body: NewSession | Fork | Execution | None, route: str = START
) -> Write:
    """The write that opens a session, whose id is made from the key and the route. Raises NothingSent, Malformed."""
    key = asked.key or gateway.identity.start_key()
    route = gateway.relations.scoped(route, asked.principal)
    home = await gateway.identity.session(asked.principal.tenant, key, route)
    await gateway.relations.check_key(asked.principal, asked.key, home)
    return Write(home, command, route, key, digest_of(body), *_who(gateway, asked), subject=body.subject if body else None)


async def write(gateway: Parts, asked: Asked, write: Write, status: int) -> Response:
    """The answer to a write: the session after it, or where to look for that."""
    outcome = await gateway.writer.write(write)
    headers = asked.prefer.applied() | ({"Location": f"/v1/sessions/{write.home.id}"} if status == 201 else {})
    if isinstance(outcome, Done):
        return of_session(outcome.view, status, headers | ({"Idempotency-Replayed": "true"} if outcome.replayed else {}))
    headers |= {"Location": f"/v1/sessions/{write.home.id}", "Soma-Position": str(outcome.position)}
    return json({**ACCEPTED, "id": write.home.id, "position": str(outcome.position)}, 202, headers)


async def wait_for(gateway: Parts, fresh: Freshness, also: Position | None = None) -> None:
    """Until the read model has come as far as the caller asks."""
    for position in (fresh.position, also):
        if position:
            await gateway.reader.wait(position, fresh.prefer.seconds(READ_SECONDS), lenient=fresh.prefer.lenient)


def _awaited(then: Moment | None, partition: int) -> Position | None:
    """The position that `as_of` names: a past that the read model has not reached yet would be shown too early."""
    if not isinstance(then, Position):
        return None
    if then.partition != partition:
        raise Malformed(f"This session's commands are in partition {partition}, so it has no state as of {then}.")
    return then


def _behind(place: Place | None, partition: int) -> int:
    """The offset behind which to begin."""
    if place and place.partition != partition:
        raise Malformed(f"{place} is no event of this session: its events are in partition {partition}.")
    return place.offset if place else -1
