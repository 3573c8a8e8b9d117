"""Tool calls: the ledger, and what a person decides about one."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from gateway.auth import Caller, Principal
from gateway.identity import Home
from gateway.needs import Facts, needs
from gateway.parts import Gateway, Parts
from gateway.problems import (
    ArtifactsDown,
    Declined,
    Ended,
    Invalid,
    Malformed,
    NotFound,
    NotYet,
    ReadModelDown,
    SealDown,
    SubjectErased,
)
from gateway.v1.arguments import fitting
from gateway.v1.asking import Asking, Fresh, IfNoneMatch, matches
from gateway.v1.call_shapes import DETAILED, ENTRY, Approval, Approvals, Denial, Detailed, Ledger, Settlement, Status
from gateway.v1.responses import SESSION, Responses, bad, good, json
from gateway.v1.session import ACCEPTED_RESPONSE, HEADERS, WRITE, Change, Id, Limit, change_session, wait_for
from gateway.v1.shapes import Session
from ops.artifacts import StoreDown
from ops.seal import Erased
from projections.call import Call, document
from projections.queries import BadCursor, CallFilters, CallPage
from projections.session import shown_text
from schemas.chain import digest
from schemas.types.session import (
    ApproveCall,
    DenyCall,
    MessagePosted,
    SettleCall,
    ToolCallApproved,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallSettled,
)

router = APIRouter(tags=["tool calls"])
CallId = Annotated[str, Path(max_length=64, description="The call's id.", examples=[ENTRY["id"]])]
READ = (Malformed, Invalid, ReadModelDown, NotYet, SealDown)
PLAIN = "text/plain; charset=utf-8"
WHOLE: Responses = {
    200: {
        "description": "The result, byte for byte",
        "content": {"text/plain": {"schema": {"type": "string"}, "example": "42"}},
        "headers": {"ETag": {"description": "Its digest (BLAKE2b, 128 bits).", "schema": {"type": "string"}}},
    },
    304: {"description": "It has the digest of If-None-Match"},
}
Cursor = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")]


async def asker(session_id: Id, call: CallId, gateway: Gateway, caller: Caller) -> Facts:
    """Who asked for the call, for the policies: the actor of the last message before it. None where that is not on record (yet)."""
    actor = None
    async for stored in gateway.reader.events(Home.parse(session_id).id, caller.tenant):
        match stored.event.body:
            case MessagePosted():
                actor = stored.event.meta.actor
            case ToolCallRequested() as asked if asked.call == call:
                return {"asked_by": actor}
    return {"asked_by": None}


@router.get(
    "/calls",
    dependencies=[needs("call.list")],
    summary="List tool calls",
    response_model=Ledger,
    responses=good(200, "A page, the newest first", {"calls": [ENTRY], "next_cursor": None}) | bad(*READ),
)
async def calls(
    gateway: Gateway,
    caller: Caller,
    fresh: Fresh,
    status: Annotated[Status | None, Query(description="Only those in this state.")] = None,
    tool: Annotated[str | None, Query(max_length=64, description="Only those of this tool.", examples=["calculator"])] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """The ledger of all sessions: what was asked for, how often it was run, and how it ended."""
    await wait_for(gateway, fresh)
    return await _page(gateway, caller, CallFilters(None, tool, status), cursor, limit)


@router.get(
    "/sessions/{session_id}/calls",
    dependencies=[needs("call.list")],
    summary="List a session's tool calls",
    response_model=Ledger,
    responses=good(200, "A page, the newest first", {"calls": [ENTRY], "next_cursor": None}) | bad(*READ, NotFound),
)
async def calls_of_session(
    session_id: Id, gateway: Gateway, caller: Caller, fresh: Fresh, cursor: Cursor = None, limit: Limit = 50
) -> Response:
    """The session's ledger."""
    home = Home.parse(session_id)
    await wait_for(gateway, fresh)
    if await gateway.reader.queries.session(home.id, caller.tenant) is None:
        raise NotFound(f"There is no session {session_id}.")
    return await _page(gateway, caller, CallFilters(session_id=home.id), cursor, limit)


@router.get(
    "/sessions/{session_id}/calls/{call}",
    dependencies=[needs("call.read")],
    summary="Read a tool call",
    response_model=Detailed,
    responses=good(200, "The call, with its arguments and its result", DETAILED) | bad(*READ, NotFound),
)
async def read_call(session_id: Id, call: CallId, gateway: Gateway, caller: Caller, fresh: Fresh) -> Response:
    """One call: asked for with what, allowed by whom, run how often, ended how."""
    home = Home.parse(session_id)
    await wait_for(gateway, fresh)
    return json(await detailed(gateway, await found(gateway, home, call, caller.tenant)))


@router.get(
    "/sessions/{session_id}/calls/{call}/result",
    dependencies=[needs("call.read")],
    summary="Read a tool call's whole result",
    response_class=PlainTextResponse,
    responses=WHOLE | bad(*READ, NotFound, SubjectErased, ArtifactsDown),
)
async def read_result(
    session_id: Id, call: CallId, gateway: Gateway, caller: Caller, fresh: Fresh, if_none_match: IfNoneMatch = None
) -> Response:
    """What the tool answered, all of it, however large: always as plain text, for what it holds is the tool's."""
    home = Home.parse(session_id)
    await wait_for(gateway, fresh)
    entry = await found(gateway, home, call, caller.tenant)
    if entry.result_digest is None:
        raise NotFound(f"The call {call} has no result yet: it is {entry.status}.")
    headers = {"ETag": f'"{entry.result_digest.hex()}"', "X-Content-Type-Options": "nosniff"}
    if matches(headers["ETag"], if_none_match):
        return Response(status_code=304, headers=headers)
    if entry.artifact is None:
        return PlainTextResponse(await _shown(gateway, entry), headers=headers)
    try:
        pieces = await gateway.artifacts.read(entry.artifact)
    except FileNotFoundError:
        raise NotFound(f"The result is not in the artifact store any more: {entry.artifact} is missing there.") from None
    except Erased:
        raise SubjectErased("The key of the result was destroyed: nobody can read it.") from None
    except StoreDown as error:
        raise ArtifactsDown(str(error)) from error
    return StreamingResponse(pieces, headers={**headers, "Content-Length": str(entry.result_bytes)}, media_type=PLAIN)


@router.get(
    "/approvals",
    dependencies=[needs("approval.list")],
    summary="List what waits for an approval",
    response_model=Approvals,
    responses=good(200, "A page, the newest first", {"approvals": [DETAILED], "next_cursor": None}) | bad(*READ),
)
async def approvals(gateway: Gateway, caller: Caller, fresh: Fresh, cursor: Cursor = None, limit: Limit = 50) -> Response:
    """The calls that wait for a person, of those that the caller may decide about, with the arguments to decide upon."""
    await wait_for(gateway, fresh)
    page = await _calls(gateway, caller, CallFilters(status="awaiting", relation="approver"), cursor, limit)
    return json({"approvals": [await detailed(gateway, call) for call in page.calls], "next_cursor": page.cursor})


async def change(session_id: Id, gateway: Gateway, asked: Asking) -> Change:
    """Raises NotFound."""
    return Change(gateway.identity.home(session_id), asked, None)


Changing = Annotated[Change, Depends(change)]
RESPONSES = good(200, "The session, after it", SESSION, HEADERS) | ACCEPTED_RESPONSE | bad(*WRITE, NotFound, Ended, Declined, NotYet)


@router.post(
    "/sessions/{session_id}/calls/{call}/approve",
    dependencies=[needs("call.approve", asker)],
    summary="Approve a tool call",
    response_model=Session,
    responses=RESPONSES,
)
async def approve(body: Approval, call: CallId, change: Changing, gateway: Gateway) -> Response:
    """Let the call go on, with the arguments that were shown, or with others that fit the tool's schema."""
    other = None if body.arguments is None else fitting(await _schema(gateway, change, call), body.arguments)
    command = ApproveCall(
        call=call,
        digest=bytes.fromhex(body.arguments_digest),
        note=body.note,
        arguments=other,
        arguments_digest=None if other is None else digest(other.encode()),
    )
    return await change_session(gateway, change, f"calls/{call}/approve", command, body)


@router.post(
    "/sessions/{session_id}/calls/{call}/deny",
    dependencies=[needs("call.deny")],
    summary="Deny a tool call",
    response_model=Session,
    responses=RESPONSES,
)
async def deny(call: CallId, change: Changing, gateway: Gateway, body: Denial | None = None) -> Response:
    """Refuse the call: the model is told so, and the session goes on."""
    return await change_session(gateway, change, f"calls/{call}/deny", DenyCall(call=call, note=body.note if body else None), body)


@router.post(
    "/sessions/{session_id}/calls/{call}/settle",
    dependencies=[needs("call.settle", asker)],
    summary="Settle a tool call",
    response_model=Session,
    responses=RESPONSES,
)
async def settle(body: Settlement, call: CallId, change: Changing, gateway: Gateway) -> Response:
    """Say how a call ended whose outcome is unknown, or that still runs: its executor is believed no more."""
    command = SettleCall(call=call, outcome=body.outcome, content=body.result, digest=digest(body.result.encode()), note=body.note)
    return await change_session(gateway, change, f"calls/{call}/settle", command, body)


async def _schema(gateway: Parts, change: Change, call: str) -> str:
    """What arguments must fit: of the tool's version that the session has. Raises NotFound where there is no such call."""
    tenant = change.asked.principal.tenant
    entry = await found(gateway, change.home, call, tenant)
    known = gateway.tools.catalogue.find(tenant, entry.tool)
    definition = known and known.at(entry.version)
    return definition.parameters if definition else "{}"


async def _page(gateway: Parts, caller: Principal, filters: CallFilters, cursor: str | None, limit: int) -> Response:
    page = await _calls(gateway, caller, filters, cursor, limit)
    opened = [await gateway.reader.seals.opened(call, call.session_id) for call in page.calls]
    return json({"calls": [document(call) for call in opened], "next_cursor": page.cursor})


async def _calls(gateway: Parts, caller: Principal, filters: CallFilters, cursor: str | None, limit: int) -> CallPage:
    """Those in sessions to which the caller has the relation that the filters name."""
    try:
        page = await gateway.reader.queries.calls(caller.tenant, filters, cursor, limit, gateway.relations.seen_by(caller))
    except BadCursor as error:
        raise Malformed(str(error)) from error
    seen = await gateway.relations.among(caller, list({call.session_id for call in page.calls}), filters.relation)
    return page._replace(calls=[call for call in page.calls if call.session_id in seen])


async def found(gateway: Parts, home: Home, call: str, tenant: str) -> Call:
    found = await gateway.reader.queries.call(home.id, call, tenant)
    if found is None:
        raise NotFound(f"There is no call {call} in session {home.id}.")
    return found


async def _shown(gateway: Parts, call: Call) -> str:
    """The result as the record has it. Raises SubjectErased where it stays sealed."""
    result = (await detailed(gateway, call))["result"]
    if not isinstance(result, str):
        raise SubjectErased("The result is sealed with a key that is not to be had here.")
    return result


async def detailed(gateway: Parts, call: Call) -> dict[str, Any]:
    """With the text, which lies in the session's records."""
    seals, arguments, result = gateway.reader.seals, None, None
    async for stored in gateway.reader.events(call.session_id, call.tenant):
        body = stored.event.body
        if getattr(body, "call", None) != call.id:
            continue
        if isinstance(body, ToolCallRequested | ToolCallApproved):
            arguments = body.arguments or arguments
        if isinstance(body, ToolCallFinished | ToolCallSettled):
            result = body.content
    arguments, result = await seals.opened((arguments, result), call.session_id)
    shown = document(await seals.opened(call, call.session_id))
    return {**shown, "arguments": arguments and shown_text(arguments), "result": result and shown_text(result)}
