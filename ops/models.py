"""Which models there are: `echo`, and those of the file that SOMA_MODELS_FILE names."""

import os
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, TypeAdapter, ValidationError

Seconds = Annotated[int, Field(ge=1, le=3600)]


class Price(BaseModel):
    """Millionths of your currency for a million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_micros: Annotated[int, Field(ge=0, le=10**12)]
    output_micros: Annotated[int, Field(ge=0, le=10**12)]


class Model(BaseModel):
    """One model. Without `base_url` it is the built-in echo; else any server that speaks OpenAI's chat completions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]
    base_url: HttpUrl | None = None
    model: str | None = None
    """Its name at the server, when that is another one."""
    api_key_env: str | None = None
    """The variable that holds the key: the key itself never stands in the file."""
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 1_024
    timeout_seconds: Seconds = 120
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 64
    price: Price | None = None

    @property
    def api_key(self) -> str:
        """The key, or a placeholder for servers that want none."""
        return os.environ.get(self.api_key_env, "") if self.api_key_env else "none"


ECHO = Model(name="echo", concurrency=10_000, timeout_seconds=30)


class ModelsFileError(ValueError):
    """The file cannot be used; says which file, which entry, what is wrong, and what to do."""

    def __init__(self, path: Path, wrong: str) -> None:
        super().__init__(f"SOMA_MODELS_FILE {path} {wrong}\nCorrect it, or unset the variable to have `echo` alone.")


def load(path: Path | None) -> dict[str, Model]:
    """Models by name, in the file's order after `echo`. Raises ModelsFileError."""
    if path is None:
        return {ECHO.name: ECHO}
    try:
        listed = TypeAdapter(list[Model]).validate_python(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise ModelsFileError(path, f"cannot be read: {error}") from error
    except ValidationError as error:
        wrong = [f"  entry {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ModelsFileError(path, "\n".join(["is not a list of models:", *wrong])) from None
    _check(path, listed)
    return {model.name: model for model in [ECHO, *listed]}


def _check(path: Path, listed: list[Model]) -> None:
    names = [ECHO.name, *(model.name for model in listed)]
    wrong = [f"  {name}: the name is taken" for name in {name for name in names if names.count(name) > 1}]
    wrong += [f"  {m.name}: base_url is missing" for m in listed if m.base_url is None]
    wrong += [f"  {m.name}: the variable {m.api_key_env} is not set" for m in listed if m.api_key_env and not m.api_key]
    if wrong:
        raise ModelsFileError(path, "\n".join(["cannot be used:", *wrong]))
