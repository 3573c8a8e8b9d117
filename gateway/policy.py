"""Whether a request is let in: the policies are asked, within bounded time, and what they say becomes a Decision.

    Question ──► Policy.decide ──► engine (embedded Rego, or an OPA server) ──► Decision ──► 403, or the command that it let in

Nothing is let in by a failure: what the policies leave undefined is denied, and an engine that is down, slow or talks nonsense means
503 until it is back, unless POLICY_FAIL_OPEN says otherwise.
"""

import asyncio
import logging
import time
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.auth import Principal
from gateway.engine import Answer, Engine, EngineDown
from gateway.problems import PolicyDown
from ops import metrics
from schemas.ids import new_id

log = logging.getLogger("soma.gateway")
UNDEFINED = "undefined"
OPEN = "policy_down"


class Question(Struct, frozen=True):
    """Who asks, what for (a stable name), on what (kind, id, tenant), and what else is known of the request."""

    principal: Principal
    action: str
    resource: dict[str, str | None]
    request: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """The input of the policies."""
        who = self.principal
        return {
            "principal": {
                "tenant": who.tenant,
                "actor": who.actor,
                "kind": who.kind,
                "scopes": sorted(who.scopes),
                "roles": sorted(who.roles),
                "claims": who.claims,
            },
            "action": self.action,
            "resource": self.resource,
            "request": self.request,
        }


class Decision(Struct, frozen=True):
    """What was decided, by which version of the policies. `open`: nobody could be asked, and the settings let everyone in then."""

    id: str
    action: str
    outcome: Literal["allow", "deny", "open"]
    rule: str
    reasons: tuple[str, ...]
    version: str

    @property
    def mark(self) -> str:
        """As it stands in the record, `CommandMeta.policy`."""
        return f"{self.outcome} {self.rule} {self.version} {self.id}"


class Verdict(Struct, frozen=True):
    """The form in which policies answer; anything else is nonsense."""

    allow: bool
    rule: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:*/-]{1,64}$")]
    reasons: Annotated[tuple[Annotated[str, Meta(max_length=1_000)], ...], Meta(max_length=20)] = ()


def verdict(found: Any) -> Verdict:
    """What an engine found, in form: what is left undefined is denied. Raises msgspec.ValidationError for nonsense."""
    if found is None:
        return Verdict(allow=False, rule=UNDEFINED, reasons=("The policies do not say whether this is allowed.",))
    return msgspec.convert(found, Verdict)


class Policy:
    """Asks the engine. `seconds` is how long it may take, once it is the question's turn."""

    def __init__(self, engine: Engine, *, fail_open: bool, seconds: float) -> None:
        self._engine, self._fail_open, self._seconds = engine, fail_open, seconds

    async def decide(self, question: Question) -> Decision:
        """Raises PolicyDown."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._engine.line + self._seconds):
                answer = await self._engine.ask(question.document())
            decision = _decided(question.action, answer)
        except (EngineDown, TimeoutError, msgspec.ValidationError) as error:
            decision = self._without(question, error)
        metrics.policy_seconds.observe(time.perf_counter() - started)
        metrics.policy_decisions.labels(decision.outcome).inc()
        return decision

    def _without(self, question: Question, error: Exception) -> Decision:
        """The decision where nobody could be asked. Raises PolicyDown unless the settings let everyone in then."""
        why = f"took more than {self._seconds:g} s" if isinstance(error, TimeoutError) else str(error)
        if not self._fail_open:
            metrics.policy_decisions.labels("unavailable").inc()
            log.error("no decision about %s: the policies cannot be asked: %s", question.action, why)
            raise PolicyDown("The policies cannot be asked: nothing was sent.") from error
        log.error("%s is let in without being asked about: the policies cannot be asked: %s", question.action, why)
        return Decision(new_id(0), question.action, "open", OPEN, (), "none")


def _decided(action: str, answer: Answer) -> Decision:
    """Raises msgspec.ValidationError."""
    said = verdict(answer.found)
    outcome: Literal["allow", "deny"] = "allow" if said.allow else "deny"
    return Decision(new_id(0), action, outcome, said.rule, said.reasons, answer.version)
