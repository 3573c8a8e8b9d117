"""What commands ask of a gateway, and how they print its answers. Imports wait until a command runs."""

import json
from typing import Annotated, Any

import typer

from ops import settings as environment

Json = Annotated[bool, typer.Option("--json", help="Print the gateway's answer.")]
SECONDS = 40.0
PAGE = 500


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


def listed(plural: str, as_json: bool, **query: str) -> list[dict[str, Any]]:
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


def show(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say(answer)
        return
    for field, value in answer.items():
        if value not in (None, [], {}):
            typer.echo(f"{field:16} {line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))}")


def report(answer: dict[str, Any], as_json: bool) -> None:
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
