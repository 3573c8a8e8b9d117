"""The tenant's budget: set it, look at it."""

from typing import Any

from fastapi import APIRouter, Response

from gateway.auth import Caller
from gateway.budgets import COMMANDS, NAME
from gateway.named import Written
from gateway.needs import needs
from gateway.parts import Gateway
from gateway.problems import Declined, Invalid, Malformed, NotEnabled, NotYet, ReadModelDown
from gateway.reader import READ_SECONDS
from gateway.v1.asking import Asking, Fresh
from gateway.v1.budget_shapes import Budget, BudgetAccepted, NewBudget
from gateway.v1.names import DETAIL, HEADERS, WRITE, ask, replayed
from gateway.v1.responses import Responses, bad, good, json
from projections.budget import document

router = APIRouter(tags=["budget"])
BUDGET: dict[str, Any] = {
    "limits": {"tokens": None, "cost_micros": None, "calls": 10_000, "turns": None, "seconds": 2_592_000},
    "renews": True,
    "since": "2026-01-31T12:00:00.000000Z",
    "until": "2026-03-02T12:00:00.000000Z",
    "spent": {"tokens": 4_100, "cost_micros": 0, "calls": 7, "turns": 9},
    "reserved": {"tokens": 5_120, "cost_micros": 0, "calls": 4, "turns": 5},
    "sessions": 1,
    "position": "0:12",
    "updated_at": "2026-01-31T12:00:00.000000Z",
}
READ = {"Preference-Applied": HEADERS["Preference-Applied"]}
ACCEPTED: Responses = good(202, "Recorded; what became of it is not known yet", {"position": "0:12", "detail": DETAIL}, HEADERS)
ACCEPTED[202]["model"] = BudgetAccepted


@router.put(
    "/budget",
    dependencies=[needs("budget.set")],
    summary="Set the tenant's budget",
    response_model=Budget,
    responses=good(200, "The budget, as it is now", BUDGET, HEADERS) | ACCEPTED | bad(*WRITE, NotEnabled, Declined),
)
async def set_budget(body: NewBudget, asked: Asking, gateway: Gateway) -> Response:
    """What all sessions of the tenant may use. A window that runs goes on, with what was spent in it; else one begins now.

    The same budget again changes nothing.
    """
    gateway.budgets.check()
    outcome = await gateway.budgets.set(ask(gateway, asked, NAME, body.command(), "PUT /v1/budget", body))
    headers = {"Location": "/v1/budget"} | asked.prefer.applied()
    if isinstance(outcome, Written):
        return json(document(outcome.known), headers=headers | {"Soma-Position": outcome.known.position} | replayed(outcome))
    position = str(outcome.position)
    return json({"position": position, "detail": DETAIL}, 202, headers | {"Soma-Position": position})


@router.get(
    "/budget",
    dependencies=[needs("budget.read")],
    summary="Read the tenant's budget",
    response_model=Budget,
    responses=good(200, "The budget, as a session would find it now", BUDGET, READ) | bad(Malformed, Invalid, ReadModelDown, NotYet),
)
async def read_budget(gateway: Gateway, caller: Caller, fresh: Fresh) -> Response:
    """What it allows, what is spent, and what sessions hold of it. With `position` the answer holds at least what that command did."""
    if fresh.position:
        seconds = fresh.prefer.seconds(READ_SECONDS)
        await gateway.reader.wait(fresh.position, seconds, lenient=fresh.prefer.lenient, commands=COMMANDS)
    return json(document(await gateway.reader.queries.budget(caller.tenant)), headers=fresh.prefer.applied())
