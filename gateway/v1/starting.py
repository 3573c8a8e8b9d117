"""From what a caller names (a model, an agent, tools) to the terms that a session begins with."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from msgspec.structs import asdict, replace

from gateway.needs import Facts
from gateway.parts import Parts
from gateway.problems import Invalid, UnknownAgent, UnknownTool
from gateway.v1.shapes import NewSession
from projections.named import Known
from schemas.types.agent import Definition
from schemas.types.session import Limits, Price, Said, StartSession, Tool

MESSAGE_TOKENS = 16
"""Upper bound of what a description costs in a prompt besides its text."""


class Terms(NamedTuple):
    """What a session begins with. `agent`: the version whose terms they are, `name@version`; None where the caller made them."""

    definition: Definition
    agent: str | None = None


class Opening(NamedTuple):
    """What else a session begins with: what its caller says now, and what was said before."""

    input: str | None
    metadata: Mapping[str, str]
    history: tuple[Said, ...] = ()
    max_tokens: int | None = None
    idle_seconds: int | None = None


def requested(gateway: Parts, tenant: str, body: NewSession) -> Terms:
    """What POST /v1/sessions asks for. Raises Invalid, UnknownAgent."""
    limits = Limits(**body.limits.model_dump()) if body.limits else None
    if body.agent:
        terms = preset(gateway, tenant, body.agent)
        return Terms(replace(terms.definition, limits=narrowed(terms.definition.limits, limits)), terms.agent)
    return own(body.model or "", instructions=body.instructions, tools=tuple(body.tools), limits=limits)


def facts(model: str, tools: Iterable[str], limits: Limits | None) -> Facts:
    """What a session would begin with, for the policies. A limit that there is none of is left out."""
    named = {name: value for name, value in asdict(limits).items() if value is not None} if limits else {}
    return {"model": model, "tools": list(tools), "limits": named}


def started(gateway: Parts, tenant: str, terms: Terms, opening: Opening) -> StartSession:
    """Raises UnknownModel, UnknownTool."""
    definition, agent = terms
    model = gateway.models.find(definition.model)
    return StartSession(
        model=model.name,
        input=opening.input,
        metadata=dict(opening.metadata),
        reply_seconds=model.timeout_seconds,
        idle_seconds=opening.idle_seconds or gateway.settings.session_idle_seconds,
        instructions=definition.instructions,
        tools=tuple(_approved(granted(gateway, tenant, wanted), definition) for wanted in definition.tools),
        limits=definition.limits,
        max_tokens=min(model.max_tokens, opening.max_tokens or model.max_tokens),
        price=Price(**model.price.model_dump()) if model.price else None,
        agent=agent,
        history=opening.history,
    )


def addressed(gateway: Parts, tenant: str, name: str) -> Terms:
    """What `model` names where it may name either: a model, or an agent as `name` or `name@version`. Raises UnknownModel, UnknownAgent."""
    if gateway.models.has(name) or not gateway.agents.catalogue.find(tenant, name.partition("@")[0]):
        return own(gateway.models.find(name).name)
    return preset(gateway, tenant, name)


def own(model: str, **more: Any) -> Terms:
    """A caller's own terms."""
    return Terms(Definition(name="", description="", model=model, **more))


def preset(gateway: Parts, tenant: str, wanted: str) -> Terms:
    """An agent's version: the newest, or the one named by `name@version`. Raises UnknownAgent."""
    name, _, number = wanted.partition("@")
    known = gateway.agents.catalogue.find(tenant, name)
    if known is None or known.retired:
        raise UnknownAgent(f"There is no agent {name!r}." if known is None else f"The agent {name!r} is retired.")
    version = _version(known, number)
    if (definition := known.at(version)) is None:
        raise UnknownAgent(f"The agent {name!r} is at version {known.version}: there is no version {number}.")
    return Terms(definition, f"{name}@{version}")


def granted(gateway: Parts, tenant: str, wanted: str) -> Tool:
    """The tool as the session is given it: its version stays. Raises UnknownTool."""
    name, _, number = wanted.partition("@")
    known = gateway.tools.catalogue.find(tenant, name)
    if known is None or known.retired:
        raise UnknownTool(f"There is no tool {name!r}." if known is None else f"The tool {name!r} is retired.")
    version = _version(known, number)
    if (definition := known.at(version)) is None:
        raise UnknownTool(f"The tool {name!r} is at version {known.version}: there is no version {number}.")
    return Tool(
        name=name,
        version=version,
        repeat_safe=definition.repeat == "safe",
        timeout_seconds=definition.timeout_seconds,
        attempts=definition.attempts if definition.repeat == "safe" else 1,
        cost_micros=definition.cost_micros,
        approval=definition.approval,
        tokens=len(definition.description.encode()) + len(definition.parameters.encode()) + MESSAGE_TOKENS,
    )


def narrowed(limits: Limits | None, wish: Limits | None) -> Limits | None:
    """An agent's limits with a caller's, which may only be narrower. Raises Invalid."""
    if limits is None or wish is None:
        return limits or wish
    most, wished = asdict(limits), {name: value for name, value in asdict(wish).items() if value is not None}
    wider = [name for name, value in wished.items() if most[name] is not None and value > most[name]]
    if wider:
        errors = [{"field": f"body.limits.{name}", "problem": f"the agent allows {most[name]} at most"} for name in wider]
        raise Invalid("The limits of an agent may only be narrowed.", errors=errors)
    return Limits(**most | wished)


def _version(known: Known[Any, Any], number: str) -> int:
    """The version that `name@number` means, if there is one: the newest where no number is given."""
    return int(number) if number.isdecimal() else 0 if number else known.version


def _approved(tool: Tool, definition: Definition) -> Tool:
    """An agent may be stricter than the tool, never laxer."""
    return replace(tool, approval="always") if definition.approvals.get(tool.name) == "always" else tool
