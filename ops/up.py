"""`soma up`: the whole platform on one machine, in one terminal.

    Kafka, PostgreSQL, registry (those that no variable names)
      └─ soma prepare: schemas, topics, tables, and after an upgrade their rows
           └─ soma projector, soma worker, soma executor, soma gateway: each started again when it ends

Everything is stopped in the opposite order.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from rich.console import Console
from rich.text import Text

from ops import command_key, pepper, seal_file
from ops.embedded import kafka, registry
from ops.embedded.directory import claimed
from ops.embedded.errors import EmbeddedError
from ops.embedded.group import Service, running, together
from ops.embedded.postgres import Postgres
from ops.embedded.process import require_free
from ops.settings import RUNNING, SIGN_IN, Settings
from ops.supervise import Supervised, WrongSettings, lines, start

PROCESSES = {"projector": "magenta", "worker": "green", "executor": "yellow", "gateway": "cyan"}
HEALTH_SECONDS = 90.0
WELCOME = """
  SomaAgentHub  {address}
  API           {address}/docs
  Console       {address}/console
  Logs          {logs}

  {next}

Ctrl-C stops it.
"""
OPEN = """Try:  curl -s {address}/v1/sessions -H 'content-type: application/json' -d '{{"model": "echo", "input": "hello"}}'"""
CLOSED = """Callers sign in. The first key, in another terminal:
        export SOMA_TOKEN=$({soma} keys bootstrap)
        {python} -m streams.tools.ship {address}    # the shipped tools, for the key's tenant
  Try:  curl -s {address}/v1/sessions -H "authorization: Bearer $SOMA_TOKEN" -H 'content-type: application/json' \\
          -d '{{"model": "echo", "input": "hello"}}'"""


class PreparationFailed(Exception):
    """`soma prepare` failed; the message holds what it said."""


async def up(settings: Settings) -> int:
    """Runs until Ctrl-C or SIGTERM. The exit code: 0 then, 1 when something could not start, 2 for wrong settings."""
    console = Console(highlight=False)
    try:
        with claimed(settings.soma_data_dir.resolve()) as data_dir:
            await require_free(settings.gateway_port, "GATEWAY_PORT")
            _fetch(settings)
            await _until_signal(_platform(settings, data_dir, console))
    except (EmbeddedError, PreparationFailed, WrongSettings) as error:
        console.print(Text(str(error), style="red"), soft_wrap=True)
        return 2 if isinstance(error, WrongSettings) else 1
    except KeyboardInterrupt:
        pass
    console.print("SomaAgentHub is stopped.")
    return 0


async def _platform(settings: Settings, data_dir: Path, console: Console) -> None:
    report = _reporter(console)
    if not settings.soma_keys_pepper:
        pepper.make(data_dir)
    if not settings.soma_command_key:
        command_key.make(data_dir)
    if settings.soma_seal == "local":
        seal_file.make(settings.model_copy(update={"soma_data_dir": data_dir}))
    services, addresses = _embedded(settings, data_dir)
    env = {**os.environ, **addresses, **gate(settings), "SOMA_DATA_DIR": str(data_dir)}
    async with running(services, report):
        with _findable(data_dir, addresses):
            work = _run(settings, env, data_dir, console, report)
            await together(work, *(service.failed() for service in services))


@contextmanager
def _findable(data_dir: Path, addresses: Mapping[str, str]) -> Iterator[None]:
    """While the services run, `soma show` and the like find them by the data directory."""
    found = data_dir / RUNNING
    found.write_text(json.dumps(addresses))
    try:
        yield
    finally:
        found.unlink(missing_ok=True)


async def _run(settings: Settings, env: Mapping[str, str], data_dir: Path, console: Console, report: Callable[[str], None]) -> None:
    """The processes on top of services that run, until one cannot be kept running."""
    await _prepare(env, rebuild=not settings.database_url)
    report("schemas, topics and tables are there")
    logs = data_dir / "logs"
    processes = [Supervised(name, env, logs / f"{name}.log", _speaker(console, name)) for name in PROCESSES]
    async with running(processes, report):
        announced = _announce(settings, logs, console, report)
        await together(announced, *(process.failed() for process in processes))


def _embedded(settings: Settings, data_dir: Path) -> tuple[list[Service], dict[str, str]]:
    """What no variable names, in the order opposite to stopping, and the variables that say where it is."""
    broker = kafka.Kafka(data_dir, settings.soma_kafka_port, settings.soma_kafka_controller_port)
    database = Postgres(data_dir)
    schemas = registry.Registry(data_dir, settings.soma_registry_port)
    all_of_them: list[tuple[str, str | None, Service, str]] = [
        ("KAFKA_BOOTSTRAP_SERVERS", settings.kafka_bootstrap_servers, broker, broker.bootstrap),
        ("DATABASE_URL", settings.database_url, database, database.uri),
        ("SCHEMA_REGISTRY_URL", settings.schema_registry_url, schemas, schemas.url),
    ]
    wanted = [(name, service, address) for name, given, service, address in all_of_them if not given]
    return [service for _, service, _ in wanted], {name: address for name, _, address in wanted}


def gate(settings: Settings) -> dict[str, str]:
    """On a machine of one's own nobody has to sign in, until a variable says how; the gateway says so loudly."""
    asked = any(name in settings.model_fields_set for name in SIGN_IN)
    return {} if asked or not settings.on_loopback else {"GATEWAY_REQUIRE_AUTH": "false"}


def _fetch(settings: Settings) -> None:
    """Downloads before the event loop's own Ctrl-C handling begins to matter: here Ctrl-C raises KeyboardInterrupt at once."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if not settings.kafka_bootstrap_servers:
            kafka.program()
        if not settings.schema_registry_url:
            registry.program()
    finally:
        signal.signal(signal.SIGINT, former)


async def _until_signal(work: Coroutine[None, None, None]) -> None:
    """Runs it until it ends, or until SIGINT or SIGTERM, which cancel it; a second one cuts its orderly end short."""
    task = asyncio.create_task(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


async def _prepare(env: Mapping[str, str], *, rebuild: bool) -> None:
    """Runs `soma prepare` to its end; what it does for long it shows itself. Raises PreparationFailed.

    Rows that another release's code made are made anew in a database of our own (`rebuild`); of any other, people decide.
    """
    process = await start("prepare", *(["--rebuild"] if rebuild else []), env=env, stderr=None)
    assert process.stdout
    try:
        said = [line async for line in lines(process.stdout)]
        code = await process.wait()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # with the cores that a rebuild runs on
    if code:
        raise PreparationFailed("\n".join([*said, f"`soma prepare` ended with code {code}; what stands above says why."]))


async def _ship(address: str, report: Callable[[str], None]) -> None:
    """Registers the shipped tools where they are not; the platform works without them too."""
    command = [sys.executable, "-m", "streams.tools.ship", address]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
    if await process.wait():
        why = f"run `{sys.executable} -m streams.tools.ship {address}` to see why, with a SOMA_TOKEN where callers sign in"
        report(f"the shipped tools could not be registered: {why}")


async def _announce(settings: Settings, logs: Path, console: Console, report: Callable[[str], None]) -> None:
    """Says where the platform is once its health says that it is well, or where to look when that takes long."""
    address = settings.model_copy(update={"soma_url": None}).url
    if not await _healthy(f"{address}/health"):
        report(f"{address}/health is not well after {HEALTH_SECONDS:.0f} s; the lines above and {logs} say why")
        return
    report("everything is well")
    closed = not gate(settings)
    if not closed or settings.soma_token:
        await _ship(address, report)
    console.print(Text(_welcome(address, logs, closed=closed), style="bold"), soft_wrap=True)


def _welcome(address: str, logs: Path, *, closed: bool) -> str:
    """Where everything is, and what to do next: where the gate is closed, to get a key."""
    python = Path(sys.executable)
    begin = (CLOSED if closed else OPEN).format(address=address, python=python, soma=python.with_name("soma"))
    return WELCOME.format(address=address, logs=logs, next=begin)


async def _healthy(url: str) -> bool:
    deadline = time.monotonic() + HEALTH_SECONDS
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        while time.monotonic() < deadline:
            try:
                if (await client.get(url)).is_success:
                    return True
            except httpx.TransportError:
                pass  # it does not listen yet
            await asyncio.sleep(0.1)
    return False


def _reporter(console: Console) -> Callable[[str], None]:
    """Prints a line a step, with the seconds since the beginning."""
    began = time.monotonic()

    def report(line: str) -> None:
        console.print(Text(f"{time.monotonic() - began:6.1f} s  {line}"), soft_wrap=True)

    return report


def _speaker(console: Console, name: str) -> Callable[[str], None]:
    """Prints a line of a process behind its name, in its colour."""
    width = max(map(len, PROCESSES))

    def say(line: str) -> None:
        console.print(Text(f"{name:>{width}} │ ", style=PROCESSES[name]).append_text(Text.from_ansi(line)), soft_wrap=True)

    return say
