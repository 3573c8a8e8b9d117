"""The models file: what it may say, and what is said of one that cannot be used."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from ops.models import ECHO, ModelsFileError, load

OLLAMA = "- {name: llama, base_url: 'http://127.0.0.1:11434/v1', model: llama3.2, max_tokens: 256, timeout_seconds: 60, concurrency: 2}"


def file(path: Path, text: str) -> Path:
    path = path / "models.yaml"
    path.write_text(text)
    return path


def test_without_a_file_there_is_echo() -> None:
    assert load(None) == {"echo": ECHO}


def test_models_of_the_file_come_after_echo(tmp_path: Path) -> None:
    models = load(file(tmp_path, OLLAMA))
    assert list(models) == ["echo", "llama"]
    assert (str(models["llama"].base_url), models["llama"].max_tokens) == ("http://127.0.0.1:11434/v1", 256)


def test_a_key_stands_in_its_variable_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_KEY", "secret")
    model = load(file(tmp_path, "- {name: m, base_url: 'http://127.0.0.1:1', api_key_env: LLM_KEY}"))["m"]
    assert model.api_key == "secret"
    assert "secret" not in repr(model)


def test_a_model_does_not_change() -> None:
    with pytest.raises(ValidationError):
        ECHO.name = "other"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {", "cannot be read"),
        ("text", "not a list of models"),
        ("- {name: m, base_url: 'http://h', colour: red}", "0.colour"),
        ("- {name: 'a b', base_url: 'http://h'}", "0.name"),
        (f"{OLLAMA}\n- {{name: m, base_url: 'http://h', max_tokens: 0}}", "1.max_tokens"),
        ("- {name: m}", "m: base_url is missing"),
        (f"{OLLAMA}\n{OLLAMA}", "llama: the name is taken"),
        ("- {name: echo, base_url: 'http://h'}", "echo: the name is taken"),
        ("- {name: m, base_url: 'http://h', api_key_env: NO_SUCH_KEY}", "NO_SUCH_KEY is not set"),
    ],
)
def test_what_is_wrong_is_said_with_the_file_and_the_entry(tmp_path: Path, text: str, said: str) -> None:
    path = file(tmp_path, text)
    with pytest.raises(ModelsFileError, match=str(path)) as raised:
        load(path)
    assert said in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelsFileError, match="nowhere"):
        load(tmp_path / "nowhere")
