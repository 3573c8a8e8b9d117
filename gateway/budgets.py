"""Writes to the budget of a tenant: the command into the log, what became of it out of the read model.

A budget's topic holds the draws of all sessions that there ever were: no gateway reads it whole, as it reads what is called by names.
"""

from gateway import refusals
from gateway.ask import Ask, Sender
from gateway.named import Written
from gateway.positions import Position
from gateway.problems import NotEnabled
from gateway.reader import Reader
from gateway.waits import Waits
from gateway.writer import Accepted
from projections.budget import Budget
from projections.queries import ReadModelDown
from schemas.types.common import Refused

COMMANDS = "soma.budget.commands"
NAME = "budget"
"""The budget's name within its tenant."""


class Budgets:
    """`enabled` says whether sessions that start here draw from their tenant's budget: else setting one would change nothing."""

    def __init__(self, sender: Sender, reader: Reader, waits: Waits, *, enabled: bool) -> None:
        self._sender, self._reader, self._waits, self._enabled = sender, reader, waits, enabled

    async def load(self) -> None:
        """Fetch the schema. Raises NotRegistered."""
        await self._sender.load()

    def check(self) -> None:
        """Raises NotEnabled."""
        if not self._enabled:
            raise NotEnabled("Sessions of this platform draw from no tenant's budget: SOMA_TENANT_BUDGETS is not set.")

    async def set(self, ask: Ask) -> Written[Budget] | Accepted:
        """Raises the problem that a refusal is, KeyReused, NothingSent, OutcomeUnknown, TooMany."""
        with self._waits.admitted(ask.tenant):
            position = await self._sender.send(ask)
            try:
                async with self._waits.within(ask.wait):
                    return await self._outcome(ask, position) or Accepted(position)
            except (TimeoutError, ReadModelDown):
                return Accepted(position)

    async def _outcome(self, ask: Ask, position: Position) -> Written[Budget] | None:
        """As the read model tells it; None where it does not, in time. Raises the problem that a refusal is, and ReadModelDown."""
        if not await self._reader.applied.command(COMMANDS, *position, ask.wait):
            return None
        known = await self._reader.queries.budget(ask.tenant)
        answer = known.answer(str(position)) if known else None
        if known is None or answer is None:
            return None
        if answer.code not in ("", "unchanged"):
            raise refusals.without_state(Refused(code=answer.code, reason=answer.reason))
        return Written(known, changed=not answer.code, replayed=answer.repeated)
