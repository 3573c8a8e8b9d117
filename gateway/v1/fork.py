"""Fork: another session that begins with what was said in this one."""

from fastapi import APIRouter, Response

from gateway.auth import Caller
from gateway.needs import Facts, needs
from gateway.parts import Gateway, Parts
from gateway.problems import Declined, Full, NotFound, OverBudget, ReadModelDown, UnknownModel
from gateway.v1.asking import Asking
from gateway.v1.responses import SESSION, bad, good
from gateway.v1.session import ACCEPTED_RESPONSE, HEADERS, LOCATION, WRITE, Id, opening, write
from gateway.v1.shapes import Fork, Session
from gateway.v1.starting import facts
from projections.fork import MOST_SAID, CannotFork, Past
from projections.session import overview
from schemas.types import session as types
from schemas.types.session import Origin, Price, SessionStarted, StartSession

router = APIRouter(tags=["sessions"])
MOST_ANCESTORS = 32
FORKED = {**SESSION, "origin": {"session_id": "019ab3c2-7e1d-7cc0-9f6a-3b1de5a1c400", "version": 4}}
ERRORS = (*WRITE, NotFound, UnknownModel, Declined, Full, OverBudget, ReadModelDown)


async def wanted_terms(session_id: Id, caller: Caller, gateway: Gateway, body: Fork | None = None) -> Facts:
    """What the fork would begin with, for the policies: what its origin began with, where the caller asks for nothing else."""
    wanted, home = body or Fork(), gateway.identity.home(session_id)
    if not await gateway.identity.shown(home.partition):
        raise ReadModelDown("The read model is behind: what the session began with is not known yet.")
    page = await gateway.reader.page(home.id, caller.tenant, -1, 1)
    if not page or not isinstance(started := page[0].event.body, SessionStarted):
        raise NotFound(f"There is no session {session_id}.")
    limits = types.Limits(**wanted.limits.model_dump()) if wanted.limits else started.limits
    return facts(wanted.model or started.model, (tool.name for tool in started.tools), limits)


@router.post(
    "/sessions/{session_id}/fork",
    dependencies=[needs("session.fork", wanted_terms)],
    status_code=201,
    summary="Fork a session",
    response_model=Session,
    responses=good(201, "The new session", FORKED, LOCATION | HEADERS) | ACCEPTED_RESPONSE | bad(*ERRORS),
)
async def fork(session_id: Id, asked: Asking, gateway: Gateway, body: Fork | None = None) -> Response:
    """Start a session that begins with what was said in this one until a version: instructions, messages, tool calls and their results.

    It has the same tools, in the same versions. A session can be forked where it rested: idle, or ended with no tool call open.
    """
    wanted, tenant = body or Fork(), asked.principal.tenant
    home = gateway.identity.home(session_id)
    past = await _past(gateway, home.id, home.partition, tenant, wanted.version)
    assert past.started and past.summary, "only a session that is started is found"
    try:
        origin = past.origin(wanted.version)
    except CannotFork as error:
        raise Declined(str(error), refusal="not_at_rest", session=overview(past.summary)) from error
    if await _said(gateway, tenant, past.started, origin) > MOST_SAID:
        raise Full(f"More than {MOST_SAID} messages were said until there: fork it earlier.", session=overview(past.summary))
    command = _command(gateway, past.started, origin, wanted)
    return await write(gateway, asked, await opening(gateway, asked, command, body, f"POST /v1/sessions/{home.id}/fork"), 201)


async def _past(gateway: Parts, session_id: str, partition: int, tenant: str, version: int | None) -> Past:
    """The session's records up to the version, as far as this gateway has read at least. Raises NotFound, ReadModelDown."""
    if not await gateway.identity.shown(partition):
        raise ReadModelDown("The read model is behind: a fork would lack what was said last.")
    past = Past()
    async for place, event in gateway.reader.events(session_id, tenant):
        if version is not None and (event.meta.version or 0) > version:
            return past
        past.take(event, place.offset)
    if past.summary is None:
        raise NotFound(f"There is no session {session_id}.")
    if version is not None and past.summary.version < version:
        raise NotFound(f"The session is at version {past.summary.version}: there is no version {version} yet.")
    return past


async def _said(gateway: Parts, tenant: str, started: SessionStarted, origin: Origin) -> int:
    """How many messages the fork begins with, those of the origin's own origins among them. Raises Declined."""
    count, further = len(origin.places), started.origin
    for _ in range(MOST_ANCESTORS):
        if further is None:
            return count
        count += len(further.places)
        [first] = await gateway.reader.page(further.session_id, tenant, -1, 1)
        assert isinstance(first.event.body, SessionStarted), "a session begins with its start"
        further = first.event.body.origin
    raise Declined(f"It is a fork of a fork, {MOST_ANCESTORS} times over: fork one of its origins.", refusal="too_deep")


def _command(gateway: Parts, started: SessionStarted, origin: Origin, wanted: Fork) -> StartSession:
    model = gateway.models.find(wanted.model or started.model)
    return StartSession(
        model=model.name,
        input=wanted.input,
        metadata=started.metadata if wanted.metadata is None else wanted.metadata,
        reply_seconds=model.timeout_seconds,
        idle_seconds=gateway.settings.session_idle_seconds,
        tools=started.tools,
        limits=types.Limits(**wanted.limits.model_dump()) if wanted.limits else started.limits,
        max_tokens=model.max_tokens,
        price=Price(**model.price.model_dump()) if model.price else None,
        agent=started.agent,
        origin=origin,
    )
