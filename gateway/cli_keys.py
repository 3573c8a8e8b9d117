"""`soma keys` and `soma token`: what programs and people sign in with. Imports wait until a command runs."""

from typing import Annotated, Any

import typer

from gateway.cli_client import Json, ask, line, listed, quoted, say, show
from ops import settings as environment

keys = typer.Typer(no_args_is_help=True, help="API keys, by which programs sign in, through a gateway (SOMA_URL, SOMA_TOKEN).")
KeyId = Annotated[str, typer.Argument(help="The key's id, as `soma keys list` shows it.")]
Scopes = Annotated[list[str] | None, typer.Option("--scope", help="What its bearer may do (`*`: everything); may be given several times.")]


@keys.command("list")
def list_keys(
    inactive: Annotated[bool, typer.Option("--inactive", help="Also those that are revoked, or have expired.")] = False,
    as_json: Json = False,
) -> None:
    """List keys, and when each was used last."""
    for key in listed("keys", as_json, inactive=str(inactive).lower()):
        typer.echo(f"{key['id']}  {key['status']:8} used {key['used_at'] or 'never':28} {line(key['name'])}")


@keys.command("show")
def show_key(id: KeyId, as_json: Json = False) -> None:
    """Show a key: what it may do, and how it stands."""
    show(ask("GET", f"/v1/keys/{quoted(id)}"), as_json)


@keys.command("issue")
def issue_key(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    scope: Scopes = None,
    expires_at: Annotated[str | None, typer.Option(help="When it ends, as 2100-01-31T12:00:00Z.")] = None,
    as_json: Json = False,
) -> None:
    """Make a key. Its secret is printed once, and alone, so that it can be piped to where it is kept."""
    _tell_secret(ask("POST", "/v1/keys", json={"name": name, "scopes": scope or [], "expires_at": expires_at}), as_json)


@keys.command("rotate")
def rotate_key(
    id: KeyId,
    overlap: Annotated[int, typer.Option(min=0, help="For so many seconds the secret before it goes on to be good.")] = 3600,
    as_json: Json = False,
) -> None:
    """Give a key another secret, which is printed as that of a new key."""
    _tell_secret(ask("POST", f"/v1/keys/{quoted(id)}/rotate", json={"overlap_seconds": overlap}), as_json)


@keys.command("revoke")
def revoke_key(
    id: KeyId,
    reason: Annotated[str | None, typer.Option(help="Why; it stands in the record for ever.")] = None,
    as_json: Json = False,
) -> None:
    """Make a key worthless, in every gateway within a second, and for good."""
    show(ask("DELETE", f"/v1/keys/{quoted(id)}", params={"reason": reason} if reason else {}), as_json)


@keys.command("bootstrap")
def bootstrap_key(
    name: Annotated[str, typer.Argument(help="What people call it.")] = "first",
    scope: Scopes = None,
    tenant: Annotated[str, typer.Option(help="Whose data its bearer may see and change.")] = "default",
) -> None:
    """Issue the first key, where nobody can sign in yet: past the gateway, into the log. It is on record that you did.

    Takes what a gateway has: Kafka, the registry, and the pepper.
    """
    from confluent_kafka import KafkaException

    from gateway.bootstrap import bootstrap
    from gateway.operator import NotDone
    from ops.log import LogUnavailable
    from schemas.registry import NotRegistered, RegistryDown

    try:
        secret = bootstrap(environment.load(), tenant, name, scope or ("*",))
    except (NotDone, LogUnavailable, NotRegistered, RegistryDown, KafkaException, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo("The key is issued. Its secret, shown this once:", err=True)
    typer.echo(secret)


def token(
    actor: Annotated[str, typer.Option(help="Who it is for; stands in the record of all they do.")],
    tenant: Annotated[str, typer.Option(help="Whose data they may see and change.")] = "default",
    scopes: Annotated[str, typer.Option(help="What they may do, with spaces between; `*`: everything.")] = "*",
    hours: Annotated[float, typer.Option(min=0.01, max=24 * 366, help="For how long.")] = 12.0,
) -> None:
    """Make a token, signed with GATEWAY_JWT_SECRET: for SOMA_TOKEN, or for `Authorization: Bearer`."""
    import time

    from gateway.auth import Principal
    from gateway.token import issue

    who = Principal(tenant, actor, scopes=frozenset(scopes.split()))
    try:
        typer.echo(issue(environment.load(), who, int(hours * 3600), int(time.time())))
    except ValueError as error:
        typer.echo(f"{error}.", err=True)
        raise typer.Exit(2) from None


def _tell_secret(answer: dict[str, Any], as_json: bool) -> None:
    """The secret alone on stdout, and what is to be known about it on stderr."""
    if as_json:
        say(answer)
    elif answer.get("secret"):
        typer.echo(f"{answer['id']}: {line(answer['name'])}. Its secret, shown this once:", err=True)
        typer.echo(answer["secret"])
    else:
        typer.echo(f"{answer['id']}: {answer.get('detail', 'this gateway cannot show its secret: rotate it.')}", err=True)
        raise typer.Exit(1)
