"""Puts every decision of the gate on record, without a request waiting for it.

    needs ──► note ──► what is pending ──► a batch a tenant ──► Kafka, else the spool ──► Kafka

A decision is pending for some tens of milliseconds, then acknowledged by Kafka or safe on this disk. Where there is room on neither, the
next request is told so, and kept out.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Never

from msgspec.structs import replace

from gateway import facts, policy
from gateway.facts import recordable
from gateway.link import Link, NotAcknowledged
from gateway.origin import Origin
from gateway.policy import Question
from gateway.problems import AuditFull, NothingSent
from gateway.records import Records
from gateway.repeats import Repeats
from gateway.spool import Batch, Spool
from ops import metrics
from projections.audit import COMMANDS, audit_id
from schemas.codec import Codec, headers
from schemas.ids import derived_id, new_id, partition_of
from schemas.types.audit import AuditCommand, Decision, NoteDecisions
from schemas.types.common import CommandMeta

log = logging.getLogger("soma.gateway")
GATHER_SECONDS = 0.03
"""So long decisions wait for company."""
LOOK_SECONDS = 1.0
"""After so long without a decision, repetitions and the spool are looked after."""
BATCH = 50
PENDING = 20_000
"""Decisions that may be pending: more than come in while an acknowledgement is waited for."""
SEND_SECONDS = 1.0
"""A batch that Kafka has not acknowledged by then is written down here, and sent again."""
REASONS = 5
OUTCOMES = {"allow": "allowed", "deny": "denied", "open": "failed_open"}


class Audit:
    """`strangers` is the tenant in whose audit those stand whom nobody knows."""

    def __init__(self, records: Records, link: Link, spool: Spool, strangers: str) -> None:
        self._records, self._link, self._spool, self._strangers = records, link, spool, strangers
        self._source = new_id(0)
        self._numbers: defaultdict[str, int] = defaultdict(int)
        self._pending: list[tuple[str, Decision]] = []
        self._held: list[Batch] = []
        self._repeats = Repeats()
        self._come = asyncio.Event()
        self._stuck: OSError | None = None
        self._codec: Codec[AuditCommand] | None = None

    # What requests do

    def note(self, question: Question, decided: policy.Decision, came: Origin) -> policy.Decision:
        """The decision under the id by which it can be found: of a denial that repeats another, the other's. Raises AuditFull."""
        who, resource = question.principal, question.resource
        decision = Decision(
            id=decided.id,
            time=datetime.now(UTC),
            actor=recordable(who.actor),
            kind=who.kind,
            action=decided.action,
            resource=resource["kind"] or "",
            resource_id=(id := resource["id"]) and recordable(id),
            outcome=OUTCOMES[decided.outcome],
            rule=decided.rule,
            version=recordable(decided.version),
            reasons=tuple(map(recordable, decided.reasons[:REASONS])),
            request_id=came.request_id,
            trace_id=came.trace_id,
            method=came.method,
            route=came.route,
            remote=came.remote,
            facts=facts.of(question),
        )
        return replace(decided, id=self._take(who.tenant, decision))

    def unknown(self, came: Origin, rule: str) -> None:
        """Somebody was kept out who did not prove who they are. Raises AuditFull."""
        decision = Decision(
            id=new_id(0),
            time=datetime.now(UTC),
            actor="",
            kind="unknown",
            action="sign_in",
            resource="gate",
            outcome="unauthenticated",
            rule=rule,
            request_id=came.request_id,
            trace_id=came.trace_id,
            method=came.method,
            remote=came.remote,
        )
        self._take(self._strangers, decision)

    def status(self) -> tuple[str, str]:
        """For /health."""
        if full := self._full():
            return "down", full
        if self._spool.waiting:
            return "degraded", f"{self._spool.waiting} bytes of decisions wait on this gateway's disk"
        return "ok", "every decision is on record"

    @property
    def waiting(self) -> bool:
        """Whether decisions of this gateway wait longer than usual for their place in the record."""
        return bool(self._spool.waiting)

    def _take(self, tenant: str, decision: Decision) -> str:
        if full := self._full():
            metrics.audit_closed.inc()
            raise AuditFull(f"{full}: nothing was sent.")
        metrics.audit_noted.labels(decision.outcome).inc()
        if decision.outcome in ("denied", "unauthenticated"):
            first, gone = self._repeats.take(tenant, decision)
            self._pending += gone
            if first != decision.id:
                return first
        self._pending.append((tenant, decision))
        self._come.set()
        return decision.id

    def _full(self) -> str | None:
        """Why no decision is taken, if none is."""
        if self._stuck:
            return f"The decisions of the gate cannot be written to this gateway's disk ({self._stuck.strerror or self._stuck})"
        if self._spool.full or len(self._pending) >= PENDING:
            return f"Kafka does not take the decisions of the gate, and {self._spool.waiting} bytes of them wait here"
        return None

    # What happens behind their back

    async def run(self) -> Never:
        """Bring decisions into the record until cancelled. Raises NotRegistered."""
        self._codec = await asyncio.to_thread(self._records.registry.codec, COMMANDS, AuditCommand)
        await self._on_disk()
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._come.wait()
                await asyncio.sleep(GATHER_SECONDS)
            except TimeoutError:
                pass
            await self.flush()

    async def flush(self) -> None:
        """Send what is pending, or write it down; then send what was written down."""
        self._come.clear()
        self._pending += self._repeats.over(datetime.now(UTC))
        self._held += self._batches()
        if self._link.up and not self._spool.waiting:
            self._held = await self._send(self._held)
        if self._held or self._stuck:
            await self._on_disk()
        while self._link.up and self._spool.waiting:
            batches, end = await asyncio.to_thread(self._spool.read)
            if await self._send(batches):
                break
            await asyncio.to_thread(self._spool.sent, end)
        metrics.audit_waiting.set(self._spool.waiting)

    async def close(self) -> None:
        """Bring what is left into the record, or onto the disk."""
        self._pending += self._repeats.over(None)
        await self.flush()
        self._spool.close()

    async def _on_disk(self) -> None:
        """Write down what Kafka has not taken. Where that is impossible it is held, and nobody is let in until it is possible."""
        held = list(self._held)
        try:
            await asyncio.to_thread(self._spool.append, held)
        except OSError as error:
            log.critical("the decisions of the gate cannot be written down, so nobody is let in: %s", error)
            self._stuck = error
            return
        self._held, self._stuck = self._held[len(held) :], None

    def _batches(self) -> list[Batch]:
        pending, self._pending = self._pending, []
        by_tenant = defaultdict[str, list[Decision]](list)
        for tenant, decision in pending:
            by_tenant[tenant].append(decision)
        return [self._batch(tenant, some) for tenant, decisions in by_tenant.items() for some in _chunks(decisions)]

    def _batch(self, tenant: str, decisions: tuple[Decision, ...]) -> Batch:
        self._numbers[tenant] += 1
        return Batch(self._source, self._numbers[tenant], tenant, decisions)

    async def _send(self, batches: Sequence[Batch]) -> list[Batch]:
        """Tenants side by side; of one tenant one after the other, for a number must not overtake. Those that Kafka has not taken."""
        by_tenant = defaultdict[str, list[Batch]](list)
        for batch in batches:
            by_tenant[batch.tenant].append(batch)
        left = await asyncio.gather(*map(self._in_order, by_tenant.values()))
        return [batch for of_tenant in left for batch in of_tenant]

    async def _in_order(self, batches: list[Batch]) -> list[Batch]:
        for sent, batch in enumerate(batches):
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await self._send_one(batch)
            except (NothingSent, NotAcknowledged, TimeoutError):
                return batches[sent:]
        return []

    async def _send_one(self, batch: Batch) -> None:
        if self._codec is None:
            raise NothingSent("The schema of the audit is not there yet.")
        id, subject = derived_id("audit", batch.source, batch.tenant, batch.number), audit_id(batch.tenant)
        now = datetime.now(UTC)  # what waited here for days is noted today
        meta = CommandMeta(id=id, aggregate_id=subject, tenant=batch.tenant, actor="gateway", time=now)
        body = NoteDecisions(source=batch.source, number=batch.number, decisions=batch.decisions)
        value = self._records.keys.sign(COMMANDS, self._codec, AuditCommand(meta=meta, body=body))
        kind = "soma.audit.NoteDecisions"
        about = headers(id=id, kind=kind, source=self._records.source, subject=subject, time=now, trace={})
        await self._link.send(COMMANDS, partition_of(subject), subject.encode(), value, about)


def _chunks(decisions: Iterable[Decision]) -> Iterable[tuple[Decision, ...]]:
    rest = iter(decisions)
    while some := tuple(islice(rest, BATCH)):
        yield some
