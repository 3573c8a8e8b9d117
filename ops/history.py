"""Histories: what was decided, command by command, in a form that every release reads. A file is gzip over JSON lines.

Each line is one command of one noun, with the records that it led to: `{"noun", "partition", "command", "events"}`, in the order of each
partition. `command` is null where retention removed it: then it cannot be decided again, only its records be folded.
"""

import gzip
import importlib
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from ops.log import Log
from ops.replay import Replay
from schemas.codec import Codec, Unreadable
from schemas.contract import topics
from schemas.ids import derived_id
from schemas.types.common import Position

if TYPE_CHECKING:
    from schemas.registry import Registry


class Entry(Struct, frozen=True):
    """One command and its records, as JSON values."""

    noun: str
    partition: int
    command: dict[str, Any] | None
    events: list[dict[str, Any]]

    @property
    def id(self) -> str:
        """Names the command, also where it is gone; the same in every copy of the history."""
        meta = self.events[0]["meta"]
        return derived_id(self.noun, meta["command_id"], self.partition, meta["command"]["offset"])


def nouns() -> list[str]:
    """Those that are commanded: a topic of commands and one of events each."""
    return [name.split(".")[1] for name in topics() if name.endswith(".commands")]


def _events(noun: str) -> str:
    """The topic of its events: that of the audit has the noun's plain name."""
    return name if (name := f"soma.{noun}.events") in topics() else f"soma.{noun}"


def recorded(log: Log, registry: "Registry", seen: Callable[[int], object] = id) -> Iterator[Entry]:
    """Everything that the log holds, partition by partition. Raises LogUnavailable, ChainBroken."""
    for noun in nouns():
        types = importlib.import_module(f"schemas.types.{noun}")
        commands, events = f"soma.{noun}.commands", _events(noun)
        codec = registry.codec(commands, getattr(types, f"{noun.title()}Command"))
        replay = Replay(log, registry, registry.codec(events, getattr(types, f"{noun.title()}Event")), events)
        for partition in range(log.partitions(events)):
            kept = _Commands(log, registry, codec, commands, partition)
            end = log.bounds(events, partition)[1]
            by_command = groupby((one.event for one in replay.read(partition, 0, end, seen)), key=lambda event: event.meta.command)
            for position, group in by_command:
                records = [msgspec.to_builtins(event) for event in group]
                yield Entry(noun, partition, kept.at(position, records[0]["meta"]["command_id"]), records)


class _Commands:
    """The commands of one partition that are still there, asked for in their order."""

    def __init__(self, log: Log, registry: "Registry", codec: Codec[Any], topic: str, partition: int) -> None:
        self._registry, self._codec, self._epoch = registry, codec, log.epoch(topic)
        self._records = log.read(topic, partition, *log.bounds(topic, partition)) if partition < log.partitions(topic) else iter(())
        self._next = next(self._records, None)

    def at(self, position: Position, id: str) -> dict[str, Any] | None:
        """The command at this place, if it is there, can be read, and has this id."""
        while self._next and position.epoch == self._epoch and self._next.offset < position.offset:
            self._next = next(self._records, None)
        if self._next is None or (position.epoch, position.offset) != (self._epoch, self._next.offset):
            return None
        try:
            command = self._registry.decode(self._codec, self._next.value)
        except Unreadable:
            return None
        return msgspec.to_builtins(command) if command.meta.id == id else None


def write(entries: Iterable[Entry], path: Path) -> int:
    """The same entries give the same bytes. How many there were."""
    count = 0
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as out:
        for entry in entries:
            out.write(msgspec.json.encode(entry) + b"\n")
            count += 1
    return count


def read(path: Path) -> Iterator[Entry]:
    """Raises ValueError where it is no history."""
    decoder = msgspec.json.Decoder(Entry)
    try:
        with gzip.open(path) as lines:
            for line in lines:
                yield decoder.decode(line)
    except (OSError, EOFError, msgspec.DecodeError) as error:
        raise ValueError(f"{path} is no history: {error}. Make one by `soma export --history`.") from error
