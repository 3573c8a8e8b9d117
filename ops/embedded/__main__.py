"""`python -m ops.embedded --data-dir DIR`: the three servers alone, until Ctrl-C. `--prepare` only fetches and prepares them."""

import argparse
import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from ops.embedded import kafka, registry
from ops.embedded.directory import claimed
from ops.embedded.errors import EmbeddedError
from ops.embedded.group import running
from ops.embedded.kafka import Kafka
from ops.embedded.postgres import Postgres
from ops.embedded.process import free_port
from ops.embedded.registry import Registry


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ops.embedded", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data-dir", type=Path, help="where the servers keep their data and logs")
    what.add_argument("--prepare", action="store_true", help="fetch the servers and make their start-up archives, then end")
    parser.add_argument("--kafka-port", type=int, default=0, help="default: a free one")
    parser.add_argument("--kafka-controller-port", type=int, default=0, help="default: a free one")
    parser.add_argument("--registry-port", type=int, default=0, help="default: a free one")
    return parser.parse_args()


async def serve(given: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    with claimed(given.data_dir.resolve()) as data_dir:
        broker = Kafka(data_dir, given.kafka_port or free_port(), given.kafka_controller_port or free_port())
        schemas = Registry(data_dir, given.registry_port or free_port())
        database = Postgres(data_dir)
        async with running([broker, schemas, database], report=lambda line: print(line, file=sys.stderr)):
            print(f"KAFKA_BOOTSTRAP_SERVERS={broker.bootstrap}")
            print(f"SCHEMA_REGISTRY_URL={schemas.url}")
            print(f"DATABASE_URL={database.uri}", flush=True)
            await stopped.wait()


async def prepare() -> None:
    """Fetches what the lock files name and records the start-up archives that are not there yet."""
    with tempfile.TemporaryDirectory(prefix="soma-prepare-") as scratch:
        for name, program, server in (
            ("Kafka", kafka.program(), Kafka(Path(scratch), free_port(), free_port(), record=True)),
            ("the schema registry", registry.program(), Registry(Path(scratch), free_port(), record=True)),
        ):
            if not program.startup_archive.exists():
                print(f"Preparing {name} for fast starts (once, about 20 s)", flush=True)
                await server.start()
                await server.stop(timeout=300)
                program.recorded_archive.rename(program.startup_archive)


def main() -> int:
    given = _arguments()
    try:
        asyncio.run(prepare() if given.prepare else serve(given))
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
