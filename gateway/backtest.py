"""What would have been decided: a version of the policies is asked again what others were asked, as the audit has it."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

from gateway import facts
from gateway.editions import OWN
from gateway.engine import Engine, EngineDown
from gateway.policy import verdict
from gateway.positions import Place
from gateway.problems import NothingSent, PolicyDown, TooMany
from ops.log import LogUnavailable
from ops.settings import Settings
from projections.audit import Entry
from projections.source import Source
from projections.text import rfc3339
from projections.trail import Later
from schemas.chain import ChainBroken

LISTED = 100
"""Changes that one answer lists; it counts all of them."""
SECONDS = 10.0
"""So long one answer is worked on."""
LET_IN = ("allowed", "failed_open")
FAILED = "failed"

Stop = Literal["limit", "time"]


class Change(NamedTuple):
    """A decision that would have been another one."""

    entry: Entry
    to: str
    rule: str | None
    reasons: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Ready for JSON."""
        said = self.entry.decision
        about = {"id": said.id, "tenant": self.entry.tenant, "at": rfc3339(said.time), "actor": said.actor, "action": said.action}
        thing = {"resource": said.resource, "resource_id": said.resource_id, "count": said.count}
        was = {"from": said.outcome, "from_rule": said.rule, "from_version": said.version}
        return about | thing | was | {"to": self.to, "rule": self.rule, "reasons": list(self.reasons)}


@dataclass
class Report:
    """What came of a stretch of the record. `left_out`: why decisions could not be asked about again, and how many."""

    examined: int = 0
    changes: list[Change] = field(default_factory=list)
    tallies: Counter[tuple[str, str, str | None]] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    stopped: Stop | None = None
    cursor: Place | None = None

    def take(self, entry: Entry, change: Change | None) -> None:
        """One more decision was asked about again."""
        self.examined += 1
        if change is None:
            return
        self.tallies[entry.decision.outcome, change.to, change.rule] += 1
        if len(self.changes) < LISTED:
            self.changes.append(change)

    def document(self) -> dict[str, Any]:
        """Ready for JSON."""
        tallies = [{"from": was, "to": to, "rule": rule, "count": count} for (was, to, rule), count in self.tallies.most_common()]
        return {
            "examined": self.examined,
            "left_out": {reason: self.left_out[reason] for reason in ("own", "unproved", "not_kept")},
            "changed": self.tallies.total(),
            "tallies": tallies,
            "changes": [change.document() for change in self.changes],
            "stopped": self.stopped,
            "next_cursor": str(self.cursor) if self.cursor else None,
        }


class Backtests:
    """One at a time: each takes a good part of this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._busy = settings, asyncio.Lock()
        self._source: Source | None = None

    async def run(self, engine: Engine, since: datetime, cursor: Place | None, limit: int) -> Report:
        """Ask again about `limit` decisions or a few more, from the cursor on. Raises PolicyDown, NothingSent, TooMany."""
        if self._busy.locked():
            raise TooMany("A backtest runs on this gateway already.", {"Retry-After": "5"})
        async with self._busy:
            report, until = Report(), time.monotonic() + SECONDS
            try:
                later = Later(await self._ready(), since, cursor)
                while entries := await asyncio.to_thread(later.take, min(limit - report.examined, 500)):
                    await self._ask(engine, entries, report)
                    report.stopped = "limit" if report.examined >= limit else "time" if time.monotonic() > until else None
                    if report.stopped:
                        break
            except (LogUnavailable, ChainBroken) as error:
                raise NothingSent(f"The audit cannot be read: {error}") from error
            report.cursor = Place(*later.place) if later.place else None
            return report

    async def _ready(self) -> Source:
        if self._source is None:
            self._source = await asyncio.to_thread(Source, self._settings)
        return self._source

    async def _ask(self, engine: Engine, entries: list[Entry], report: Report) -> None:
        for entry in entries:
            document = facts.document(entry)
            if left_out := _left_out(entry, document):
                report.left_out[left_out] += 1
                continue
            assert document, "or it was left out"
            report.take(entry, await self._change(engine, entry, document))

    async def _change(self, engine: Engine, entry: Entry, document: dict[str, Any]) -> Change | None:
        try:
            async with asyncio.timeout(self._settings.policy_seconds):
                found = verdict((await engine.ask(document)).found)
        except msgspec.ValidationError:
            return Change(entry, FAILED, None, ("The policies talk nonsense: nobody would be let in.",))
        except (EngineDown, TimeoutError) as error:
            raise PolicyDown(f"The policies cannot be asked about the decision {entry.decision.id}: {error!r}") from error
        if found.allow == (entry.decision.outcome in LET_IN):
            return None
        return Change(entry, "allowed" if found.allow else "denied", found.rule, found.reasons)


def _left_out(entry: Entry, document: dict[str, Any] | None) -> str | None:
    if entry.decision.outcome == "unauthenticated":
        return "unproved"
    if entry.decision.action.startswith(OWN):
        return "own"
    return "not_kept" if document is None else None
