"""The breakers of tools as an executor meets them: asked before each call, told afterwards. They are events, so all executors agree."""

import asyncio
from typing import Any

from commands.tool import Closed, HalfOpen, Open, Probing
from ops import metrics
from schemas.ids import derived_id, named_id
from schemas.types.tool import ProbeTool, ReportFailure, ReportSuccess
from streams.services import Services
from streams.tool import TOOL, Tools
from streams.tools.running import Result

PROBE_SECONDS = 5
"""How long a claim to try a tool may take to be on record."""
REASON_CHARACTERS = 300


class Breakers:
    """`services` are those of the noun tool."""

    def __init__(self, executor: str, services: Services, tools: Tools) -> None:
        self._executor, self._services, self._tools = executor, services, tools

    async def refusal(self, tenant: str, name: str, call: str) -> str | None:
        """Why the tool is not called now. In a half-open breaker one call goes through: the one whose claim was recorded."""
        known = self._tools.find(tenant, name)
        match known.breaker if known else Closed():
            case Open(until=until):
                metrics.calls_refused.inc()
                return f"{name} does not work at present and was not called: it is tried again after {until.isoformat()}."
            case HalfOpen() | Probing() if not await self._may_try(tenant, name, call):
                metrics.calls_refused.inc()
                return f"{name} does not work at present and was not called: another call is trying it."
            case _:
                return None

    async def report(self, tenant: str, name: str, call: str, result: Result, *, sealed: bool) -> None:
        """Failures count for the breaker; a success matters only after some. What a tool said to a sealed session stays there."""
        known = self._tools.find(tenant, name)
        if result.fault:
            reason = "what it said is sealed" if sealed else result.content.decode(errors="replace")[:REASON_CHARACTERS]
            await self._send(tenant, name, derived_id(call, "failed", self._executor), ReportFailure(call=call, reason=reason))
        elif known and known.breaker != Closed():
            await self._send(tenant, name, derived_id(call, "worked", self._executor), ReportSuccess(call=call))

    def measure(self) -> None:
        """Say in the metrics how many are not closed."""
        metrics.breakers_open.set(sum(not isinstance(tool.breaker, Closed) for tool in self._tools.everybodys()))

    async def _may_try(self, tenant: str, name: str, call: str) -> bool:
        """Whether the record gives the try to this call, or says meanwhile that the tool works."""
        probe = derived_id(call, "probe", self._executor)
        with self._tools.expecting(probe, None) as outcome:
            await self._send(tenant, name, probe, ProbeTool(call=call, executor=self._executor))
            try:
                known = (await asyncio.wait_for(asyncio.shield(outcome), PROBE_SECONDS)).known
            except TimeoutError:
                return False
        match known.breaker if known else None:
            case Closed():
                return True
            case Probing(call=trying):
                return trying == call
            case _:
                return False

    async def _send(self, tenant: str, name: str, id: str, body: Any) -> None:
        await self._services.send(TOOL, 0, named_id(tenant, "tool", name), id, tenant, body, {})
