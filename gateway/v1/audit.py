"""The audit: what the gate decided about a tenant's requests."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from gateway.auth import Caller
from gateway.needs import needs
from gateway.parts import Gateway, Parts
from gateway.problems import Invalid, Malformed, NotFound, NotYet, ReadModelDown
from gateway.reader import READ_SECONDS
from gateway.v1.asking import zoned
from gateway.v1.audit_shapes import DECISION, Decision, Outcome, Trail
from gateway.v1.responses import bad, good, json
from gateway.v1.session import Limit
from projections.audit import Entry, document
from projections.queries import AuditFilters, BadCursor

router = APIRouter(tags=["audit"])
NEW = timedelta(seconds=30)
"""A decision that is not older than this may be on its way into the read model: it is waited for."""
LOOK_SECONDS = 0.05


async def filters(
    actor: Annotated[str | None, Query(max_length=256, description="Only about this caller.", examples=["ada"])] = None,
    action: Annotated[str | None, Query(max_length=256, description="Only about this action.", examples=["session.start"])] = None,
    outcome: Annotated[Outcome | None, Query(description="Only decisions that ended so.")] = None,
    resource: Annotated[str | None, Query(max_length=256, description="Only about things of this kind.", examples=["session"])] = None,
    resource_id: Annotated[str | None, Query(max_length=256, description="Only about the thing with this id.")] = None,
    since: Annotated[datetime | None, Query(description="Only those made at this time or later.")] = None,
    until: Annotated[datetime | None, Query(description="Only those made before this time.")] = None,
) -> AuditFilters:
    """Raises Malformed."""
    return AuditFilters(actor, action, outcome, resource, resource_id, zoned("since", since), zoned("until", until))


@router.get(
    "/audit",
    dependencies=[needs("audit.list")],
    summary="List decisions",
    response_model=Trail,
    responses=good(200, "A page, the newest first", {"decisions": [DECISION], "next_cursor": None})
    | bad(Malformed, Invalid, ReadModelDown),
)
async def trail(
    gateway: Gateway,
    caller: Caller,
    wanted: Annotated[AuditFilters, Depends(filters)],
    cursor: Annotated[str | None, Query(max_length=32, description="`next_cursor` of the page before.")] = None,
    limit: Limit = 50,
) -> Response:
    """Who asked for what, and what the gate said; of the tenant's requests, and all of them."""
    try:
        page = await gateway.reader.queries.audit(caller.tenant, wanted, cursor, limit)
    except BadCursor as error:
        raise Malformed(str(error)) from error
    return json({"decisions": [document(entry) for entry in page.entries], "next_cursor": page.cursor})


@router.get(
    "/audit/{decision}",
    dependencies=[needs("audit.read")],
    summary="Read a decision",
    response_model=Decision,
    responses=good(200, "The decision", DECISION) | bad(Malformed, NotFound, Invalid, ReadModelDown, NotYet),
)
async def read(
    decision: Annotated[
        str, Path(max_length=64, description="Its id, as the answer to a denied request has it.", examples=[DECISION["id"]])
    ],
    gateway: Gateway,
    caller: Caller,
) -> Response:
    """The decision with this id. One that was made just now is waited for, whichever gateway made it."""
    return json(document(await _found(gateway, caller.tenant, decision)))


async def _found(gateway: Parts, tenant: str, id: str) -> Entry:
    """Raises NotFound; NotYet for one that may still come."""
    new, deadline = _is_new(id), asyncio.get_running_loop().time() + READ_SECONDS
    while (entry := await gateway.reader.queries.decision(tenant, id)) is None:
        if not new:
            raise NotFound(f"There is no decision {id!r} on record.")
        if asyncio.get_running_loop().time() > deadline:
            raise NotYet(f"The decision {id} is not in the read model yet, if there is one.")
        await asyncio.sleep(LOOK_SECONDS)
    return entry


def _is_new(id: str) -> bool:
    """Whether the id was made just now (UUIDv7, RFC 9562 §5.7). Raises NotFound where it is no UUID."""
    try:
        parsed = uuid.UUID(id)
    except ValueError:
        raise NotFound(f"There is no decision {id!r}: an id is a UUID.") from None
    if parsed.version != 7:
        return False
    made = datetime.fromtimestamp((parsed.int >> 80) / 1000, UTC) if parsed.int >> 80 < 1 << 43 else datetime.min.replace(tzinfo=UTC)
    return abs(datetime.now(UTC) - made) < NEW
