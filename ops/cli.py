"""`soma`: assembles the commands of all rooms. Imports wait until a command runs, so that `soma --help` answers at once."""

import asyncio
import sys
from typing import Annotated

import typer

from ops import settings as environment

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="SomaAgentHub: an agent platform whose only memory is a Kafka log."
)
topics_app = typer.Typer(no_args_is_help=True, help="The topics of topics.yaml.")
schemas_app = typer.Typer(no_args_is_help=True, help="The contract: Avro schemas and what is generated from them.")
events_app = typer.Typer(invoke_without_command=True)
app.add_typer(events_app, name="events")
app.add_typer(topics_app, name="topics")
app.add_typer(schemas_app, name="schemas")


@app.command()
def up() -> None:
    """Run the whole platform here, with an embedded Kafka, registry and PostgreSQL where none is named."""
    from ops.up import up as run

    raise typer.Exit(asyncio.run(run(environment.load(beside_running=False))))


@app.command()
def gateway() -> None:
    """Run a gateway: the REST API."""
    from gateway.app import run

    run(environment.load())


@app.command()
def executor() -> None:
    """Run an executor: runs the tool calls that sessions wait for."""
    from streams.executor import run

    run(environment.load())


@app.command()
def worker() -> None:
    """Run a worker: decides commands, runs model calls."""
    from streams.worker import run

    run(environment.load())


@app.command()
def projector() -> None:
    """Run a projector: writes events to the read model."""
    from projections.projector import run

    run(environment.load())


@app.command()
def prepare(
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make the read model anew where another release made its rows.")] = False,
) -> None:
    """Do what comes before the processes: schemas into the registry, topics, the read model's tables. Safe to run again."""
    from ops import fga, groups, kafka, topics
    from projections import database
    from projections.cli import renew
    from projections.isolation import NoReader
    from schemas.registry import Registry

    settings = environment.load()
    registry = Registry(kafka.registry(settings))
    typer.echo(f"{len(registry.register())} schemas are registered")
    for line in topics.apply(settings, registry):
        typer.echo(line)
    asyncio.run(groups.settle(settings))
    try:
        database.migrate(database.url(settings))
    except NoReader as error:
        raise SystemExit(str(error)) from None
    typer.echo("the read model's tables are up to date")
    renew(allowed=rebuild)
    if settings.openfga_api_url:
        try:
            typer.echo(asyncio.run(fga.prepare(settings)))
        except fga.OpenFgaDown as error:
            raise SystemExit(f"{error}. Check OPENFGA_API_URL, then run this again.") from None


@topics_app.command("apply")
def topics_apply() -> None:
    """Create what is missing and raise partitions to KAFKA_CFG_NUM_PARTITIONS; never lower, never delete."""
    from ops import kafka, topics
    from schemas.registry import Registry

    settings = environment.load()
    for line in topics.apply(settings, Registry(kafka.registry(settings))):
        typer.echo(line)


@schemas_app.command("generate")
def schemas_generate(check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 when a file is stale.")] = False) -> None:
    """Write the generated types, keep a changed schema as its next version, and write the API document."""
    from gateway import document
    from schemas import generate

    stale = generate.stale() + document.stale()
    if not check:
        generate.write()
        document.write()
    for path in stale:
        typer.echo(f"{path}: {'stale: run `soma schemas generate`' if check else 'written'}")
    raise typer.Exit(1 if check and stale else 0)


@schemas_app.command("check")
def schemas_check() -> None:
    """Check that today's schemas read every version kept here and, where SCHEMA_REGISTRY_URL is set, every one the registry has."""
    from ops import kafka
    from schemas.compatibility import broken
    from schemas.registry import Registry

    lines, settings = broken(), environment.load()
    if settings.schema_registry_url:
        refused = Registry(kafka.registry(settings)).incompatible()
        lines += [f"{subject}: the registry has a version that today's schema does not read" for subject in refused]
    else:
        typer.echo("SCHEMA_REGISTRY_URL is not set: only the versions kept here were checked.")
    for line in lines:
        typer.echo(line)
    raise typer.Exit(1 if lines else 0)


@schemas_app.command("register")
def schemas_register() -> None:
    """Put every schema into the registry, and hold it to BACKWARD_TRANSITIVE."""
    from ops import kafka
    from schemas.registry import Registry

    for subject, schema_id in Registry(kafka.registry(environment.load())).register().items():
        typer.echo(f"{subject}: schema {schema_id}")


@events_app.command("void")
def events_void(
    partition: Annotated[int, typer.Option(min=0, help="Partition of soma.session.events.")],
    offset: Annotated[int, typer.Option(min=0, help="Offset of the record that nobody can read.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the record for ever.")],
) -> None:
    """Take a record that nobody can read out of the chain. Its partition stands still until then; the record says who did it."""
    from schemas.chain import ChainBroken
    from streams.session import SESSION
    from streams.void import NotInDoubt, void

    try:
        place = void(environment.load(), SESSION, partition, offset, reason)
    except (NotInDoubt, ChainBroken) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(f"Offset {offset} is void, by the record e{partition}-{place}. The worker goes on when its supervisor starts it anew.")


def main() -> None:
    """The entry point."""
    from gateway.cli import agents, audit, register_definition, tools
    from gateway.cli_keys import keys, token
    from gateway.cli_policy import policy
    from ops import cli_diff, cli_replay
    from projections import cli as cli_read_model
    from projections import cli_audit
    from streams.cli_erase import erase, seal
    from streams.tools.cli import import_mcp

    events_app.callback()(cli_replay.events)
    app.command()(cli_replay.show)
    app.command()(cli_replay.export)
    app.command()(cli_diff.replay_diff)
    app.command()(cli_read_model.verify)
    app.command()(cli_read_model.rebuild)
    app.command()(cli_read_model.migrate)
    app.command()(token)
    app.command()(erase)
    app.add_typer(seal, name="seal")
    tools.command("import-mcp")(import_mcp(register_definition))
    app.add_typer(tools, name="tools")
    app.add_typer(agents, name="agents")
    app.add_typer(keys, name="keys")
    app.add_typer(policy, name="policy")
    audit.command()(cli_audit.verify)
    audit.command()(cli_audit.export)
    app.add_typer(audit, name="audit")
    try:
        app()
    except environment.NotConfigured as error:
        typer.echo(f"{error} One that runs already is found by its SOMA_DATA_DIR.", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
