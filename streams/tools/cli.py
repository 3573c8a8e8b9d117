"""`soma tools import-mcp`: the tools of an MCP server, listed and handed to whoever registers them."""

import asyncio
import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ops import settings as environment
from ops.settings import Settings
from schemas.types.tool import Definition, Mcp

Register = Callable[[Any, bool], None]
SERVER = "Its address (https://…), or the program that starts it with its arguments, behind `--` where they begin with a dash."


def import_mcp(register: Register) -> Callable[..., None]:
    """The command. `register` takes a definition as POST /v1/tools does, and whether to print JSON."""

    def command(
        server: Annotated[list[str], typer.Argument(help=SERVER)],
        prefix: Annotated[str, typer.Option(help="Stands before each tool's name.")] = "",
        header: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for each request; ${secret:NAME} is looked up there.")] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Register nothing: print the definitions as JSON.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the gateway's answers.")] = False,
    ) -> None:
        """Register the tools of an MCP server. What it says of a tool decides whether calls are repeated, and need an approval."""
        settings = environment.load()
        place = _place(server, header or [])
        definitions = _listed(place, settings, prefix)
        for definition in definitions:
            if dry_run:
                typer.echo(json.dumps(_body(definition), ensure_ascii=False))
            else:
                register(_body(definition), as_json)
        if place.command and place.command[0] not in settings.soma_tool_mcp_commands:
            typer.echo(f"Executors start this server once SOMA_TOOL_MCP_COMMANDS lists {place.command[0]}.", err=True)

    return command


def _place(server: list[str], headers: list[str]) -> Mcp:
    by_url = server[0].startswith(("http://", "https://"))
    if by_url and len(server) > 1:
        raise typer.BadParameter("an address stands alone", param_hint="SERVER")
    if wrong := [header for header in headers if "=" not in header]:
        raise typer.BadParameter(f"{wrong[0].partition(':')[0]} is not NAME=VALUE", param_hint="--header")
    given = dict(header.split("=", 1) for header in headers)
    return Mcp(tool="any", url=server[0] if by_url else None, command=() if by_url else tuple(server), headers=given)


def _listed(place: Mcp, settings: Settings, prefix: str) -> tuple[Definition, ...]:
    """Ends the process with exit code 1 where the server does not list its tools, or one of them cannot be registered."""
    from mcp import MCPError
    from msgspec.structs import replace

    from streams.tools.checks import check_definition
    from streams.tools.connection import Gone
    from streams.tools.egress import Barred
    from streams.tools.mcp import list_tools
    from streams.tools.running import ways
    from streams.tools.secrets import MissingSecret

    own = replace(ways(settings), mcp_commands=place.command[:1])  # whoever names a program on the command line may start it
    try:
        definitions = asyncio.run(list_tools(place, own, prefix))
    except (Gone, Barred, MissingSecret, MCPError) as error:
        typer.echo(f"The server does not list its tools: {error}", err=True)
        raise typer.Exit(1) from None
    wrong = [f"{definition.name}: {problem}" for definition in definitions for problem in check_definition(definition)]
    if wrong:
        typer.echo("\n".join(["Nothing is registered, for these tools cannot be:", *wrong]), err=True)
        raise typer.Exit(1)
    return definitions


def _body(definition: Definition) -> dict[str, Any]:
    from streams.tools.ship import body

    return body(definition)
