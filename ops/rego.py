"""The policies: Rego modules and data of one directory, as OPA loads them too (`opa run --server --bundle DIR`)."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from schemas.chain import digest

SHIPPED = Path(__file__).parent / "policies"
QUESTION = "soma/gate/decision"
"""The rule that decides."""


class Policies(NamedTuple):
    """`modules`: file name → Rego. `version` changes with any byte of them or of the data."""

    modules: dict[str, str]
    data: dict[str, Any]
    version: str


def load(directory: Path | None) -> Policies:
    """The policies in the directory's `*.rego` and its `data.json`; those that are shipped for None.

    Raises ValueError where there are none or the data is no JSON object. Whether the Rego can be used is told by who compiles it.
    """
    directory = directory or SHIPPED
    try:
        modules = {path.name: path.read_text() for path in sorted(directory.glob("*.rego")) if not path.name.endswith("_test.rego")}
        text = (directory / "data.json").read_bytes()
        data = msgspec.json.decode(text, type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise ValueError(f"SOMA_POLICY_DIR: {directory} cannot be used: {error}") from error
    if not modules:
        raise ValueError(f"SOMA_POLICY_DIR: {directory} holds no .rego file.")
    return Policies(modules, data, digest(msgspec.json.encode([modules, data], order="sorted")).hex()[:12])
