"""Faults of the log itself: the broker dies, strangers write to topics, records are large, come again, or lie elsewhere than before."""

import asyncio
from collections.abc import Iterable

import httpx
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from ops import kafka, topics
from ops.embedded.kafka import Kafka
from projections.session import EVENTS
from schemas.ids import new_id
from schemas.registry import Registry
from streams.services import DEAD_LETTER
from streams.session import SESSION
from tests.faults.client import body_of
from tests.faults.cluster import ALTERED, until
from tests.faults.conftest import PARTITIONS, Trial, rounds

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
POISON = (b"", b"no framing", b"\x00\x00\x00\x00\x00garbage", b"\x00\x00\x0f\x42\x40of no schema", None)
LARGE = 100 << 10


@rounds(short=1)
async def test_the_broker_is_killed(trial: Trial, rounds: int, module_kafka: Kafka) -> None:
    async with trial.load() as load:
        for _ in range(rounds):
            await load.goes_on(trial.random.randrange(20, 120))
            fault = trial.journal.fault("SIGKILL broker")
            module_kafka.kill()
            trial.random.choice(trial.cluster.workers).kill()  # its next life begins without a broker
            await asyncio.sleep(trial.random.uniform(0, 4))
            await module_kafka.start()
            await load.recovers(fault, PARTITIONS)


@rounds(short=1)
async def test_strangers_write_to_the_topics(trial: Trial, rounds: int) -> None:
    log, void, dead = trial.audit.log, trial.audit.record.void, trial.audit.ends(DEAD_LETTER)[0]
    async with trial.load() as load:
        for _ in range(rounds):
            # given bytes that nobody can read, among the commands
            write(trial, SESSION.commands, [(number, new_id(number).encode(), value) for number in range(PARTITIONS) for value in POISON])
            # and events that are repeated, or garbage, while the worker goes on to write
            for number, end in trial.audit.ends(EVENTS).items():
                copied = log.read(EVENTS, number, max(end - 3, 0), end)
                write(trial, EVENTS, [(number, b"", b"garbage"), *((number, record.key, record.value) for record in copied)])
            fault = trial.journal.fault("strangers")
            await load.recovers(fault, PARTITIONS)
    kept = list(log.values(DEAD_LETTER, 0, dead, trial.audit.ends(DEAD_LETTER)[0]))
    assert sorted(value for _, value in kept) == sorted((value or b"") for value in POISON * PARTITIONS * rounds)
    refused = [each for outcomes in trial.audit.record.outcomes.values() for each in outcomes if each.refused == "unreadable"]
    assert len(refused) >= len(kept)
    assert trial.audit.record.void > void


@rounds(short=1)
async def test_groups_of_commands_are_larger_than_a_batch_may_be(trial: Trial, rounds: int) -> None:
    for _ in range(rounds):
        # given workers that are away while large commands gather
        await asyncio.gather(*[worker.stop() for worker in trial.cluster.workers])
        before = trial.audit.ends(SESSION.commands)
        async with trial.load(callers=48, text="x" * LARGE, warm=False):
            waiting = (2 << 20) // LARGE * PARTITIONS // 2
            await until(lambda: sum(trial.audit.ends(SESSION.commands).values()) >= sum(before.values()) + waiting, "commands wait")  # noqa: B023
            fault = trial.journal.fault("more than 1 MiB waits")
            await trial.cluster.settle()
        assert fault.answers


@rounds(short=1)
async def test_the_commands_are_delivered_again(trial: Trial, rounds: int) -> None:
    group = AdminClient(kafka.confluent(trial.settings))
    async with trial.load() as load:
        beginning = [TopicPartition(SESSION.commands, number, 0) for number in range(PARTITIONS)]
        for _ in range(rounds):
            # when the group's offsets are put back to the beginning, which takes that nobody is in it
            await asyncio.gather(*[worker.stop() for worker in trial.cluster.workers])
            await until(lambda: rewound(group, beginning), "the offsets are put back")
            fault = trial.journal.fault("rewound")
            await trial.cluster.settle()
            await load.recovers(fault, PARTITIONS)


@rounds(short=1)
async def test_the_commands_are_produced_again(trial: Trial, rounds: int) -> None:
    log = trial.audit.log
    async with trial.load() as load:
        for _ in range(rounds):
            await load.goes_on(100)
            fault = trial.journal.fault("produced again")
            for number, end in trial.audit.ends(SESSION.commands).items():
                records = log.read(SESSION.commands, number, max(end - 500, 0), end)
                write(trial, SESSION.commands, [(number, record.key, record.value) for record in records])
            await load.recovers(fault, PARTITIONS)


@rounds(short=1, long=1)
async def test_partitions_are_raised(trial: Trial, rounds: int) -> None:
    """The last of this module: nothing lowers them again."""
    cluster, settings = trial.cluster, trial.cluster.settings
    wanted = 2 * settings.kafka_cfg_num_partitions
    await cluster.gateway.destroy()
    cluster.gateway.keep([{"module": ALTERED, "SOMA_SETTLE_SECONDS": "2"}])
    await cluster.healthy()
    async with trial.load() as load:
        await load.goes_on(100 * rounds)
        old = [each for each in trial.journal.operations if each.kind == "start" and each.done]
        # when the topics get more partitions while sessions are at work
        cluster.settings = settings.model_copy(update={"kafka_cfg_num_partitions": wanted})
        fault = trial.journal.fault(f"raised to {wanted}")
        await asyncio.to_thread(lambda: list(topics.apply(cluster.settings, Registry(kafka.registry(settings)))))
        # then sessions are born in all of them, also such as come from a key
        await load.recovers(fault, wanted)
        # and a key from before still has its first answer
        async with httpx.AsyncClient(base_url=cluster.url, timeout=30) as http:
            for start in old[:20]:
                again = await http.post("/v1/sessions", json=body_of(start, ""), headers={"Idempotency-Key": start.key})
                assert (again.status_code, again.json()["id"]) == (201, start.session)
                assert again.headers["Idempotency-Replayed"] == "true"
    assert trial.report and not trial.report.failed


def write(trial: Trial, topic: str, records: Iterable[tuple[int, bytes | None, bytes | None]]) -> None:
    """As somebody who may write to every topic."""
    producer = Producer(kafka.confluent(trial.settings))
    for partition, key, value in records:
        producer.produce(topic, value, key, partition)
    assert producer.flush(10) == 0


def rewound(admin: AdminClient, places: list[TopicPartition]) -> bool:
    """Whether the group took these offsets: it does once its members are gone."""
    [done] = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions("soma-worker", places)]).values()
    try:
        return all(place.error is None for place in done.result(10).topic_partitions)
    except KafkaException:
        return False
