"""Writes to the budget of a tenant: the command into the log. What became of it is read where budgets are read."""

import asyncio
from datetime import UTC, datetime

from gateway.auth import Principal
from gateway.identity import command_id
from gateway.link import Link, NotAcknowledged
from gateway.positions import Position
from gateway.problems import NotEnabled, NothingSent, OutcomeUnknown
from gateway.records import Records
from schemas.codec import Codec, headers
from schemas.ids import named_id, partition_of
from schemas.types.budget import BudgetCommand, SetBudget
from schemas.types.common import CommandMeta

COMMANDS = "soma.budget.commands"
NAME = "budget"
"""The budget's name within its tenant, and its noun."""


class Budgets:
    """`enabled` says whether sessions that start here draw from their tenant's budget: else setting one would change nothing."""

    def __init__(self, link: Link, records: Records, *, enabled: bool) -> None:
        self._link, self._records, self._enabled = link, records, enabled
        self._codec: Codec[BudgetCommand] | None = None

    async def load(self) -> None:
        """Fetch the schema. Raises NotRegistered."""
        self._codec = await asyncio.to_thread(self._records.registry.codec, COMMANDS, BudgetCommand)

    def check(self) -> None:
        """Raises NotEnabled."""
        if not self._enabled:
            raise NotEnabled("Sessions of this platform draw from no tenant's budget: SOMA_TENANT_BUDGETS is not set.")

    async def set(self, body: SetBudget, key: str, caller: Principal, policy: str, trace: dict[str, str]) -> Position:
        """Where the command stands. Each is one of its own: the same budget again changes nothing. Raises NothingSent, OutcomeUnknown."""
        if self._codec is None:
            raise NothingSent("The gateway is starting: nothing was sent.")
        id, now = named_id(caller.tenant, NAME, NAME), datetime.now(UTC)
        meta = CommandMeta(
            id=command_id(caller.tenant, "PUT /v1/budget", key),
            aggregate_id=id,
            tenant=caller.tenant,
            actor=caller.actor,
            time=now,
            policy=policy,
        )
        value = self._records.keys.sign(COMMANDS, self._codec, BudgetCommand(meta=meta, body=body))
        about = headers(id=meta.id, kind="soma.budget.SetBudget", source=self._records.source, subject=id, time=now, trace=trace)
        partition = partition_of(id)
        try:
            return Position(partition, await self._link.send(COMMANDS, partition, id.encode(), value, about))
        except NotAcknowledged:
            detail = "Kafka did not acknowledge it in time. It may be done, now or later, or not at all: send it again."
            raise OutcomeUnknown(detail, outcome="unknown", idempotency_key=key) from None
