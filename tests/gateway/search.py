"""All that a platform keeps, as bytes: to look for what must not be there."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
from confluent_kafka.admin import AdminClient

from ops import kafka
from ops.log import Log
from ops.settings import Settings


def topics(settings: Settings) -> Iterator[tuple[str, bytes]]:
    """All that lies in each topic: keys, values and headers."""
    log = Log(kafka.confluent(settings))
    for topic in AdminClient(kafka.confluent(settings)).list_topics(timeout=10).topics:
        found = bytearray()
        for partition in range(log.partitions(topic)):
            for record in log.read(topic, partition, *log.bounds(topic, partition)):
                found += b"\n".join([record.key or b"", record.value or b"", *(value or b"" for _, value in record.headers)])
        yield f"topic {topic}", bytes(found)


def tables(settings: Settings) -> Iterator[tuple[str, bytes]]:
    """All that the read model holds, bytes as they are."""
    with psycopg.connect(settings.database_url or "", options="-csearch_path=read_model") as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'read_model'").fetchall()
        for (name,) in names:
            rows = connection.execute(f'SELECT * FROM "{name}"').fetchall()
            yield f"table {name}", b"\n".join(value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row)


def files(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below it."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield f"file {path.relative_to(directory)}", path.read_bytes()
