"""The server's own secret, with which those of API keys are made and hashed: from SOMA_KEYS_PEPPER, or from a file that `soma up` makes.

All gateways of a platform share it. Whoever changes it makes every key worthless.
"""

from pathlib import Path

from ops.own_file import make_secret, secret_in
from ops.settings import Settings

FILE = "keys.pepper"
"""In the data directory; only its owner may read it."""
LEAST = 32
"""Bytes that a pepper has at least."""


def load(settings: Settings) -> bytes | None:
    """The pepper; None where there is neither the variable nor the file. Raises ValueError for one that others can read, or too short."""
    if settings.soma_keys_pepper:
        return _long_enough(settings.soma_keys_pepper.encode(), "SOMA_KEYS_PEPPER has")
    path = settings.soma_data_dir / FILE
    text = secret_in(path)
    return None if text is None else _long_enough(text.strip().encode(), f"{path} holds")


def there(settings: Settings) -> bool:
    """Whether there is one, good or not."""
    return bool(settings.soma_keys_pepper) or (settings.soma_data_dir / FILE).exists()


def make(data_dir: Path) -> None:
    """Make the file, where there is none. Only one process at a time may do so."""
    make_secret(data_dir / FILE)


def _long_enough(pepper: bytes, where: str) -> bytes:
    if len(pepper) < LEAST:
        raise ValueError(f"{where} fewer than {LEAST} bytes: make one with `openssl rand -hex 32`, for all gateways the same.")
    return pepper
