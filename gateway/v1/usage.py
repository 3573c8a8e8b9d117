"""What the caller's tenant used."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from operator import add
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from gateway.auth import Caller
from gateway.needs import needs
from gateway.parts import Gateway
from gateway.problems import Invalid, Malformed, NotYet, ReadModelDown
from gateway.v1.asking import Fresh
from gateway.v1.responses import bad, good, json
from gateway.v1.session import wait_for
from gateway.v1.usage_shapes import REPORT, By, UsageReport
from projections.usage import Entry, Used

router = APIRouter(tags=["usage"])
DAYS, MOST_DAYS = 30, 366
MOST_ENTRIES = 5_000


@router.get(
    "/usage",
    dependencies=[needs("usage.read")],
    summary="Read what was used",
    response_model=UsageReport,
    responses=good(200, "What was used, group by group, and altogether", REPORT) | bad(Malformed, Invalid, ReadModelDown, NotYet),
)
async def usage(
    gateway: Gateway,
    caller: Caller,
    fresh: Fresh,
    since: Annotated[date | None, Query(description=f"First day in UTC; by default {DAYS - 1} days before the last.")] = None,
    until: Annotated[date | None, Query(description="Last day in UTC; by default today.")] = None,
    group_by: Annotated[
        Sequence[By],
        Query(max_length=3, description="What entries are told apart by; may be given several times.", examples=[["model", "tool"]]),
    ] = ("day", "model"),
) -> Response:
    """Tokens, money, replies and tool calls of the caller's tenant, as its sessions' records say; also what was billed for
    results that were refused. What tools used counts for the model of their session, too: `group_by=tool` tells them apart.
    """
    first, last = _days(since, until, datetime.now(UTC).date())
    await wait_for(gateway, fresh)
    by = list(dict.fromkeys(group_by))
    entries = await gateway.reader.queries.usage(caller.tenant, first, last, by, MOST_ENTRIES + 1)
    if len(entries) > MOST_ENTRIES:
        raise Invalid(f"These are more than {MOST_ENTRIES} entries: ask for fewer days, or tell fewer things apart by group_by.")
    report = {"since": first, "until": last, "group_by": by, "usage": [_shown(entry) for entry in entries], "total": _total(entries)}
    return json(report, headers=fresh.prefer.applied())


def _days(since: date | None, until: date | None, today: date) -> tuple[date, date]:
    """The first and the last day that are asked for. Raises Invalid."""
    last = until or today
    first = since or date.fromordinal(max(1, last.toordinal() - DAYS + 1))
    if first > last:
        raise Invalid(f"since={first} comes after until={last}: exchange them.")
    if last - first >= timedelta(days=MOST_DAYS):
        raise Invalid(f"From {first} to {last} are more than {MOST_DAYS} days: ask for one part after the other.")
    return first, last


def _shown(entry: Entry) -> dict[str, Any]:
    return {**entry.of, **entry.used._asdict()}


def _total(entries: list[Entry]) -> dict[str, int]:
    total = Used()
    for entry in entries:
        total = Used(*map(add, total, entry.used))
    return total._asdict()
