"""What a route needs to be allowed: it names its action, and nothing of it runs before the policies let the caller in."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.routing import APIRoute

from gateway.auth import Caller
from gateway.origin import origin
from gateway.parts import Gateway
from gateway.policy import Decision, Question
from gateway.problems import Forbidden, NotFound
from gateway.relations import HIDDEN

Facts = dict[str, Any]
"""What the policies may want to know of a request besides who, what and where from."""
_ACTION = "soma_action"


async def nothing() -> Facts:
    """An action about which the request itself says enough."""
    return {}


def needs(action: str, facts: Callable[..., Awaitable[Facts]] = nothing) -> Any:
    """The dependency of a route that does `action`, to be listed in its `dependencies`. `facts` is one that finds the action's own facts.

    The part of `action` before the point is the kind of the resource; its id is what the path's parameter of that kind says. Whatever a
    route acts on belongs to the caller's tenant, or is not found: so that is the tenant of the resource.
    Relations are asked about behind the policies. The decision is audited.
    Raises Forbidden, PolicyDown, RelationsDown, AuditFull; NotFound for what the caller may not even see.
    """

    async def allowed(request: Request, caller: Caller, gateway: Gateway, own: Annotated[Facts, Depends(facts)]) -> None:
        resource, came = _resource(action, request.path_params) | {"tenant": caller.tenant}, origin(request.scope)
        about = {"method": request.method, "path": request.url.path, "remote": came.remote} | own
        question = Question(caller, action, resource, about)
        decided = await gateway.policy.decide(question)
        named = own | request.path_params
        decided = await gateway.relations.decide(caller, decided, named)
        decision = gateway.audit.note(question, decided, came)
        if decision.outcome == "deny":
            raise NotFound(decision.reasons[0]) if decision.rule == HIDDEN else forbidden(decision)
        request.state.decision = decision

    setattr(allowed, _ACTION, action)
    return Depends(allowed)


def mark_of(request: Request) -> str:
    """The decision that let this request in, as it goes on record. Nothing, where its body is no question: then the route is not run."""
    found: Decision | None = getattr(request.state, "decision", None)
    return found.mark if found else ""


def action_of(route: APIRoute) -> str | None:
    """The action that a route names."""
    return next((found for each in route.dependencies if (found := getattr(each.dependency, _ACTION, None))), None)


def forbidden(decision: Decision) -> Forbidden:
    """The answer to who was kept out: the decision's id finds it again."""
    about = {"id": decision.id, "action": decision.action, "rule": decision.rule, "version": decision.version}
    return Forbidden(" ".join(decision.reasons) or f"The rule {decision.rule} does not allow it.", decision=about)


def _resource(action: str, path: dict[str, Any]) -> dict[str, str | None]:
    kind = action.partition(".")[0]
    return {"kind": kind, "id": path.get(f"{kind}_id") or path.get(kind) or path.get("name")}
