"""`soma tools`, `soma agents` and `soma audit`: what a gateway serves, for people and for pipes.

Imports wait until a command runs.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli_client import Json, ask, line, listed, quoted, report, say, show

tools = typer.Typer(no_args_is_help=True, help="The tools that models may call, through a gateway (SOMA_URL).")
agents = typer.Typer(no_args_is_help=True, help="The agents that sessions begin with, through a gateway (SOMA_URL).")
audit = typer.Typer(no_args_is_help=True, help="What the gate decided: through a gateway (SOMA_URL), and from the log.")
Name = Annotated[str, typer.Argument(help="Its name.")]
RetiredToo = Annotated[bool, typer.Option("--retired", help="Also those that are retired.")]
Version = Annotated[int | None, typer.Option(min=1, help="An earlier version of its definition.")]
Reason = Annotated[str | None, typer.Option(help="Why; it stands in the record for ever.")]
File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, allow_dash=True, help="JSON or YAML, as the gateway takes it.")]


@tools.command("list")
def list_tools(retired: RetiredToo = False, as_json: Json = False) -> None:
    """List tools, and whether they work."""
    for tool in listed("tools", as_json, retired=str(retired).lower()):
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
    report(ask("POST", f"/v1/tools/{quoted(name)}/restore"), as_json)


@agents.command("list")
def list_agents(retired: RetiredToo = False, as_json: Json = False) -> None:
    """List agents, and the models that they think with."""
    for agent in listed("agents", as_json, retired=str(retired).lower()):
        typer.echo(f"{_standing(agent)} {line(agent['model']):16} {line(agent['description'])}")


@agents.command("show")
def show_agent(name: Name, version: Version = None, as_json: Json = False) -> None:
    """Show an agent: its terms, and how it stands."""
    _show_named("agents", name, version, as_json)


@agents.command()
def put(name: Name, file: File, as_json: Json = False) -> None:
    """Publish an agent, or a new version of it."""
    report(ask("PUT", f"/v1/agents/{quoted(name)}", json=_definition(file)), as_json)


@agents.command("retire")
def retire_agent(name: Name, reason: Reason = None, as_json: Json = False) -> None:
    """No new session may begin with it from now on."""
    _retire("agents", name, reason, as_json)


@agents.command("restore")
def restore_agent(name: Name, as_json: Json = False) -> None:
    """Offer a retired agent again."""
    report(ask("POST", f"/v1/agents/{quoted(name)}/restore"), as_json)


def _show_named(plural: str, name: str, version: int | None, as_json: bool) -> None:
    show(ask("GET", f"/v1/{plural}/{quoted(name)}", params={"version": str(version)} if version else {}), as_json)


def _retire(plural: str, name: str, reason: str | None, as_json: bool) -> None:
    report(ask("DELETE", f"/v1/{plural}/{quoted(name)}", params={"reason": reason} if reason else {}), as_json)


def _definition(file: Path) -> Any:
    """What the file says; standard input where it is `-`."""
    import yaml

    try:
        return yaml.safe_load(sys.stdin.read() if str(file) == "-" else file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} is neither JSON nor YAML: {error}", param_hint="FILE") from None


def register_definition(definition: Any, as_json: bool) -> None:
    """Register what is defined, and say so."""
    report(ask("POST", "/v1/tools", json=definition), as_json)


def _standing(known: dict[str, Any]) -> str:
    return f"{known['name']:24} v{known['version']:<4} {known['status']:8}"


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
    show(ask("GET", f"/v1/audit/{quoted(id)}"), as_json)
