"""`soma tools`: what a gateway serves, for people and for pipes. Imports wait until a command runs."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ops import settings as environment

tools = typer.Typer(no_args_is_help=True, help="The tools that models may call, through a gateway (SOMA_URL).")
Name = Annotated[str, typer.Argument(help="The tool's name.")]
Json = Annotated[bool, typer.Option("--json", help="Print the gateway's answer.")]
SECONDS = 40.0
PAGE = 500


@tools.command("list")
def list_(
    retired: Annotated[bool, typer.Option("--retired", help="Also those that are retired.")] = False,
    as_json: Json = False,
) -> None:
    """List tools, and whether they work."""
    found, cursor = list[dict[str, Any]](), None
    while True:
        asked = {"retired": str(retired).lower(), "limit": str(PAGE)} | ({"cursor": cursor} if cursor else {})
        page = _ask("GET", "/v1/tools", params=asked)
        found += page["tools"]
        if not (cursor := page["next_cursor"]):
            break
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
    tool = _ask("GET", f"/v1/tools/{_path(name)}", params={"version": str(version)} if version else {})
    if as_json:
        _print(tool)
        return
    for field, value in tool.items():
        if value not in (None, [], {}):
            typer.echo(f"{field:16} {_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))}")


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
    register_definition(definition, as_json)


def register_definition(definition: Any, as_json: bool) -> None:
    """Register what is defined, and say so."""
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
