"""The tenant's budget: set it."""

from fastapi import APIRouter, Response

from gateway.parts import Gateway
from gateway.problems import Invalid, Malformed, NotEnabled, NotJson, OutcomeUnknown, TooLarge
from gateway.v1.asking import Asking
from gateway.v1.budget_shapes import BudgetAccepted, NewBudget
from gateway.v1.responses import ACCEPTED, bad, good, json

router = APIRouter(tags=["budget"])
DETAIL = ACCEPTED["detail"]
HEADERS = {"Location": "The budget.", "Soma-Position": "The command.", "Preference-Applied": "The preferences that were honoured."}


@router.put(
    "/budget",
    status_code=202,
    summary="Set the tenant's budget",
    response_model=BudgetAccepted,
    responses=good(202, "Recorded; it holds for every draw that comes after it", {"position": "0:12", "detail": DETAIL}, HEADERS)
    | bad(Malformed, TooLarge, NotJson, Invalid, NotEnabled, OutcomeUnknown),
)
async def set_budget(body: NewBudget, asked: Asking, gateway: Gateway) -> Response:
    """What all sessions of the tenant may use. A window that runs goes on, with what was spent in it; else one begins now.

    The same budget again changes nothing, so no Idempotency-Key is needed.
    """
    gateway.budgets.check()
    position = str(await gateway.budgets.set(body.command(), gateway.identity.key(), asked.principal, asked.trace))
    headers = {"Location": "/v1/budget", "Soma-Position": position} | asked.prefer.applied()
    return json({"position": position, "detail": DETAIL}, 202, headers)
