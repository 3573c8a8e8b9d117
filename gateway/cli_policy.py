"""`soma policy`: the versions of the platform's policies, for people and for pipes. Imports wait until a command runs."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli_client import Json, ask, line, quoted, say
from ops import settings as environment

policy = typer.Typer(no_args_is_help=True, help="The policies that decide who may do what, through a gateway (SOMA_URL, SOMA_TOKEN).")
Version = Annotated[str, typer.Argument(help="A version's number, or `shipped`.")]
Directory = Annotated[Path | None, typer.Argument(exists=True, file_okay=False, help="Holds `*.rego` and `data.json`, as for OPA.")]
Reason = Annotated[str | None, typer.Option(help="Why; it stands in the record for ever.")]
PAGE = 2_000
SHOWN = 100


@policy.command("list")
def list_versions(as_json: Json = False) -> None:
    """List the versions, and which of them decides."""
    shelf = ask("GET", "/v1/policies")
    if as_json:
        say(shelf)
        return
    for each in shelf["versions"]:
        standing, by = "active" if each["active"] else "", f"{each['published_at']} {each['published_by']}" if each["published_at"] else ""
        typer.echo(f"{each['version']:8} {standing:7} {each['digest'] or '':13} {line(by):48} {line(each['note'] or '')}".rstrip())


@policy.command("show")
def show_version(version: Version, as_json: Json = False) -> None:
    """Show what a version says."""
    found = ask("GET", f"/v1/policies/{quoted(version)}")
    if as_json:
        say(found)
        return
    if found["modules"] is None:
        typer.echo("These were given to the OPA server: ask it, or look at its bundle.", err=True)
        raise typer.Exit(1)
    for name, text in found["modules"].items():
        typer.echo(f"# ---- {name}\n{text}")
    typer.echo(f"# ---- data.json\n{json.dumps(found['data'], indent=2, ensure_ascii=False)}")


@policy.command()
def publish(
    directory: Directory = None,
    note: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only see whether it could be published.")] = False,
    as_json: Json = False,
) -> None:
    """Publish the policies of a directory as a version, which decides nothing yet; without one, those that are shipped."""
    from ops import rego

    try:
        found = rego.load(directory)
    except ValueError as error:
        raise typer.BadParameter(str(error).removeprefix("SOMA_POLICY_DIR: "), param_hint="DIRECTORY") from None
    body: dict[str, Any] = {"modules": found.modules, "data": found.data}
    answer = ask("POST", "/v1/policies/check", json=body) if check else ask("POST", "/v1/policies", json=body | {"note": note})
    if as_json:
        say(answer)
    elif check:
        typer.echo(f"They can be published. Digest {answer['digest']}.")
    else:
        typer.echo(f"version {answer['version']}, digest {answer['digest']}" if "version" in answer else answer["detail"])


@policy.command()
def activate(
    version: Version,
    reason: Reason = None,
    past_gateway: Annotated[
        bool, typer.Option("--past-gateway", help="Into the log, where no gateway lets you in. Takes what a gateway has.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let a version decide, in every gateway within a second. `shipped` leads back from any other."""
    if past_gateway:
        _past_gateway(version, reason)
        return
    answer = ask("POST", f"/v1/policies/{quoted(version)}/activate", json={"reason": reason})
    if as_json:
        say(answer)
    else:
        typer.echo(f"{answer['active']} decides" if "active" in answer else answer["detail"])


@policy.command()
def backtest(
    version: Version,
    since: Annotated[str | None, typer.Option(help="Decisions made then or later, as 2026-01-31T12:00:00Z; by default of a day.")] = None,
    most: Annotated[int, typer.Option(min=1, help="Stop after so many decisions.")] = 100_000,
    as_json: Json = False,
) -> None:
    """Ask a version what others were asked, and list what it would have decided otherwise. Exit 1 if there is anything."""
    changes, tallies, seen = list[dict[str, Any]](), Counter[tuple[str, str, str | None]](), Counter[str]()
    query: dict[str, Any] = {"since": since} if since else {}
    while True:
        page = ask("POST", f"/v1/policies/{quoted(version)}/backtest", params=query | {"limit": min(PAGE, most - seen["examined"])})
        changes += page["changes"][: SHOWN - len(changes)]
        tallies.update({(each["from"], each["to"], each["rule"]): each["count"] for each in page["tallies"]})
        seen.update({"examined": page["examined"], **page["left_out"]})
        typer.echo(f"{seen['examined']} decisions, {tallies.total()} would be others", err=True)
        if page["next_cursor"] is None or seen["examined"] >= most:
            break
        query = {"since": page["since"], "cursor": page["next_cursor"]}
    _report(changes, tallies, seen, stopped=page["next_cursor"] is not None, as_json=as_json)
    raise typer.Exit(1 if tallies else 0)


def _report(
    changes: list[dict[str, Any]], tallies: Counter[tuple[str, str, str | None]], seen: Counter[str], *, stopped: bool, as_json: bool
) -> None:
    counted = [{"from": was, "to": to, "rule": rule, "count": count} for (was, to, rule), count in tallies.most_common()]
    if as_json:
        say({**seen, "changed": tallies.total(), "tallies": counted, "changes": changes, "stopped": stopped})
        return
    for each in changes:
        of, why = f"{each['tenant']} {line(each['actor'])}", " ".join(each["reasons"])
        typer.echo(f"{each['id']}  {each['at']}  {each['from']} → {each['to']}  {each['action']:16} {of}  {each['rule']}: {line(why)}")
    for each in counted:
        typer.echo(f"{each['count']:8}  {each['from']} → {each['to']}  by {each['rule']}")
    left_out = seen["own"] + seen["unproved"] + seen["not_kept"]
    typer.echo(f"{seen['examined']} decisions were asked about again, {left_out} could not be; {tallies.total()} would be others.")
    if stopped:
        typer.echo("It stopped before the end of the record: give a larger --most, or another --since.", err=True)


def _past_gateway(version: str, reason: str | None) -> None:
    import secrets

    from confluent_kafka import KafkaException

    from gateway.operator import NotDone, Order, decided, refused
    from ops.log import LogUnavailable
    from projections.policy import NAME, SHIPPED
    from schemas.registry import NotRegistered, RegistryDown
    from schemas.types.policy import ActivatePolicy, PolicyCommand, PolicyEvent

    if version != SHIPPED and not version.isdecimal():
        raise typer.BadParameter("a number, or shipped", param_hint="VERSION")
    settings = environment.load()
    body = ActivatePolicy(version=None if version == SHIPPED else int(version), reason=reason)
    order = Order("policy", NAME, secrets.token_hex(16), settings.soma_policy_tenant, body, PolicyCommand, PolicyEvent)
    try:
        why = refused(decided(settings, order))
    except (NotDone, LogUnavailable, NotRegistered, RegistryDown, KafkaException, ValueError) as error:
        why = str(error)
    if why:
        typer.echo(why, err=True)
        raise typer.Exit(1)
    typer.echo(f"{version} decides", file=sys.stdout)
