"""Consumer groups on a cluster that nobody has asked for one yet."""

import logging

import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka.admin import AdminClient, NewTopic

from ops import groups, kafka
from ops.embedded.kafka import Kafka
from ops.settings import Settings


async def test_once_a_new_cluster_has_settled_nobody_who_joins_is_turned_away(own_kafka: Kafka, caplog: pytest.LogCaptureFixture) -> None:
    # given
    settings = Settings(kafka_bootstrap_servers=own_kafka.bootstrap)
    admin = AdminClient(kafka.confluent(settings))
    admin.create_topics([NewTopic("letters", 1, 1)])["letters"].result(20)
    await groups.settle(settings)
    # when
    with caplog.at_level(logging.WARNING, "aiokafka"):
        for group in (groups.WORKER, groups.EXECUTOR, groups.PROJECTOR, groups.RELATIONS):
            async with AIOKafkaConsumer("letters", group_id=group, **kafka.aiokafka(settings)) as consumer:
                await consumer.committed(next(iter(consumer.assignment())))
    # then
    assert caplog.messages == []


async def test_a_cluster_that_does_not_answer_holds_nobody_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "SECONDS", 0.5)
    await groups.settle(Settings(kafka_bootstrap_servers="127.0.0.1:1"))
