"""`soma tools`, `soma agents`, `soma keys`, `soma audit` and `soma token`: what a gateway serves, for people and for pipes.

Imports wait until a command runs.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ops import settings as environment

tools = typer.Typer(no_args_is_help=True, help="The tools that models may call, through a gateway (SOMA_URL).")
agents = typer.Typer(no_args_is_help=True, help="The agents that sessions begin with, through a gateway (SOMA_URL).")
keys = typer.Typer(no_args_is_help=True, help="API keys, by which programs sign in, through a gateway (SOMA_URL, SOMA_TOKEN).")
audit = typer.Typer(no_args_is_help=True, help="What the gate decided: through a gateway (SOMA_URL), and from the log.")
Name = Annotated[str, typer.Argument(help="Its name.")]
KeyId = Annotated[str, typer.Argument(help="The key's id, as `soma keys list` shows it.")]
Scopes = Annotated[list[str] | None, typer.Option("--scope", help="What its bearer may do (`*`: everything); may be given several times.")]
Json = Annotated[bool, typer.Option("--json", help="Print the gateway's answer.")]
RetiredToo = Annotated[bool, typer.Option("--retired", help="Also those that are retired.")]
Version = Annotated[int | None, typer.Option(min=1, help="An earlier version of its definition.")]
Reason = Annotated[str | None, typer.Option(help="Why; it stands in the record for ever.")]
File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, allow_dash=True, help="JSON or YAML, as the gateway takes it.")]
SECONDS = 40.0
PAGE = 500


@tools.command("list")
def list_tools(retired: RetiredToo = False, as_json: Json = False) -> None:
    """List tools, and whether they work."""
    for tool in _listed("tools", as_json, retired=str(retired).lower()):
        typer.echo(f"{_standing(tool)} breaker {tool['breaker']['status']:10} {line(tool['description'])}")


@tools.command("show")
def show_tool(name: Name, version: Version = None, as_json: Json = False) -> None:
    """Show a tool: its definition, and how it stands."""
    _show_named("tools", name, version, as_json)


@tools.command()
def register(file: File, as_json: Json = False) -> None:
    """Register a tool, or a new version of it."""
    register_definition(_definition(file), as_json)


@tools.command("retire")
def retire_tool(name: Name, reason: Reason = None, as_json: Json = False) -> None:
    """No new session may use it from now on."""
    _retire("tools", name, reason, as_json)


@tools.command("restore")
def restore_tool(name: Name, as_json: Json = False) -> None:
    """Offer a retired tool again."""
    _report(ask("POST", f"/v1/tools/{quoted(name)}/restore"), as_json)


@agents.command("list")
def list_agents(retired: RetiredToo = False, as_json: Json = False) -> None:
    """List agents, and the models that they think with."""
    for agent in _listed("agents", as_json, retired=str(retired).lower()):
        typer.echo(f"{_standing(agent)} {line(agent['model']):16} {line(agent['description'])}")


@agents.command("show")
def show_agent(name: Name, version: Version = None, as_json: Json = False) -> None:
    """Show an agent: its terms, and how it stands."""
    _show_named("agents", name, version, as_json)


@agents.command()
def put(name: Name, file: File, as_json: Json = False) -> None:
    """Publish an agent, or a new version of it."""
    _report(ask("PUT", f"/v1/agents/{quoted(name)}", json=_definition(file)), as_json)


@agents.command("retire")
def retire_agent(name: Name, reason: Reason = None, as_json: Json = False) -> None:
    """No new session may begin with it from now on."""
    _retire("agents", name, reason, as_json)


@agents.command("restore")
def restore_agent(name: Name, as_json: Json = False) -> None:
    """Offer a retired agent again."""
    _report(ask("POST", f"/v1/agents/{quoted(name)}/restore"), as_json)


def _listed(plural: str, as_json: bool, **query: str) -> list[dict[str, Any]]:
    """All pages. As JSON they are printed here, and nothing is left to do."""
    found, cursor = list[dict[str, Any]](), dict[str, str]()
    while True:
        page = ask("GET", f"/v1/{plural}", params={"limit": str(PAGE), **query, **cursor})
        found += page[plural]
        if not page["next_cursor"]:
            break
        cursor = {"cursor": page["next_cursor"]}
    if as_json:
        say({plural: found})
        return []
    return found


def _show_named(plural: str, name: str, version: int | None, as_json: bool) -> None:
    _show(ask("GET", f"/v1/{plural}/{quoted(name)}", params={"version": str(version)} if version else {}), as_json)


def _retire(plural: str, name: str, reason: str | None, as_json: bool) -> None:
    _report(ask("DELETE", f"/v1/{plural}/{quoted(name)}", params={"reason": reason} if reason else {}), as_json)


def _definition(file: Path) -> Any:
    """What the file says; standard input where it is `-`."""
    import yaml

    try:
        return yaml.safe_load(sys.stdin.read() if str(file) == "-" else file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} is neither JSON nor YAML: {error}", param_hint="FILE") from None


def register_definition(definition: Any, as_json: bool) -> None:
    """Register what is defined, and say so."""
    _report(ask("POST", "/v1/tools", json=definition), as_json)


def _standing(known: dict[str, Any]) -> str:
    return f"{known['name']:24} v{known['version']:<4} {known['status']:8}"


@keys.command("list")
def list_keys(
    inactive: Annotated[bool, typer.Option("--inactive", help="Also those that are revoked, or have expired.")] = False,
    as_json: Json = False,
) -> None:
    """List keys, and when each was used last."""
    for key in _listed("keys", as_json, inactive=str(inactive).lower()):
        typer.echo(f"{key['id']}  {key['status']:8} used {key['used_at'] or 'never':28} {line(key['name'])}")


@keys.command("show")
def show_key(id: KeyId, as_json: Json = False) -> None:
    """Show a key: what it may do, and how it stands."""
    _show(ask("GET", f"/v1/keys/{quoted(id)}"), as_json)


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
    _show(ask("DELETE", f"/v1/keys/{quoted(id)}", params={"reason": reason} if reason else {}), as_json)


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


@audit.command("list")
def list_decisions(
    actor: Annotated[str | None, typer.Option(help="Only about this caller.")] = None,
    action: Annotated[str | None, typer.Option(help="Only about this action, as session.start.")] = None,
    outcome: Annotated[str | None, typer.Option(help="allowed, denied, unauthenticated or failed_open.")] = None,
    resource_id: Annotated[str | None, typer.Option(help="Only about the thing with this id.")] = None,
    since: Annotated[str | None, typer.Option(help="Only those made then or later, as 2026-01-31T12:00:00Z.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many at most, the newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """List what the gate decided about the tenant's requests, the newest first."""
    wanted = {"actor": actor, "action": action, "outcome": outcome, "resource_id": resource_id, "since": since}
    page = ask("GET", "/v1/audit", params={"limit": str(limit)} | {name: text for name, text in wanted.items() if text})
    if as_json:
        say(page)
        return
    for each in page["decisions"]:
        times = f" ×{each['count']}" if each["count"] > 1 else ""
        typer.echo(f"{each['at']}  {each['id']}  {each['outcome']:15}{times} {each['action']:16} {line(each['actor'])}")


@audit.command("show")
def show_decision(
    id: Annotated[str, typer.Argument(help="A decision's id, as the answer to who was denied has it.")],
    as_json: Json = False,
) -> None:
    """Show a decision: who asked for what, and which rule said what to it."""
    _show(ask("GET", f"/v1/audit/{quoted(id)}"), as_json)


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


def ask(method: str, path: str, **arguments: Any) -> dict[str, Any]:
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


def _show(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say(answer)
        return
    for field, value in answer.items():
        if value not in (None, [], {}):
            typer.echo(f"{field:16} {line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))}")


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


def _report(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say(answer)
    elif "version" in answer:
        typer.echo(f"{answer['name']}: version {answer['version']}, {answer['status']}")
    else:
        typer.echo(f"{answer['name']}: {answer['detail']} Position {answer['position']}.")


def quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")


def say(answer: dict[str, Any]) -> None:
    typer.echo(json.dumps(answer, ensure_ascii=False))


def line(text: str) -> str:
    """On one line; control characters of what people wrote are shown, not obeyed."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
