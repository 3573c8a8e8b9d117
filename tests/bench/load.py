"""What is measured against a running platform. Times are in milliseconds."""

import asyncio
import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from ops import kafka
from ops.settings import Settings

OUTPUT = "soma.session.output"
HELLO = {"model": "echo", "input": "hello there"}


class Loop(NamedTuple):
    """A closed loop of so many sessions at a time."""

    concurrent: int
    sessions: int
    errors: int
    per_second: float
    mean: float
    p50: float
    p99: float


async def raw_hop(settings: Settings, messages: int = 400) -> float:
    """p50 of one message from an aiokafka producer to an aiokafka consumer, one at a time: what this machine gives today."""
    producer = AIOKafkaProducer(**kafka.aiokafka(settings), acks="all", enable_idempotence=True)
    consumer = AIOKafkaConsumer(**kafka.aiokafka(settings), enable_auto_commit=False)
    await asyncio.gather(producer.start(), consumer.start())
    place = TopicPartition(OUTPUT, 0)
    consumer.assign([place])
    consumer.seek(place, (await consumer.end_offsets([place]))[place])
    times = []
    for _ in range(messages):
        begun = time.perf_counter()
        await producer.send(OUTPUT, b"\x00" * 200, partition=0)
        await consumer.getone()
        times.append((time.perf_counter() - begun) * 1000)
    await asyncio.gather(producer.stop(), consumer.stop())
    return statistics.median(times)


async def sessions(url: str, concurrent: int, count: int, body: dict[str, Any] = HELLO, headers: Mapping[str, str] | None = None) -> Loop:
    """POST a session with input and wait for its last recorded reply, `count` times, so many at once."""
    times: list[float] = []
    errors = 0
    numbers = iter(range(count))

    async def caller(client: aiohttp.ClientSession) -> None:
        nonlocal errors
        for _ in numbers:
            begun = time.perf_counter()
            async with client.post(f"{url}/v1/sessions", json=body) as answer:
                said = await answer.json()
            times.append((time.perf_counter() - begun) * 1000)
            errors += answer.status != 201 or said["messages"][-1]["role"] != "assistant"

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(60)) as client:
        begun = time.perf_counter()
        await asyncio.gather(*[caller(client) for _ in range(concurrent)])
        seconds = time.perf_counter() - begun
    times.sort()
    p50, p99 = times[len(times) // 2], times[min(len(times) - 1, int(len(times) * 0.99))]
    return Loop(concurrent, count, errors, count / seconds, statistics.mean(times), p50, p99)
