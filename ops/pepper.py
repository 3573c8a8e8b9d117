"""The server's own secret, with which those of API keys are made and hashed: from SOMA_KEYS_PEPPER, or from a file that `soma up` makes.

All gateways of a platform share it. Whoever changes it makes every key worthless.
"""

from pathlib import Path

from ops.own_file import make_secret
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
    try:
        if path.stat().st_mode & 0o077:
            raise ValueError(f"{path} can be read by others than its owner: `chmod 600` it, and consider every key known that it made.")
        return _long_enough(path.read_bytes().strip(), f"{path} holds")
    except (FileNotFoundError, NotADirectoryError):
        return None


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
