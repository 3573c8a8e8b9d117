"""Progress of long work over partitions, on standard error."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from projections.reading import Chain


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} events/s" if speed else "")


class PartitionProgress:
    """A line for all of it and one for each partition, while entered."""

    def __init__(self, title: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._all = self._progress.add_task(title, total=None)
        self._lines: dict[Chain, int] = {}

    def begin(self, sizes: dict[Chain, int]) -> None:
        """The work is known: so many records in each partition."""
        self._progress.update(self._all, total=sum(sizes.values()))
        self._lines = {chain: self._progress.add_task(f"  {chain}", total=size) for chain, size in sizes.items()}

    def step(self, chain: Chain, records: int) -> None:
        """So many more records of a partition are done."""
        for line in (self._all, self._lines[chain]):
            self._progress.advance(line, records)  # type: ignore[arg-type]

    def phase(self, what: str) -> None:
        """Something else began."""
        self._progress.console.print(what)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()
