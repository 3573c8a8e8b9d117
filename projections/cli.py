"""`soma migrate`, `soma rebuild` and `soma verify`. Imports wait until a command runs, so that `soma --help` answers at once."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from ops import settings as environment
from ops.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def migrate() -> None:
    """Bring the read model's tables up to this release."""
    from projections import database

    settings = environment.load()
    with explained():
        database.migrate(database.url(settings))
    typer.echo("The read model's tables are up to date.")


def rebuild(
    another_log: Annotated[bool, typer.Option("--another-log", help="Replace a read model that holds more than this log does.")] = False,
    as_json: Json = False,
) -> None:
    """Make the read model anew from the log, beside the one that is served, and swap them."""
    from projections.progress import PartitionProgress
    from projections.rebuild import Watcher
    from projections.rebuild import rebuild as run

    settings = checked_settings()
    with explained(), PartitionProgress("copying") as progress:
        done = run(settings, Watcher(progress.begin, progress.step, progress.phase), another_log=another_log)
    speed = round(done.copied / done.copy_seconds) if done.copied else 0
    if as_json:
        typer.echo(json.dumps({**done._asdict(), "events_per_second": speed}))
        return
    typer.echo(f"The read model holds {done.copied + done.followed} records, in {done.seconds:.1f} s ({speed}/s while copying).")
    if not done.former_dropped:
        typer.echo("The former generation is still being read: the next rebuild removes it.")


def renew(*, allowed: bool) -> None:
    """After an upgrade: where another release's code made the rows, make them anew if that is allowed, or say that somebody has to."""
    from projections import database, store

    with explained(), database.engine(database.url(checked_settings())) as engine, engine.connect() as connection:
        topics = ", ".join(store.of_other_folds(connection))
    if topics:
        todo = "they are made anew" if allowed else "run `soma rebuild`, which goes on beside what is served"
        typer.echo(f"The rows of {topics} were made by another release's code: {todo}.", err=True)
    if topics and allowed:
        rebuild()


def verify(
    chain: Annotated[bool, typer.Option("--chain", help="Prove the log itself unaltered instead.")] = False,
    as_json: Json = False,
) -> None:
    """Fold the log anew and compare every row of the read model; exit 1 on any difference."""
    raise typer.Exit(_verify_chain(as_json) if chain else _verify_rows(as_json))


def _verify_rows(as_json: bool) -> int:
    from projections.progress import PartitionProgress
    from projections.verify import Difference
    from projections.verify import verify as run

    settings = checked_settings()
    with explained(), PartitionProgress("comparing") as progress:
        verified = run(settings, progress.begin, progress.step)
    differences = [difference for each in verified.values() for difference in each.differences]
    records, rows = sum(each.records for each in verified.values()), sum(each.rows for each in verified.values())
    if as_json:
        found = [difference._asdict() for difference in differences]
        typer.echo(json.dumps({"records": records, "rows": rows, "differences": found}))
    else:
        if differences:
            table(Difference._fields, [tuple(map(str, difference)) for difference in differences])
        typer.echo(f"{records} records, and {rows} rows folded from them: {len(differences) or 'no'} differences.")
        if differences:
            typer.echo("`soma rebuild` makes the read model anew from the log.")
    return 1 if differences else 0


def _verify_chain(as_json: bool) -> int:
    from projections.progress import PartitionProgress
    from projections.proof import prove as run

    settings = checked_settings()
    with explained(), PartitionProgress("walking") as progress:
        proofs = run(settings, progress.begin, progress.step)
    if as_json:
        typer.echo(json.dumps([chain._asdict() | proof._asdict() for chain, proof in sorted(proofs.items())]))
    else:
        shown = [
            (str(chain), str(proof.valid), ", ".join(f"{first}–{last}" for first, last in proof.void), proof.broken or "whole")
            for chain, proof in sorted(proofs.items())
        ]
        table(("partition", "valid", "void offsets", "chain"), shown)
    return 1 if any(proof.broken for proof in proofs.values()) else 0


def table(columns: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for line in lines:
        table.add_row(*line)
    Console().print(table)


def checked_settings() -> Settings:
    """Ends with exit code 2 where an address is missing."""
    from projections.source import checked

    try:
        return checked(environment.load())
    except ValueError as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None


@contextmanager
def explained() -> Iterator[None]:
    """What can be helped by whoever typed the command is one line; anything else is a defect and keeps its trace."""
    import psycopg
    from sqlalchemy.exc import OperationalError, ProgrammingError

    from ops.log import LogUnavailable
    from projections.cores import CoreDied
    from projections.database import Busy
    from projections.isolation import NoReader
    from projections.rebuild import Behind
    from projections.store import OtherFold
    from schemas.chain import ChainBroken
    from schemas.registry import NotRegistered

    try:
        yield
    except ProgrammingError as error:
        typer.echo(f"The read model's tables are not those of this release, run `soma migrate`: {error.orig}", err=True)
        raise typer.Exit(1) from None
    except (OperationalError, psycopg.OperationalError) as error:
        typer.echo(f"PostgreSQL: {getattr(error, 'orig', error)} Check DATABASE_URL.", err=True)
        raise typer.Exit(1) from None
    except (LogUnavailable, CoreDied, Busy, Behind, ChainBroken, NoReader, NotRegistered, OtherFold) as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None
