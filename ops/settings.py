"""Everything that can be set, read once from the environment by each process's wiring function."""

import json
import os
import sys
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Port = Annotated[int, Field(ge=1, le=65535)]


def _listed(value: object) -> object:
    return [part for part in map(str.strip, value.split(",")) if part] if isinstance(value, str) else value


Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
"""Texts with commas between them."""
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_listed)]
"""Addresses and networks (`10.0.0.0/8`) with commas between them."""


PLACE = r"^[^/\s]+(/[^/\s]+)+$"
"""A place in a Vault: the mount of its engine, and what lies there."""
SIGN_IN = ("gateway_require_auth", "gateway_jwt_secret", "gateway_jwt_issuer", "gateway_jwt_vault_kv", "gateway_jwt_vault_transit")
"""Each of these turns the gate on, where `soma up` would leave it open."""


def _data_dir() -> Path:
    """XDG Base Directory Specification: state that should survive a restart."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "somaagenthub"


class Settings(BaseSettings):
    """The environment as typed values. Frozen; secrets never appear in `repr`.

    Where an outside service is named, the embedded one of the same role is not started.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    # Where things are kept (embedded services, worker scratch space)
    soma_data_dir: Path = Field(default_factory=_data_dir)

    # Kafka: the system of record
    kafka_bootstrap_servers: str | None = None
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: str | None = Field(default=None, repr=False)
    kafka_ssl_cafile: Path | None = None
    kafka_ssl_certfile: Path | None = None
    kafka_ssl_keyfile: Path | None = None
    kafka_cfg_num_partitions: Annotated[int, Field(ge=1, le=1024)] = 8
    kafka_replication_factor: Annotated[int, Field(ge=1, le=9)] = 1

    # Schema registry (Confluent REST API)
    schema_registry_url: str | None = None
    schema_registry_username: str | None = None
    schema_registry_password: str | None = Field(default=None, repr=False)

    # Read model
    database_url: str | None = Field(default=None, repr=False)

    # Ports of what runs here, all on loopback
    gateway_host: str = "127.0.0.1"
    gateway_port: Port = 8010
    worker_metrics_port: Port | None = None
    projector_metrics_port: Port | None = None
    executor_metrics_port: Port | None = None
    soma_kafka_port: Port = 8092
    soma_kafka_controller_port: Port = 8093
    soma_registry_port: Port = 8081

    # Where `soma tools` finds a gateway, when that is not the one above
    soma_url: Annotated[str | None, Field(pattern=r"^https?://[^\s]+$")] = None

    # Sign-in at the gateway; `soma up` opens it on loopback where nothing of this is set
    gateway_require_auth: bool = True
    gateway_jwt_secret: str | None = Field(default=None, repr=False)
    gateway_jwt_issuer: str | None = None
    gateway_jwt_jwks_url: str | None = None
    gateway_jwt_audience: Listed = ()
    gateway_jwt_algorithms: Listed = ()
    gateway_jwt_types: Listed = ("at+jwt", "JWT")
    gateway_jwt_leeway_seconds: Annotated[int, Field(ge=0, le=300)] = 30
    gateway_jwt_keys_fresh_seconds: Annotated[float, Field(ge=1, le=86400)] = 3600.0
    gateway_jwt_tenant: str | None = None
    gateway_jwt_tenant_claims: Listed = ("tenant", "org_id")
    gateway_jwt_actor_claim: str = "sub"
    gateway_jwt_scope_claims: Listed = ("scope", "scp")
    gateway_jwt_role_claims: Listed = ("roles",)
    gateway_jwt_policy_claims: Listed = ("iss", "aud", "azp", "client_id", "groups", "acr", "amr", "auth_time")
    gateway_oidc_client_id: str | None = None  # the console's, at GATEWAY_JWT_ISSUER
    gateway_oidc_client_secret: str | None = Field(default=None, repr=False)
    gateway_oidc_scope: str = "openid"
    gateway_jwt_vault_kv: Annotated[str | None, Field(pattern=PLACE)] = None
    gateway_jwt_vault_transit: Annotated[str | None, Field(pattern=PLACE)] = None

    # Vault or OpenBao; one of the three logins
    vault_addr: str | None = None
    vault_cacert: Path | None = None
    vault_namespace: str | None = None
    vault_token: str | None = Field(default=None, repr=False)
    vault_role_id: str | None = None
    vault_secret_id: str | None = Field(default=None, repr=False)
    vault_kubernetes_role: str | None = None
    vault_kubernetes_token_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    vault_auth_mount: str | None = None

    # What the CLI shows to a gateway
    soma_token: str | None = Field(default=None, repr=False)

    # Gateway limits
    gateway_tenant_requests_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] = 120_000
    gateway_caller_requests_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] = 60_000
    gateway_failed_sign_ins_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] = 300
    gateway_trusted_proxies: Networks = ()
    gateway_body_seconds: Annotated[float, Field(gt=0, le=300)] = 30.0
    gateway_max_body_bytes: Annotated[int, Field(ge=1024, le=8 << 20)] = 256 << 10
    gateway_max_in_flight: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    gateway_tenant_max_in_flight: Annotated[int, Field(ge=1, le=100_000)] = 800
    gateway_tenant_max_sessions: Annotated[int, Field(ge=1, le=1_000_000)] = 2_000  # at work at once
    gateway_wait_seconds: Annotated[float, Field(gt=0, le=300)] = 30.0

    # The audit: whose it is where nobody was proved, and what a gateway keeps of it while Kafka is down
    soma_audit_tenant: Annotated[str, Field(min_length=1, max_length=128)] = "default"
    gateway_audit_spool_bytes: Annotated[int, Field(ge=1 << 12, le=1 << 34)] = 64 << 20

    # API keys: what their secrets are made and hashed with (ops/pepper.py)
    soma_keys_pepper: str | None = Field(default=None, repr=False)
    # What commands are signed with: keys in hexadecimal, the first of them signs
    soma_command_key: Annotated[Listed, Field(repr=False)] = ()

    # Sealed text (docs/erasure.md): where its keys are
    soma_seal: Literal["off", "local", "vault"] = "off"
    soma_seal_master: Path | None = None  # with "local"
    soma_seal_transit: Annotated[str, Field(pattern=r"^[^/\s]+(/[^/\s]+)*$")] = "transit"  # with "vault": the engine's mount

    # Policies
    soma_policy_dir: Path | None = None
    soma_policy_tenant: Annotated[str, Field(min_length=1, max_length=128)] = "default"  # whose published policies are the platform's
    opa_url: Annotated[str | None, Field(pattern=r"^https?://[^/\s@]+/?$")] = None
    opa_token: str | None = Field(default=None, repr=False)
    policy_fail_open: bool = False
    policy_seconds: Annotated[float, Field(gt=0, le=10)] = 0.5

    # Relations: who may see and change what is another's (docs/relations.md); OpenFGA decides where it is named
    gateway_relations: Literal["off", "on"] = "off"
    gateway_relations_seconds: Annotated[float, Field(gt=0, le=10)] = 1.0
    openfga_api_url: Annotated[str | None, Field(pattern=r"^https?://[^/\s@]+/?$")] = None
    openfga_api_token: str | None = Field(default=None, repr=False)
    openfga_store: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{3,64}$")] = "soma"

    # Models
    soma_models_file: Path | None = None

    # Tools
    soma_secrets_dir: Path | None = None
    soma_artifacts_url: str | None = None
    soma_tool_private_hosts: Listed = ()
    soma_tool_mcp_commands: Listed = ()
    soma_http_get_hosts: Listed = ()
    soma_tool_max_result_bytes: Annotated[int, Field(ge=1024, le=64 << 20)] = 8 << 20
    soma_tool_python_memory_bytes: Annotated[int, Field(ge=64 << 20)] = 512 << 20

    # Sessions
    session_idle_seconds: Annotated[int, Field(ge=1, le=366 * 86400)] = 30 * 86400
    soma_tenant_budgets: bool = False

    # Telemetry
    otel_exporter_otlp_endpoint: str | None = None
    soma_log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    # The name under which this cluster appends records (`origin`)
    soma_origin: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")] = "local"

    @property
    def on_loopback(self) -> bool:
        """Whether the gateway can be reached from this machine alone."""
        try:
            return ip_address(self.gateway_host).is_loopback
        except ValueError:
            return self.gateway_host == "localhost"

    @property
    def url(self) -> str:
        """Where a caller on this machine finds the gateway."""
        host = "127.0.0.1" if self.gateway_host == "0.0.0.0" else self.gateway_host  # noqa: S104 - compared, not bound
        return self.soma_url or f"http://{host}:{self.gateway_port}"


class NotConfigured(ValueError):
    """A service that this process needs is named by no variable."""


RUNNING = "running.json"
"""In the data directory of a platform that runs: where its embedded services are, by variable."""


def load(*, beside_running: bool = True) -> Settings:
    """The settings of this process. What no variable names is taken from the platform that `soma up` runs in the same data directory.

    Ends the process with exit code 2 after one message that lists every wrong or missing variable.
    """
    try:
        settings = Settings()
        return settings.model_copy(update=_running(settings)) if beside_running else settings
    except ValidationError as error:
        lines = [f"  {str(e['loc'][0]).upper()}: {e['msg']}{_given(str(e['loc'][0]), e['input'])}" for e in error.errors()]
        print("The settings cannot be used:", *lines, "Correct these environment variables and start again.", sep="\n", file=sys.stderr)
        raise SystemExit(2) from None


def _given(name: str, value: object) -> str:
    """What a variable holds, if that may be shown."""
    return f" (got {value!r})" if Settings.model_fields[name].repr else ""


def _running(settings: Settings) -> dict[str, str]:
    try:
        addresses: dict[str, str] = json.loads((settings.soma_data_dir / RUNNING).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {name.lower(): address for name, address in addresses.items() if not getattr(settings, name.lower())}
