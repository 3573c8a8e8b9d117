"""How to reach Kafka and the registry, for each of the clients, from the same few settings."""

import ssl
from typing import Any

from ops.settings import NotConfigured, Settings

METADATA_MS = 3_000
"""New partitions are noticed within this time; a producer that knows fewer refuses to send to them."""
FETCH_MS = 50
"""How long a broker may hold the fetch of a consumer of many partitions, where it has nothing for it.

aiokafka has one fetch at a time under way to a broker, and leaves out of it the partitions whose last records are not taken yet. What comes
to those waits until that fetch is over: half a second by default, one and a half in Faust.
"""


def bootstrap(settings: Settings) -> str:
    """The brokers. Raises NotConfigured when none are named."""
    if not settings.kafka_bootstrap_servers:
        raise NotConfigured("KAFKA_BOOTSTRAP_SERVERS is not set: name a broker, or run `soma up`, which starts one.")
    return settings.kafka_bootstrap_servers


def aiokafka(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for aiokafka's clients."""
    return {
        "bootstrap_servers": bootstrap(settings),
        "security_protocol": settings.kafka_security_protocol,
        "sasl_mechanism": settings.kafka_sasl_mechanism or "PLAIN",
        "sasl_plain_username": settings.kafka_sasl_username,
        "sasl_plain_password": settings.kafka_sasl_password,
        "ssl_context": tls(settings),
        "metadata_max_age_ms": METADATA_MS,
    }


def consumer(settings: Settings) -> dict[str, Any]:
    """The same for a consumer of many partitions, which knows by itself how far it has come."""
    return {**aiokafka(settings), "enable_auto_commit": False, "fetch_max_wait_ms": FETCH_MS}


def confluent(settings: Settings) -> dict[str, Any]:
    """Configuration of librdkafka (confluent-kafka)."""
    values = {
        "bootstrap.servers": bootstrap(settings),
        "security.protocol": settings.kafka_security_protocol,
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": settings.kafka_sasl_password,
        "ssl.ca.location": settings.kafka_ssl_cafile,
        "ssl.certificate.location": settings.kafka_ssl_certfile,
        "ssl.key.location": settings.kafka_ssl_keyfile,
        "topic.metadata.refresh.interval.ms": METADATA_MS,
        "log_level": 3,
    }
    return {key: str(value) if not isinstance(value, int) else value for key, value in values.items() if value is not None}


def registry(settings: Settings) -> dict[str, Any]:
    """Configuration of confluent-kafka's SchemaRegistryClient. Raises NotConfigured when no registry is named."""
    if not settings.schema_registry_url:
        raise NotConfigured("SCHEMA_REGISTRY_URL is not set: name a registry, or run `soma up`, which starts one.")
    config: dict[str, Any] = {"url": settings.schema_registry_url, "timeout": 5, "max.retries": 1}
    if settings.schema_registry_username:
        config["basic.auth.user.info"] = f"{settings.schema_registry_username}:{settings.schema_registry_password or ''}"
    return config


def tls(settings: Settings) -> ssl.SSLContext | None:
    """What TLS connections are checked with; None where the protocol has no TLS."""
    if settings.kafka_security_protocol in ("PLAINTEXT", "SASL_PLAINTEXT"):
        return None
    context = ssl.create_default_context(cafile=settings.kafka_ssl_cafile)
    if settings.kafka_ssl_certfile:
        context.load_cert_chain(settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile)
    return context
