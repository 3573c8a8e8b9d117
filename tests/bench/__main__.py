"""`make bench`: measures the platform on this machine, prints one table, writes bench.json. Takes about ten minutes.

Every figure stands beside the raw hop of the same run (aiokafka from producer to consumer), so that it means something on a noisy
machine; and a figure counts only if `soma verify` finds the record whole afterwards.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table

from ops import kafka
from ops.embedded.group import running
from ops.embedded.kafka import Kafka
from ops.embedded.postgres import Postgres
from ops.embedded.process import free_port
from ops.embedded.registry import Registry as EmbeddedRegistry
from ops.log import Log
from ops.settings import Settings
from schemas.ids import new_id
from schemas.registry import Registry
from schemas.types.common import CommandMeta
from schemas.types.session import SessionCommand, SessionEvent, StartSession
from tests.bench.gate import ON, gate
from tests.bench.load import Loop, raw_hop, sessions
from tests.bench.runs import PRIVATE, runs
from tests.bench.sealing import sealing
from tests.faults.cluster import Cluster
from tests.history import make_history, produce

COMMANDS, EVENTS = "soma.session.commands", "soma.session.events"
out = Console()


@asynccontextmanager
async def platform(directory: Path) -> AsyncIterator[tuple[Settings, dict[str, str]]]:
    """Servers with topics and tables, without our processes."""
    broker, registry, postgres = Kafka(directory, free_port(), free_port()), EmbeddedRegistry(directory, free_port()), Postgres(directory)
    async with running([broker, postgres, registry], lambda line: None):
        addresses = {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap, "SCHEMA_REGISTRY_URL": registry.url, "DATABASE_URL": postgres.uri}
        settings = Settings(
            soma_data_dir=directory,
            kafka_bootstrap_servers=broker.bootstrap,
            schema_registry_url=registry.url,
            database_url=postgres.uri,
            gateway_port=free_port(),
            gateway_require_auth=False,
        )
        env = {**os.environ, **addresses, "SOMA_DATA_DIR": str(directory)}
        soma(env, "prepare")
        yield settings, env


def soma(env: dict[str, str], *arguments: str) -> str:
    """Run a command of the CLI; a failure ends the measurement with what it said."""
    ran = subprocess.run([sys.executable, "-m", "ops.cli", *arguments], env=env, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"soma {' '.join(arguments)} failed:\n{ran.stdout}{ran.stderr}")
    return ran.stdout


async def through_the_door(settings: Settings, cluster: Cluster, loops: list[tuple[int, int]]) -> dict[str, Any]:
    """POST to recorded reply: one at a time, and closed loops."""
    await cluster.settle(workers=1)
    await sessions(cluster.url, 10, 200)
    hop = await raw_hop(settings)
    measured = []
    for concurrent, count in loops:
        out.print(f"  {concurrent} at a time, {count} sessions …")
        measured.append(await sessions(cluster.url, concurrent, count))
    return {"raw_hop_ms": hop, "loops": [loop._asdict() for loop in measured]}


async def worker_alone(settings: Settings, cluster: Cluster, count: int) -> dict[str, Any]:
    """Commands through decide and append in one worker, from the log's own timestamps. Nothing else of ours runs meanwhile."""
    await asyncio.gather(cluster.gateway.stop(), cluster.projector.stop())
    registry, log = Registry(kafka.registry(settings)), Log(kafka.confluent(settings))
    codec = registry.codec(COMMANDS, SessionCommand)
    partitions = range(settings.kafka_cfg_num_partitions)
    before = {partition: log.bounds(EVENTS, partition)[1] for partition in partitions}
    values = [_start(codec.encode, index % len(partitions)) for index in range(count)]
    producer = Producer({**kafka.confluent(settings), "queue.buffering.max.messages": count + 1, "linger.ms": 5})
    for key, value, partition in values:
        producer.produce(COMMANDS, value, key, partition)
    producer.flush(60)
    while sum(log.bounds(EVENTS, partition)[1] - before[partition] for partition in partitions) < count:
        await asyncio.sleep(0.5)
    stamps = [r.timestamp for p in partitions for r in log.read(EVENTS, p, before[p], log.bounds(EVENTS, p)[1])]
    return {"commands": count, "per_second": count / ((max(stamps) - min(stamps)) / 1000)}


def _start(encode: Any, partition: int) -> tuple[bytes, bytes, int]:
    id = new_id(partition)
    meta = CommandMeta(id=new_id(partition), aggregate_id=id, tenant="default", actor="bench", time=datetime.now(UTC))
    body = StartSession(model="echo", metadata={}, reply_seconds=30, idle_seconds=3600)
    return id.encode(), encode(SessionCommand(meta=meta, body=body)), partition


def fill(settings: Settings, count: int) -> None:
    """Put a history of so many sessions into the log, as workers would have written it."""
    codec = Registry(kafka.registry(settings)).codec(EVENTS, SessionEvent)
    share = count // settings.kafka_cfg_num_partitions
    for partition in range(settings.kafka_cfg_num_partitions):
        produce(kafka.bootstrap(settings), make_history(share, codec, partition), partition)


def memory(cluster: Cluster) -> dict[str, float]:
    """Resident memory of each process, in MiB."""
    found = {}
    for process in (cluster.gateway, cluster.projector, cluster.workers[0]):
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        found[process.role] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return found


def disk(settings: Settings) -> int:
    """Bytes of the sessions' topics on disk, as allocated segments' contents."""
    files = settings.soma_data_dir.rglob(f"{EVENTS}-*/*.log")
    return sum(file.stat().st_size for file in files)


async def large_log(settings: Settings, env: dict[str, str], cluster: Cluster, count: int) -> dict[str, Any]:
    """With so many sessions in the log: rebuild, first fold, takeover with a snapshot, memory, disk."""
    out.print(f"  writing a history of {count} sessions …")
    fill(settings, count)
    out.print("  rebuilding the read model …")
    rebuilt = json.loads(soma(env, "rebuild", "--json"))
    worker = cluster.workers[0]
    first = await _until_it_owns(cluster)
    await cluster.settle(workers=1)
    await sessions(cluster.url, 10, 200)
    await asyncio.sleep(15)  # the snapshot is written every second; its rows take some
    used = memory(cluster)
    await worker.destroy()
    again = await _until_it_owns(cluster)
    times = {"first_fold_s": first, "takeover_s": again}
    return {"sessions": count, "rebuild": rebuilt, **times, "memory_mib": used, "disk_bytes": disk(settings)}


async def _until_it_owns(cluster: Cluster) -> float:
    """Start a worker; seconds until a session through it has its reply (its own start-up included)."""
    begun = time.perf_counter()
    for process in (cluster.gateway, cluster.projector):
        if not process.kept:
            process.keep()
    cluster.workers[0].keep()
    while True:
        try:
            if (await sessions(cluster.url, 8, 64)).errors == 0:
                return time.perf_counter() - begun
        except (OSError, ValueError, KeyError):
            await asyncio.sleep(0.2)


def show(result: dict[str, Any]) -> Table:
    """The one table."""
    hop = result["door"]["raw_hop_ms"]
    table = Table(title=f"SomaAgentHub on {os.cpu_count()} cores; raw hop p50 {hop:.2f} ms", title_justify="left")
    for column in ("what", "measured", "in raw hops", "aim"):
        table.add_column(column)
    aims = {1: "p50 ≤ 12 hops", 50: "≥ 250 sessions/s", 500: "mean < 2 s, no error"}
    _add(table, "POST to recorded reply", result["door"]["loops"], hop, aims)
    aims = {1: "p50 ≤ 20 hops", 10: "≥ 150 runs/s, p99 < 1 s", 50: "≥ 150 runs/s, p99 < 1 s", 500: "mean < 2 s, no error"}
    _add(table, "model, tool, model", result["runs"]["loops"], hop, aims)
    cancel = result["runs"]["cancel"]
    table.add_row("cancel to the end of the tool's request", f"p50 {cancel['p50']:.1f}  p99 {cancel['p99']:.1f} ms", "", "")
    table.add_row("one worker alone, decide and append", f"{result['worker']['per_second']:.0f} commands/s", "", "≥ 4,000")
    sealed = result["sealing"]
    figures = f"p50 {sealed['p50_sealed']:.1f} ms, without {sealed['p50']:.1f} ms"
    table.add_row("POST to recorded reply, sealed, 1 at a time", figures, f"{sealed['ratio']:.2f} times one without", "")
    without = result["gate"]["p50"]["nobody is asked"]
    for name, p50 in result["gate"]["p50"].items():
        table.add_row(f"POST to recorded reply, {name}", f"p50 {p50:.2f} ms, {p50 - without:+.2f}", f"p50 {p50 / hop:.1f}", "≤ 1 ms more")
    _add(table, "with the gate on", [result["gate"]["at_once"]], hop, {500: "mean < 2 s, no error"})
    if large := result.get("large"):
        table.add_row("rebuild of the read model", f"{large['rebuild']['events_per_second']} events/s", "", "≥ 60,000")
        table.add_row(f"first fold of {large['sessions']} sessions, to a reply", f"{large['first_fold_s']:.1f} s", "", "")
        table.add_row("new worker with a snapshot, to a reply", f"{large['takeover_s']:.1f} s", "", "< 5 s and its start")
        table.add_row("memory", "  ".join(f"{role} {mib:.0f} MiB" for role, mib in large["memory_mib"].items()), "", "")
        table.add_row("events on disk", f"{large['disk_bytes'] / large['sessions']:.0f} bytes a session", "", "")
    return table


def _add(table: Table, what: str, loops: list[dict[str, Any]], hop: float, aims: dict[int, str]) -> None:
    for loop in (Loop(**each) for each in loops):
        figures = f"{loop.per_second:.0f}/s  mean {loop.mean:.1f}  p50 {loop.p50:.1f}  p99 {loop.p99:.1f} ms  errors {loop.errors}"
        hops = f"p50 {loop.p50 / hop:.1f}"
        table.add_row(f"{what}, {loop.concurrent} at a time", figures, hops, aims.get(loop.concurrent, ""))


async def measure(loops: list[tuple[int, int]], commands: int, large: int) -> dict[str, Any]:
    """Everything, each part followed by `soma verify`."""
    result: dict[str, Any] = {"at": datetime.now(UTC).isoformat(), "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="soma-bench-") as name:
        async with platform(Path(name)) as (settings, env), Cluster(settings, Path(name), **PRIVATE) as cluster:
            out.print("through the door")
            result["door"] = await through_the_door(settings, cluster, loops)
            out.print("runs of three steps, and cancels")
            result["runs"] = await runs(cluster, [(concurrent, count // 2) for concurrent, count in loops], loops[0][1] // 2)
            await cluster.executors[0].stop()
            out.print(f"one worker alone, {commands} commands")
            result["worker"] = await worker_alone(settings, cluster, commands)
            await cluster.settle(workers=1)
            soma(env, "verify")
    with tempfile.TemporaryDirectory(prefix="soma-bench-") as name:
        async with platform(Path(name)) as (settings, env):
            out.print("with sealed text, and without")
            result["sealing"] = await sealing(settings, Path(name), loops[0][1] // 4)
        async with platform(Path(name)) as (settings, env), Cluster(settings, Path(name), **ON) as cluster:
            out.print("with the gate on, and without")
            result["gate"] = await gate(cluster, loops[0][1], loops[-1][0])
            soma(env, "verify")
    if large:
        with tempfile.TemporaryDirectory(prefix="soma-bench-") as name:
            async with platform(Path(name)) as (settings, env), Cluster(settings, Path(name)) as cluster:
                out.print("with a large log")
                result["large"] = await large_log(settings, env, cluster, large)
                soma(env, "verify")
    return result


def main() -> None:
    """Measure, print, write."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--quick", action="store_true", help="a tenth of everything: to see that it works, not to be quoted")
    quick = arguments.parse_args().quick
    share = 10 if quick else 1
    loops = [(1, 400 // share), (10, 2_000 // share), (50, 5_000 // share), (500, 5_000 // share)]
    result = asyncio.run(measure(loops, 20_000 // share, 100_000 // share))
    out.print(show(result))
    Path("bench.json").write_text(json.dumps(result, indent=1))
    out.print("written to bench.json")


if __name__ == "__main__":
    main()
