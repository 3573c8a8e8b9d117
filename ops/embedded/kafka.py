"""An embedded Kafka: one node that is broker and controller, on loopback only."""

import base64
import shutil
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ops.embedded.java import Program
from ops.embedded.maven import fetch
from ops.embedded.process import Embedded, Server, require_free, run_once

_LOGGING = """\
status=error
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %c: %m%n%throwable
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
logger.started.name=kafka.server.KafkaRaftServer
logger.started.level=info
"""


@cache
def program() -> Program:
    """Kafka 4.3.1 from the lock. Raises FetchFailed."""
    return Program("512m", ("-cp", ":".join(map(str, fetch("kafka.lock")))))


class Kafka(Embedded):
    """A broker that keeps its records in `data_dir/kafka`.

    `settings` are broker properties that replace those of `_properties`. After `kill` or `stop`, `start` goes on with the same data.
    `record` makes the start-up archive of its program.
    """

    name = "Kafka"

    def __init__(
        self, data_dir: Path, port: int, controller_port: int, settings: Mapping[str, str] | None = None, *, record: bool = False
    ) -> None:
        self.bootstrap = f"127.0.0.1:{port}"
        self._ports = {"SOMA_KAFKA_PORT": port, "SOMA_KAFKA_CONTROLLER_PORT": controller_port}
        self._data_dir = data_dir
        self._records = data_dir / "kafka"
        self._settings = settings or {}
        self._record = record

    async def start(self) -> None:
        """Returns when it takes requests. Raises ServerFailed, PortInUse or FetchFailed."""
        for variable, port in self._ports.items():
            await require_free(port, variable)
        kafka = program()
        if not self._records.exists():
            await self._format(kafka)
        logging = self._configuration("kafka-logging.properties", _LOGGING)
        properties = self._configuration("kafka.properties", self._properties(self._records))
        command = kafka.command(f"-Dlog4j2.configurationFile={logging}", "kafka.Kafka", str(properties), record=self._record)
        self._server = Server(self.name, command, self._data_dir / "logs" / "kafka.log", ready="Kafka Server started")
        await self._server.start()

    async def _format(self, kafka: Program) -> None:
        """Prepares a new directory beside the final one, so that a start that was cut short leaves nothing half-made."""
        unfinished = self._records.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        properties = self._configuration("kafka-format.properties", self._properties(unfinished))
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = kafka.command("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config", str(properties))
        await run_once("Kafka's storage tool", command, self._data_dir / "logs" / "kafka-format.log")
        unfinished.rename(self._records)

    def _configuration(self, name: str, text: str) -> Path:
        path = self._data_dir / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def _properties(self, records: Path) -> str:
        port, controller_port = self._ports.values()
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(records),
            # Topics come from topics.yaml alone, and each says there how long it keeps its records.
            "auto.create.topics.enable": "false",
            "log.retention.ms": "-1",
            # One node: nothing can have more than one replica.
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # Few partitions of the broker's own topics: 50 of each cost memory and start-up time here.
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.num.partitions": "4",
            # A worker that died is noticed after 3 s, which the default of 6 s would refuse.
            "group.min.session.timeout.ms": "1000",
            "group.initial.rebalance.delay.ms": "0",
            # After a crash the broker waits until its former session is over before it may serve again.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            # Small: the defaults are for a machine of its own.
            "num.network.threads": "2",
            "num.io.threads": "4",
            "log.cleaner.dedupe.buffer.size": "16777216",
        }
        return "".join(f"{name}={value}\n" for name, value in {**properties, **self._settings}.items())
