"""The rows that one noun's records come to."""

from collections.abc import Iterable, Iterator
from operator import add, itemgetter
from typing import Any

from sqlalchemy import Table

from projections.noun import Amounts, Noun, Row
from projections.reading import Taken


class Fold:
    """Holds what folded rows are made from, by table and id: what it was given, and what records made of it; and what the records that it
    took add up to, by key. It does no I/O.
    """

    def __init__(self, noun: Noun, states: dict[str, dict[str, Any]] | None = None) -> None:
        self.noun = noun
        self.states = {folded.table.name: {} for folded in noun.folded} if states is None else states
        self._tables = [(folded.touched, folded.evolve, self.states[folded.table.name]) for folded in reversed(noun.folded)]
        self.sums: dict[Any, Amounts] = {}

    def take(self, taken: Taken) -> None:
        """Bring the rows that the record touches up to it. Raises ChainBroken as an `evolve` does."""
        if self.noun.summed and (added := self.noun.summed.added(taken, self.states)):
            key, amounts = added
            before = self.sums.get(key)
            self.sums[key] = tuple(map(add, before, amounts)) if before else amounts
        for touched, evolve, states in self._tables:  # the last first: what those before it say is of before the record
            for id in touched(taken, self.states):
                if (after := evolve(states.get(id), taken.event)) is not None:
                    states[id] = after

    def tables(self, records: Iterable[Taken]) -> Iterator[tuple[Table, Iterable[Row]]]:
        """Take these records. The noun's tables, each with all its rows in the order of their keys.

        They are made while they are read, so each has to be read whole before the next.
        """
        if self.noun.logged:
            yield self.noun.logged.table, self._logged(records)
        for taken in records:  # none are left where they were logged
            self.take(taken)
        for folded in self.noun.folded:
            states = self.states[folded.table.name]
            yield folded.table, (folded.row(states[id]) for id in sorted(states))
        if self.noun.summed:
            yield self.noun.summed.table, self.summed()

    def summed(self) -> list[Row]:
        """What the records added up to, as rows in the order of their keys: they are few."""
        summed = self.noun.summed
        return sorted((summed.row(key, amounts) for key, amounts in self.sums.items()), key=itemgetter("id")) if summed else []

    def _logged(self, records: Iterable[Taken]) -> Iterator[Row]:
        assert self.noun.logged
        take, rows = self.take, self.noun.logged.rows
        for taken in records:
            take(taken)
            yield from rows(taken)
