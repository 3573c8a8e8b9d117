"""The environment is read once, checked whole, and never shows a secret."""

import re
from pathlib import Path

import pytest

from ops.settings import Settings, load


def test_everything_has_a_default_that_works_on_one_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    settings = load()

    assert settings.soma_data_dir == tmp_path / "somaagenthub"
    assert settings.gateway_host == "127.0.0.1"
    assert (settings.kafka_bootstrap_servers, settings.schema_registry_url, settings.database_url) == (None, None, None)


def test_variables_are_read_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    monkeypatch.setenv("GATEWAY_PORT", "9000")

    assert load().kafka_bootstrap_servers == "kafka:9092"
    assert load().gateway_port == 9000


def test_a_variable_that_is_set_to_nothing_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")

    assert load().database_url is None


def test_every_wrong_variable_is_named_in_one_message_and_the_process_ends_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "eighty")
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "NONE")

    with pytest.raises(SystemExit) as ended:
        load()

    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "GATEWAY_PORT" in said
    assert "KAFKA_SECURITY_PROTOCOL" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["kafka_sasl_password", "schema_registry_password", "database_url"])
def test_a_secret_is_not_in_what_is_printed_of_the_settings(name: str) -> None:
    settings = Settings.model_validate({name: "postgresql://soma:hunter2@db/soma"})

    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings)


SECRETS = (
    "KAFKA_SASL_PASSWORD",
    "SCHEMA_REGISTRY_PASSWORD",
    "DATABASE_URL",
    "GATEWAY_JWT_SECRET",
    "VAULT_TOKEN",
    "VAULT_SECRET_ID",
    "SOMA_TOKEN",
)


def test_no_secret_shows_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "canary")
    assert "canary" not in repr(Settings())


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("soma", False)],
)
def test_loopback_is_known_in_each_spelling(host: str, local: bool) -> None:
    assert Settings(gateway_host=host).on_loopback is local


def test_the_operations_page_has_every_variable_and_no_other() -> None:
    # given
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    tables = page[page.index("## Settings") : page.index("## Health")]
    named = [line.split("|")[1] for line in tables.splitlines() if line.startswith("| `")]
    variable = re.compile(r"`([A-Z_]+)`")
    # then
    there_are = {name.upper() for name in Settings.model_fields}
    assert there_are - set(variable.findall(tables)) == set()
    assert set(variable.findall(" ".join(named))) - there_are == set()
