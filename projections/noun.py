"""What the projector, `soma rebuild` and `soma verify` need to know of a kind of aggregate whose records become rows."""

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, Generic, TypeVar

from sqlalchemy import Table

from projections.reading import Taken
from schemas.chain import digest

S = TypeVar("S")
K = TypeVar("K")
Row = dict[str, Any]
"""A value for each column of a table, in the table's order."""
States = Mapping[str, Mapping[str, Any]]
"""Of each table whose rows are folded, by its name: what its rows are made from, by id."""
Amounts = tuple[int, ...]
"""A number for each of a table's summed columns, in their order."""


@dataclass(frozen=True)
class Logged:
    """A table whose rows are those of single records. Its primary key begins with (partition, offset)."""

    table: Table
    rows: Callable[[Taken], Sequence[Row]]


@dataclass(frozen=True)
class Folded(Generic[S]):
    """A table whose rows are folded. Its primary key is `id`, a UUID, and it has a column `partition`: a row belongs to one partition.

    `touched` names the rows that a record changes, by what `states` say before it; of this noun's tables, those listed earlier are there.
    `evolve` gives the state after a record, and None as long as there is no row. `stored` is the column that holds the state's bytes,
    which `read` reads.
    """

    table: Table
    touched: Callable[[Taken, States], Iterable[str]]
    evolve: Callable[[S | None, Any], S | None]
    row: Callable[[S], Row]
    stored: str
    read: Callable[[bytes], S]


@dataclass(frozen=True)
class Summed(Generic[K]):
    """A table whose rows are sums over records. Its primary key is `id`, a UUID, and it has a column `partition`.

    `added` gives the key of the row that a record adds to, if it does, and the amounts, by what `states` of the noun's folded tables say
    before it. `row` makes a row of its key, which is of one partition, and of the amounts that its columns `sums` hold.
    """

    table: Table
    added: Callable[[Taken, States], tuple[K, Amounts] | None]
    row: Callable[[K, Amounts], Row]
    sums: tuple[str, ...]


@dataclass(frozen=True)
class Noun:
    """An aggregate's topics, and the tables that its records fill. `sources` are the modules that make rows of records."""

    name: str
    commands: str
    events: str
    event: type[Any]
    sources: tuple[ModuleType, ...]
    logged: Logged | None = None
    folded: tuple[Folded[Any], ...] = ()
    summed: Summed[Any] | None = None

    @property
    def tables(self) -> tuple[Table, ...]:
        """All of them, each with a column `partition`."""
        kinds = (self.logged, *self.folded, self.summed)
        return tuple(kind.table for kind in kinds if kind)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the code that makes rows of records, and not with what is said about it."""
        return digest("".join(map(_code, self.sources)).encode()).hex()


def _code(module: ModuleType) -> str:
    """Its code without comments and docstrings."""
    tree = ast.parse(inspect.getsource(module))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
