"""`soma erase` and `soma seal rotate`: what is done to the keys of sealed text. Run them where the keys can be had."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from ops import settings as environment

seal = typer.Typer(no_args_is_help=True, help="The keys of sealed text (SOMA_SEAL).")
Tenant = Annotated[str, typer.Option(help="Whose the sessions are.")]
Subject = Annotated[str, typer.Option(help="Whom they are about: `subject` of the sessions, or the actor who started them.")]


def erase(
    subject: Subject,
    tenant: Tenant = "default",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
) -> None:
    """Make the text of all sessions of a subject unreadable, for good and everywhere, by destroying its key."""
    from streams.erase import erase as destroy

    if not yes:
        typer.echo(f"Nobody will ever read again what was said in the sessions of {subject!r} (tenant {tenant!r}), in any copy of them.")
        typer.confirm("Destroy the key?", abort=True)
    with _told():
        destroyed = destroy(environment.load(), tenant, subject)
    for key_id in destroyed:
        typer.echo(f"destroyed: key {key_id}")
    typer.echo("It is on record in the tenant's audit; every process knows within seconds." if destroyed else "The subject had no key.")


@seal.command()
def rotate() -> None:
    """Wrap all data keys with a new master key, and forget the old one: then no backup from before opens anything that was erased."""
    from ops.seal import BadSeal
    from ops.seal_file import FileKeys

    settings = environment.load()
    with _told():
        if settings.soma_seal != "local":
            raise BadSeal("Only SOMA_SEAL=local has a master key of its own. Vault's keys are rotated there.")
        typer.echo(f"{FileKeys.load(settings).rotate()} keys are wrapped with a new master key; the former one is gone.")


@contextmanager
def _told() -> Iterator[None]:
    """What went wrong, in one line and exit code 1."""
    from ops.command_key import BadKey
    from ops.log import LogUnavailable
    from ops.seal import BadSeal, KeysDown
    from schemas.registry import NotRegistered
    from streams.erase import NotRecorded

    try:
        yield
    except (BadSeal, KeysDown, BadKey, LogUnavailable, NotRegistered, NotRecorded) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
