"""What a worker keeps of one aggregate: its state, and the commands it took (rule 6)."""

from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from msgspec import Struct

from schemas.chain import ChainBroken
from schemas.types.common import CommandMeta, Digest, EventMeta, Position, Refused
from streams.noun import Noun

MEMORY = timedelta(hours=24)
CLOCKS = timedelta(hours=1)
"""So far the clocks of two machines of the platform may be apart."""
MEMORY_LIMIT = 1_000
"""Ids of commands that an aggregate remembers: one more is refused, none is forgotten early."""
REPORTS_LIMIT = 500
"""Ids of reports among them, where a noun is reported to without end: callers keep the other half."""
NOT_REMEMBERED = frozenset({"duplicate", "key_reused", "unreadable", "unproven", "untimely"})
"""Refusals of what came before, and of what has no id that could come again: who sends garbage takes no room from others."""

S = TypeVar("S")


class VersionGap(ChainBroken):
    """The chain is whole, and yet an aggregate's versions are not contiguous: stop, rather than guess."""


class Taken(Struct, array_like=True, frozen=True):
    """A command that was recorded: when, where it stands, and the digest of its key's body."""

    time: datetime
    position: Position
    key_digest: Digest | None


class Outline(Struct, Generic[S], array_like=True):
    """An aggregate without its memory: enough to know what it waits for, and read from the same bytes faster.

    `offset` is the place of the last record folded in; of messages only the places are kept (rule 8).
    """

    state: S
    tenant: str | None = None
    version: int = 0
    records: int = 0
    offset: int = -1
    places: list[int] = []


class Aggregate(Outline[S], Generic[S], array_like=True):
    """The value of a snapshot."""

    taken: dict[str, Taken] = {}

    def apply(self, event: Any, offset: int, noun: Noun) -> None:
        """Fold a valid record. One that a snapshot newer than its watermark holds already is passed over."""
        if offset <= self.offset:
            return
        meta: EventMeta = event.meta
        self.offset, self.records = offset, self.records + 1
        if meta.index == 0 and not (isinstance(event.body, Refused) and event.body.code in NOT_REMEMBERED):
            self.forget(meta.time)
            self.taken[meta.command_id] = Taken(meta.time, meta.command, meta.key_digest)
            if noun.reported and meta.key_digest is None:
                self._forget_reports()
        if meta.version is None:
            return
        if meta.version != self.version + 1:
            raise VersionGap(f"offset {offset}: {meta.aggregate_id} has version {meta.version} after {self.version}")
        self.version = meta.version
        self.tenant = self.tenant or meta.tenant
        self.state = noun.evolve(self.state, event)
        if noun.keeps_place(event.body):
            self.places.append(offset)

    def forget(self, now: datetime) -> None:
        """Drop the ids that were taken more than 24 h before; a dict keeps the order in which they came."""
        while self.taken:
            oldest = next(iter(self.taken))
            if now - self.taken[oldest].time < MEMORY:
                return
            del self.taken[oldest]

    def _forget_reports(self) -> None:
        """Drop the oldest of the commands that came without a caller's key, where they are too many."""
        reports = [id for id, taken in self.taken.items() if taken.key_digest is None]
        for id in reports[:-REPORTS_LIMIT]:
            del self.taken[id]

    def refusal(self, command: Any, noun: Noun) -> Refused | None:
        """Why any noun would refuse this command, if it would."""
        meta: CommandMeta = command.meta
        self.forget(meta.time)
        if first := self.taken.get(meta.id):
            if first.key_digest != meta.key_digest:
                return Refused(code="key_reused", reason="This Idempotency-Key was used with another body.", first=first.position)
            again = None if first.time == meta.time else billed(command)  # the same bytes tell of the same bill
            return Refused(code="duplicate", reason="This command was taken before.", first=first.position, usage=again)
        if self.tenant not in (None, meta.tenant):
            return Refused(code="not_found", reason="There is nothing with this id.")
        if meta.expected_version not in (None, self.version):
            return Refused(code="version_conflict", reason=f"It is at version {self.version}, not {meta.expected_version}.")
        if len(self.taken) >= MEMORY_LIMIT and not isinstance(command.body, noun.results):
            return Refused(code="too_many_commands", reason=f"It took {MEMORY_LIMIT} commands within 24 h: wait before the next.")
        return None


def timely(made: datetime, came: datetime) -> bool:
    """Whether a command of that time, which Kafka took then, cannot be one that was taken before and is forgotten.

    An id is forgotten once a command comes that is MEMORY younger. Where no two clocks are further apart than CLOCKS, that one came when
    the forgotten one was at least MEMORY - CLOCKS old; so whatever comes earlier in its life is remembered if it was ever taken.
    """
    return -CLOCKS <= came - made < MEMORY - CLOCKS


def billed(command: Any) -> Any:
    """What an outside provider billed is recorded even when the result is refused (rule 11)."""
    return getattr(command.body, "usage", None)
