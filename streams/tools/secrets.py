"""Secrets that definitions name and never hold: `${secret:NAME}` in a header's value."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

NAMED = re.compile(r"\$\{secret:([A-Z][A-Z0-9_]{0,63})\}")


class MissingSecret(LookupError):
    """No usable value is there for the name; says where one is looked for."""


class Secrets:
    """Looks a secret up each time it is used, so that a changed one is used at once. First SOMA_SECRET_<NAME>, then <directory>/<NAME>."""

    def __init__(self, directory: Path | None = None, environment: Mapping[str, str] = os.environ) -> None:
        self._directory, self._environment = directory, environment

    def filled(self, values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """The values with secrets in their places, and the secrets used, by name. Raises MissingSecret."""
        used = {name: self._value(name) for value in values.values() for name in NAMED.findall(value)}
        return {key: NAMED.sub(lambda match: used[match[1]], value) for key, value in values.items()}, used

    def _value(self, name: str) -> str:
        value = self._environment.get(f"SOMA_SECRET_{name}") or self._from_file(name)
        if not value:
            raise MissingSecret(f"the secret {name} is not there: set SOMA_SECRET_{name}, or write the file {name} in SOMA_SECRETS_DIR")
        if not (value.isascii() and value.isprintable()):
            raise MissingSecret(f"the secret {name} holds characters that a header cannot carry")
        return value

    def _from_file(self, name: str) -> str:
        try:
            return (self._directory / name).read_text().strip() if self._directory else ""
        except (OSError, UnicodeDecodeError):
            return ""


def hidden(content: bytes, used: Mapping[str, str]) -> bytes:
    """The content with the names of secrets where a tool gave their values back."""
    for name, value in used.items():
        for form in (value, json.dumps(value)[1:-1]):
            content = content.replace(form.encode(), f"[secret {name}]".encode())
    return content
