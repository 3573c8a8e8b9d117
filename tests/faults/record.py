"""Reads the record as a stranger would: by marks that callers left in it, and without the folds of the product."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.chain import Head
from schemas.ids import partition_of
from schemas.types.common import CommandsLost, Refused
from schemas.types.session import MessagePosted, ReplyFailed, ReplyRecorded, ReplyRequested, SessionEvent, SessionStarted

NO_OUTCOME = ("duplicate", "key_reused")
"""Refusals that speak of a command which was recorded before."""


class Outcome(NamedTuple):
    """What one command led to."""

    place: str
    session: str
    refused: str | None
    mark: str | None


@dataclass
class Chain:
    """One partition of the record, read so far."""

    number: int
    head: Head = field(default_factory=Head)
    void: int = 0
    open: list[SessionEvent] = field(default_factory=list)
    applied: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """How often each command of the present epoch stands in the record."""


class Record:
    """What the valid records say: every record of every partition is taken, in order. `epoch` is the present one of the commands."""

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch
        self.chains: dict[int, Chain] = {}
        self.outcomes: dict[str, list[Outcome]] = defaultdict(list)
        self.said: dict[str, list[str]] = defaultdict(list)
        """Session → the marks of its messages, in order."""
        self.unanswered: dict[str, str] = {}
        """Session → what the model was asked."""
        self._asked = ""
        self.failed: list[str] = []
        """Turns without a reply."""
        self.torn: list[str] = []
        self.odd: list[str] = []
        """What no decider and no model would have said."""

    @property
    def void(self) -> int:
        return sum(chain.void for chain in self.chains.values())

    def take(self, number: int, offset: int, value: bytes, event: SessionEvent | None) -> None:
        """One record; `event` is None where its bytes cannot be read. Raises ChainBroken."""
        chain = self.chain(number)
        if event is None:
            chain.head, valid = chain.head.pass_unreadable(offset), False
        else:
            chain.head, valid = chain.head.take(event.meta, value, offset)
        if event and valid:
            self._fold(chain, event, f"e{number}-{offset}")
        else:
            chain.void += 1

    def chain(self, number: int) -> Chain:
        return self.chains.setdefault(number, Chain(number))

    def _fold(self, chain: Chain, event: SessionEvent, place: str) -> None:
        meta = event.meta
        if chain.open and (chain.open[-1].meta.command, chain.open[-1].meta.index + 1) != (meta.command, meta.index):
            self.torn.append(f"{place}: {chain.open[-1].meta.command_id} has {len(chain.open)} of {chain.open[-1].meta.count} records")
            chain.open.clear()
        elif not chain.open and meta.index:
            self.torn.append(f"{place}: {meta.command_id} begins with record {meta.index} of {meta.count}")
        chain.open.append(event)
        if meta.version and partition_of(meta.aggregate_id) != chain.number:
            self.odd.append(f"{place}: {meta.aggregate_id} does not live here")
        self._hear(event, place)
        if meta.index == meta.count - 1:
            self._outcome(chain, place)

    def _outcome(self, chain: Chain, place: str) -> None:
        """A command is recorded whole."""
        first, meta = chain.open[0].body, chain.open[0].meta
        if meta.command.epoch == self._epoch:
            lost = range(first.first_offset, first.last_offset + 1) if isinstance(first, CommandsLost) else (meta.command.offset,)
            for offset in lost:
                chain.applied[offset] += 1
        refused = first.code if isinstance(first, Refused) else None
        if refused not in NO_OUTCOME:
            marks = (_mark(event) for event in chain.open)
            self.outcomes[meta.command_id].append(Outcome(place, meta.aggregate_id, refused, next(filter(None, marks), None)))
        chain.open = []

    def _hear(self, event: SessionEvent, place: str) -> None:
        """The conversation: the echo must answer what was asked."""
        session = event.meta.aggregate_id
        match event.body:
            case MessagePosted(content=str(content)):
                self.said[session].append(content.partition(" ")[0])
                self._asked = content
            case ReplyRequested():
                self.unanswered[session] = self._asked
            case ReplyRecorded(content=content):
                asked = self.unanswered.pop(session, None)
                if content != f"echo: {asked}":
                    self.odd.append(f"{place}: {str(content)[:80]!r} answers {str(asked)[:80]!r}")
            case Refused():
                pass
            case ReplyFailed(code=code):
                self.failed.append(f"{place}: {code}")
                self.unanswered.pop(session, None)
            case _:
                self.unanswered.pop(session, None)


def _mark(event: SessionEvent) -> str | None:
    match event.body:
        case SessionStarted(metadata=metadata):
            return metadata.get("mark")
        case MessagePosted(content=str(content)):
            return content.partition(" ")[0]
        case _:
            return None
