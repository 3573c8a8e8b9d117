"""`soma tools` and `soma agents`: what a gateway serves, for people and for pipes. Imports wait until a command runs."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ops import settings as environment

tools = typer.Typer(no_args_is_help=True, help="The tools that models may call, through a gateway (SOMA_URL).")
agents = typer.Typer(no_args_is_help=True, help="The agents that sessions begin with, through a gateway (SOMA_URL).")
Name = Annotated[str, typer.Argument(help="Its name.")]
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
    for tool in _listed("tools", retired, as_json):
        typer.echo(f"{_standing(tool)} breaker {tool['breaker']['status']:10} {_line(tool['description'])}")


@tools.command("show")
def show_tool(name: Name, version: Version = None, as_json: Json = False) -> None:
    """Show a tool: its definition, and how it stands."""
    _show("tools", name, version, as_json)


@tools.command()
def register(file: File, as_json: Json = False) -> None:
    """Register a tool, or a new version of it."""
    _report(_ask("POST", "/v1/tools", json=_definition(file)), as_json)


@tools.command("retire")
def retire_tool(name: Name, reason: Reason = None, as_json: Json = False) -> None:
    """No new session may use it from now on."""
    _retire("tools", name, reason, as_json)


@tools.command("restore")
def restore_tool(name: Name, as_json: Json = False) -> None:
    """Offer a retired tool again."""
    _report(_ask("POST", f"/v1/tools/{_path(name)}/restore"), as_json)


@agents.command("list")
def list_agents(retired: RetiredToo = False, as_json: Json = False) -> None:
    """List agents, and the models that they think with."""
    for agent in _listed("agents", retired, as_json):
        typer.echo(f"{_standing(agent)} {_line(agent['model']):16} {_line(agent['description'])}")


@agents.command("show")
def show_agent(name: Name, version: Version = None, as_json: Json = False) -> None:
    """Show an agent: its terms, and how it stands."""
    _show("agents", name, version, as_json)


@agents.command()
def put(name: Name, file: File, as_json: Json = False) -> None:
    """Publish an agent, or a new version of it."""
    _report(_ask("PUT", f"/v1/agents/{_path(name)}", json=_definition(file)), as_json)


@agents.command("retire")
def retire_agent(name: Name, reason: Reason = None, as_json: Json = False) -> None:
    """No new session may begin with it from now on."""
    _retire("agents", name, reason, as_json)


@agents.command("restore")
def restore_agent(name: Name, as_json: Json = False) -> None:
    """Offer a retired agent again."""
    _report(_ask("POST", f"/v1/agents/{_path(name)}/restore"), as_json)


def _listed(plural: str, retired: bool, as_json: bool) -> list[dict[str, Any]]:
    """All pages. As JSON they are printed here, and nothing is left to do."""
    found, cursor = list[dict[str, Any]](), None
    while True:
        asked = {"retired": str(retired).lower(), "limit": str(PAGE)} | ({"cursor": cursor} if cursor else {})
        page = _ask("GET", f"/v1/{plural}", params=asked)
        found += page[plural]
        if not (cursor := page["next_cursor"]):
            break
    if as_json:
        _print({plural: found})
        return []
    return found


def _show(plural: str, name: str, version: int | None, as_json: bool) -> None:
    found = _ask("GET", f"/v1/{plural}/{_path(name)}", params={"version": str(version)} if version else {})
    if as_json:
        _print(found)
        return
    for field, value in found.items():
        if value not in (None, [], {}):
            typer.echo(f"{field:16} {_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))}")


def _retire(plural: str, name: str, reason: str | None, as_json: bool) -> None:
    _report(_ask("DELETE", f"/v1/{plural}/{_path(name)}", params={"reason": reason} if reason else {}), as_json)


def _definition(file: Path) -> Any:
    """What the file says; standard input where it is `-`."""
    import yaml

    try:
        return yaml.safe_load(sys.stdin.read() if str(file) == "-" else file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} is neither JSON nor YAML: {error}", param_hint="FILE") from None


def _standing(known: dict[str, Any]) -> str:
    return f"{known['name']:24} v{known['version']:<4} {known['status']:8}"


def _ask(method: str, path: str, **arguments: Any) -> dict[str, Any]:
    """The gateway's answer. Ends the process with exit code 1 where that is a problem, or there is none."""
    import httpx

    url = environment.load().url
    try:
        response = httpx.request(method, f"{url}{path}", timeout=SECONDS, trust_env=False, **arguments)
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
