"""Reading the log of a cluster that is not quite there."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from ops import log
from ops.log import LogUnavailable


def answering(*answers: Any) -> Any:
    """A call that is answered so, one time after the other."""
    left = iter(answers)

    def call() -> Any:
        answer = next(left)
        if isinstance(answer, int):
            raise KafkaException(KafkaError(answer))
        return answer

    return call


def test_a_partition_that_has_no_leader_yet_is_asked_again() -> None:
    leaderless = KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE
    assert log._answer(answering(*leaderless, "here")) == "here"


def test_whatever_else_is_wrong_is_said_at_once() -> None:
    with pytest.raises(LogUnavailable, match="KAFKA_BOOTSTRAP_SERVERS"):
        log._answer(answering(KafkaError.TOPIC_AUTHORIZATION_FAILED, "never asked for"))
