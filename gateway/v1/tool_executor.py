"""One tool call by itself, without a model: a session of one call, so that the same ledger, approvals, limits and breaker hold for it."""

from typing import Any

from fastapi import APIRouter, Response

from gateway.needs import Facts, needs
from gateway.parts import Gateway, Parts
from gateway.positions import position
from gateway.problems import NotFound, NotYet, UnknownTool
from gateway.reader import READ_SECONDS
from gateway.v1.arguments import fitting
from gateway.v1.asking import Asked, Asking
from gateway.v1.call import detailed, found
from gateway.v1.call_shapes import DETAILED, Detailed
from gateway.v1.responses import ACCEPTED, bad, good, json, marks
from gateway.v1.session import ACCEPTED_RESPONSE, HEADERS, WRITE, opening
from gateway.v1.shapes import Execution
from gateway.v1.starting import facts, granted
from gateway.writer import Accepted, Write
from ops import json_schema
from ops.seal import KeysDown
from projections.queries import ReadModelDown
from schemas.chain import digest
from schemas.types import session as types
from schemas.types.session import AskedCall, StartSession
from schemas.types.tool import Definition

router = APIRouter(tags=["tool calls"])
ROUTE = "POST /v1/tool_executor"
ERRORS = (*WRITE, NotFound, UnknownTool)


async def wanted_terms(body: Execution) -> Facts:
    """What the call's session would begin with, for the policies. No model has a part in it."""
    return facts("", [body.tool], types.Limits(**body.limits.model_dump()) if body.limits else None) | {"name": body.tool}


@router.post(
    "/tool_executor",
    dependencies=[needs("tool.execute", wanted_terms)],
    status_code=201,
    summary="Call a tool",
    response_model=Detailed,
    responses=good(201, "The call, over", DETAILED, {"Location": "The call."} | HEADERS) | ACCEPTED_RESPONSE | bad(*ERRORS),
)
async def execute(body: Execution, asked: Asking, gateway: Gateway) -> Response:
    """Make one call, and wait for its end. 201 whatever that is: see `outcome`, as in GET /v1/sessions/{id}/calls/{call}.

    202 with the position to read it with under `Prefer: respond-async`, when the wait runs out, and when a person has to approve it.
    """
    tool = granted(gateway, asked.principal.tenant, body.tool)
    known = gateway.tools.catalogue.find(asked.principal.tenant, tool.name)
    definition = known and known.at(tool.version)
    assert definition, "what was granted is known"
    command = StartSession(
        model="",
        metadata=body.metadata,
        reply_seconds=tool.timeout_seconds,
        idle_seconds=gateway.settings.session_idle_seconds,
        tools=(tool,),
        limits=types.Limits(**body.limits.model_dump()) if body.limits else None,
        call=_wish(definition, body.arguments),
    )
    return await _answer(gateway, asked, await opening(gateway, asked, command, body, ROUTE))


def _wish(definition: Definition, arguments: dict[str, Any]) -> AskedCall:
    """The call, as a model that makes no mistakes would ask for it. Raises Invalid."""
    text = fitting(definition.parameters, arguments)
    condition = definition.approval_when if definition.approval == "when" else None
    return AskedCall(
        model_id="",
        tool=definition.name,
        arguments=text,
        digest=digest(text.encode()),
        needs_approval=condition is not None and json_schema.problem(condition, arguments) is None,
    )


async def _answer(gateway: Parts, asked: Asked, write: Write) -> Response:
    """The call once it is over; else where to look for it."""
    outcome, headers = await gateway.writer.write(write), asked.prefer.applied()
    if isinstance(outcome, Accepted):
        return _accepted(write.home.id, str(outcome.position), str(ACCEPTED["detail"]), headers)
    view, headers = outcome.view, headers | ({"Idempotency-Replayed": "true"} if outcome.replayed else {})
    assert view.summary, "only a session that is started is shown"
    if view.summary.status == "waiting":
        return _accepted(write.home.id, view.summary.position, "A person has to approve it: see GET /v1/approvals.", headers)
    try:
        await gateway.reader.wait(position(view.summary.position), READ_SECONDS, lenient=False)
        call = await detailed(gateway, await found(gateway, write.home, view.messages[0].calls[0].id, write.tenant))
    except (ReadModelDown, NotYet, KeysDown):
        return _accepted(write.home.id, view.summary.position, str(ACCEPTED["detail"]), headers)
    location = {"Location": f"/v1/sessions/{write.home.id}/calls/{call['id']}"}
    return json(call, 201, headers | marks(view.summary) | location)


def _accepted(session_id: str, position: str, detail: str, headers: dict[str, str]) -> Response:
    places = {"Location": f"/v1/sessions/{session_id}/calls", "Soma-Position": position}
    return json({"id": session_id, "position": position, "detail": detail}, 202, headers | places)
