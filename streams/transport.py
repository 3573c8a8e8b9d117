"""Faust's consumer, with a bound on fetches that Faust has no setting for."""

from aiokafka import AIOKafkaConsumer
from faust.transport.drivers import aiokafka as driver

from ops import kafka


class _Thread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # untyped in Faust
    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = kafka.FETCH_MS  # read when it starts
        return consumer


class _Consumer(driver.Consumer):  # type: ignore[misc]
    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)


class Transport(driver.Transport):  # type: ignore[misc]
    """Set as an app's `transport`, its consumer asks brokers to answer within FETCH_MS."""

    Consumer = _Consumer
