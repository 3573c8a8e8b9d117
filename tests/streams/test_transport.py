"""The consumer of a worker."""

from ops import kafka
from ops.settings import Settings
from streams.worker import Worker, build


async def test_a_worker_does_not_let_a_broker_hold_its_fetch_for_as_long_as_faust_would() -> None:
    """Given the app of a worker, when Faust makes its consumer, then that one has the bound that our other consumers have."""
    settings = Settings(kafka_bootstrap_servers="127.0.0.1:9")
    app = build(settings, Worker(settings))

    consumer = app.consumer._thread._create_worker_consumer(app.transport)

    assert consumer._fetch_max_wait_ms == kafka.FETCH_MS
    await consumer.stop()
