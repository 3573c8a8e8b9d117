"""The few variables that say how to reach Kafka and the registry reach every client."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import faust
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from faust.types.auth import AuthProtocol

from ops import kafka
from ops.embedded.kafka import Kafka
from ops.embedded.process import free_port
from ops.settings import Settings
from streams import worker
from tests.services import running_broker

SASL = {
    "kafka_security_protocol": "SASL_PLAINTEXT",
    "kafka_sasl_mechanism": "PLAIN",
    "kafka_sasl_username": "soma",
    "kafka_sasl_password": "correct horse",
}


def settings(**values: object) -> Settings:
    return Settings.model_validate({"kafka_bootstrap_servers": "one:9092, two:9092", "schema_registry_url": "http://registry", **values})


def test_without_credentials_each_client_gets_the_brokers_and_nothing_secret() -> None:
    given = settings()

    assert kafka.aiokafka(given)["bootstrap_servers"] == "one:9092, two:9092"
    assert kafka.aiokafka(given)["security_protocol"] == "PLAINTEXT"
    assert kafka.aiokafka(given)["ssl_context"] is None
    assert kafka.confluent(given)["bootstrap.servers"] == "one:9092, two:9092"
    assert not [name for name in kafka.confluent(given) if name.startswith(("sasl", "ssl"))]
    assert worker._broker(given) == ["kafka://one:9092", "kafka://two:9092"]
    assert worker._credentials(given) is None


def test_a_name_and_a_password_reach_each_client() -> None:
    given = settings(**SASL)

    assert kafka.aiokafka(given)["sasl_plain_password"] == "correct horse"
    assert kafka.confluent(given)["sasl.password"] == "correct horse"
    credentials = worker._credentials(given)
    assert isinstance(credentials, faust.SASLCredentials)
    assert (credentials.username, credentials.password, credentials.protocol) == ("soma", "correct horse", AuthProtocol.SASL_PLAINTEXT)


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_tls_means_that_the_brokers_certificate_and_name_are_checked(protocol: str) -> None:
    given = settings(**SASL | {"kafka_security_protocol": protocol})

    context = kafka.aiokafka(given)["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert kafka.confluent(given)["security.protocol"] == protocol
    credentials = worker._credentials(given)
    assert credentials is not None
    assert credentials.protocol == AuthProtocol[protocol]


def test_the_registrys_name_and_password_are_its_own() -> None:
    config = kafka.registry(settings(schema_registry_username="reader", schema_registry_password="pass:word"))

    assert config["url"] == "http://registry"
    assert config["basic.auth.user.info"] == "reader:pass:word"


def test_what_is_not_named_is_asked_for_by_its_variable() -> None:
    nothing = Settings()

    with pytest.raises(ValueError, match="KAFKA_BOOTSTRAP_SERVERS"):
        kafka.bootstrap(nothing)
    with pytest.raises(ValueError, match="SCHEMA_REGISTRY_URL"):
        kafka.registry(nothing)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker that lets in only `soma` with its password."""
    port, controller = free_port(), free_port()
    login = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="soma" password="correct horse"'
    guards = {
        "listeners": f"SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"SASL_PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": f'{login} user_soma="correct horse";',
    }
    with running_broker(Kafka(tmp_path_factory.mktemp("guarded"), port, controller, guards)) as broker:
        yield broker


async def test_all_three_clients_sign_in_at_a_guarded_broker(guarded: Kafka, tmp_path: Path) -> None:
    given = settings(**SASL, kafka_bootstrap_servers=guarded.bootstrap)
    admin = AdminClient(kafka.confluent(given))

    admin.create_topics([NewTopic("letters", 1, 1)])["letters"].result(20)
    async with AIOKafkaProducer(**kafka.aiokafka(given)) as producer:
        await producer.send_and_wait("letters", b"from aiokafka")
    app = faust.App("test", broker=worker._broker(given), broker_credentials=worker._credentials(given), datadir=tmp_path)
    await app.producer.start()
    await app.producer.send_and_wait("letters", None, b"from Faust", 0, None, {})
    await app.producer.stop()

    async with AIOKafkaConsumer("letters", auto_offset_reset="earliest", **kafka.aiokafka(given)) as consumer:
        assert [(await consumer.getone()).value for _ in range(2)] == [b"from aiokafka", b"from Faust"]


def test_a_wrong_password_is_refused(guarded: Kafka) -> None:
    given = settings(**SASL | {"kafka_sasl_password": "wrong"}, kafka_bootstrap_servers=guarded.bootstrap)

    with pytest.raises(KafkaException) as refused:
        AdminClient(kafka.confluent(given)).list_topics(timeout=5)
    assert refused.value.args[0].code() in (KafkaError._AUTHENTICATION, KafkaError._TRANSPORT)
