"""`soma tools`, `soma keys` and `soma token`: what a gateway serves, for people and for pipes. Imports wait until a command runs."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ops import settings as environment

tools = typer.Typer(no_args_is_help=True, help="The tools that models may call, through a gateway (SOMA_URL).")
keys = typer.Typer(no_args_is_help=True, help="API keys, by which programs sign in, through a gateway (SOMA_URL, SOMA_TOKEN).")
Name = Annotated[str, typer.Argument(help="The tool's name.")]
KeyId = Annotated[str, typer.Argument(help="The key's id, as `soma keys list` shows it.")]
Scopes = Annotated[list[str] | None, typer.Option("--scope", help="What its bearer may do; may be given several times.")]
Json = Annotated[bool, typer.Option("--json", help="Print the gateway's answer.")]
SECONDS = 40.0
PAGE = 500


@tools.command("list")
def list_(
    retired: Annotated[bool, typer.Option("--retired", help="Also those that are retired.")] = False,
    as_json: Json = False,
) -> None:
    """List tools, and whether they work."""
    found = _all("tools", retired=str(retired).lower())
    if as_json:
        _print({"tools": found})
        return
    for tool in found:
        breaker = tool["breaker"]["status"]
        typer.echo(f"{tool['name']:24} v{tool['version']:<4} {tool['status']:8} breaker {breaker:10} {_line(tool['description'])}")


@tools.command()
def show(
    name: Name,
    version: Annotated[int | None, typer.Option(min=1, help="An earlier version of its definition.")] = None,
    as_json: Json = False,
) -> None:
    """Show a tool: its definition, and how it stands."""
    _show(_ask("GET", f"/v1/tools/{_path(name)}", params={"version": str(version)} if version else {}), as_json)


@tools.command()
def register(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, allow_dash=True, help="JSON or YAML, as POST /v1/tools takes it.")],
    as_json: Json = False,
) -> None:
    """Register a tool, or a new version of it."""
    import yaml

    try:
        definition = yaml.safe_load(sys.stdin.read() if str(file) == "-" else file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} is neither JSON nor YAML: {error}", param_hint="FILE") from None
    _report(_ask("POST", "/v1/tools", json=definition), as_json)


@tools.command()
def retire(
    name: Name,
    reason: Annotated[str | None, typer.Option(help="Why; it stands in the record for ever.")] = None,
    as_json: Json = False,
) -> None:
    """No new session may use it from now on."""
    _report(_ask("DELETE", f"/v1/tools/{_path(name)}", params={"reason": reason} if reason else {}), as_json)


@tools.command()
def restore(name: Name, as_json: Json = False) -> None:
    """Offer a retired tool again."""
    _report(_ask("POST", f"/v1/tools/{_path(name)}/restore"), as_json)


@keys.command("list")
def list_keys(
    inactive: Annotated[bool, typer.Option("--inactive", help="Also those that are revoked, or have expired.")] = False,
    as_json: Json = False,
) -> None:
    """List keys, and when each was used last."""
    found = _all("keys", inactive=str(inactive).lower())
    if as_json:
        _print({"keys": found})
        return
    for key in found:
        typer.echo(f"{key['id']}  {key['status']:8} used {key['used_at'] or 'never':28} {_line(key['name'])}")


@keys.command("show")
def show_key(id: KeyId, as_json: Json = False) -> None:
    """Show a key: what it may do, and how it stands."""
    _show(_ask("GET", f"/v1/keys/{_path(id)}"), as_json)


@keys.command("issue")
def issue_key(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    scope: Scopes = None,
    expires_at: Annotated[str | None, typer.Option(help="When it ends, as 2100-01-31T12:00:00Z.")] = None,
    as_json: Json = False,
) -> None:
    """Make a key. Its secret is printed once, and alone, so that it can be piped to where it is kept."""
    _tell_secret(_ask("POST", "/v1/keys", json={"name": name, "scopes": scope or [], "expires_at": expires_at}), as_json)


@keys.command("rotate")
def rotate_key(
    id: KeyId,
    overlap: Annotated[int, typer.Option(min=0, help="For so many seconds the secret before it goes on to be good.")] = 3600,
    as_json: Json = False,
) -> None:
    """Give a key another secret, which is printed as that of a new key."""
    _tell_secret(_ask("POST", f"/v1/keys/{_path(id)}/rotate", json={"overlap_seconds": overlap}), as_json)


@keys.command("revoke")
def revoke_key(
    id: KeyId,
    reason: Annotated[str | None, typer.Option(help="Why; it stands in the record for ever.")] = None,
    as_json: Json = False,
) -> None:
    """Make a key worthless, in every gateway within a second, and for good."""
    _show(_ask("DELETE", f"/v1/keys/{_path(id)}", params={"reason": reason} if reason else {}), as_json)


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

    from gateway.bootstrap import NotIssued, bootstrap
    from ops.log import LogUnavailable
    from schemas.registry import NotRegistered, RegistryDown

    try:
        secret = bootstrap(environment.load(), tenant, name, scope or ())
    except (NotIssued, LogUnavailable, NotRegistered, RegistryDown, KafkaException, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo("The key is issued. Its secret, shown this once:", err=True)
    typer.echo(secret)


def token(
    actor: Annotated[str, typer.Option(help="Who it is for; stands in the record of all they do.")],
    tenant: Annotated[str, typer.Option(help="Whose data they may see and change.")] = "default",
    scopes: Annotated[str, typer.Option(help="What they may do, with spaces between.")] = "",
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


def _ask(method: str, path: str, **arguments: Any) -> dict[str, Any]:
    """The gateway's answer. Ends the process with exit code 1 where that is a problem, or there is none."""
    import httpx

    settings = environment.load()
    url, headers = settings.url, {"Authorization": f"Bearer {settings.soma_token}"} if settings.soma_token else {}
    try:
        response = httpx.request(method, f"{url}{path}", headers=headers, timeout=SECONDS, trust_env=False, **arguments)
        answer: dict[str, Any] = response.json()
    except (httpx.TransportError, ValueError) as error:
        typer.echo(f"No gateway answers at {url} ({error!r}). Start one, or name another in SOMA_URL.", err=True)
        raise typer.Exit(1) from None
    if response.is_success:
        return answer
    typer.echo(f"{answer.get('title', response.status_code)}: {answer.get('detail', '')}", err=True)
    for wrong in answer.get("errors", ()):
        typer.echo(f"  {wrong['field']}: {wrong['problem']}", err=True)
    typer.echo(answer.get("advice", ""), err=True)
    raise typer.Exit(1)


def _all(noun: str, **query: str) -> list[dict[str, Any]]:
    """All that a list has, page by page."""
    found, cursor = list[dict[str, Any]](), dict[str, str]()
    while True:
        page = _ask("GET", f"/v1/{noun}", params={"limit": str(PAGE), **query, **cursor})
        found += page[noun]
        if not page["next_cursor"]:
            return found
        cursor = {"cursor": page["next_cursor"]}


def _show(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print(answer)
        return
    for field, value in answer.items():
        if value not in (None, [], {}):
            typer.echo(f"{field:16} {_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))}")


def _tell_secret(answer: dict[str, Any], as_json: bool) -> None:
    """The secret alone on stdout, and what is to be known about it on stderr."""
    if as_json:
        _print(answer)
    elif answer.get("secret"):
        typer.echo(f"{answer['id']}: {_line(answer['name'])}. Its secret, shown this once:", err=True)
        typer.echo(answer["secret"])
    else:
        typer.echo(f"{answer['id']}: {answer.get('detail', 'this gateway cannot show its secret: rotate it.')}", err=True)
        raise typer.Exit(1)


def _report(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print(answer)
    elif "version" in answer:
        typer.echo(f"{answer['name']}: version {answer['version']}, {answer['status']}")
    else:
        typer.echo(f"{answer['name']}: {answer['detail']} Position {answer['position']}.")


def _path(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")


def _print(answer: dict[str, Any]) -> None:
    typer.echo(json.dumps(answer, ensure_ascii=False))


def _line(text: str) -> str:
    """On one line; control characters of what people wrote are shown, not obeyed."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
