"""Files of a process's own: written whole or not at all, and readable by their owner alone."""

import os
import secrets
from pathlib import Path

SECRET_BYTES = 32


def make_secret(path: Path) -> None:
    """A random secret in hexadecimal digits, where there is no file yet. Only one process at a time may do so."""
    if not path.exists():
        replaced(path, f"{secrets.token_hex(SECRET_BYTES)}\n".encode())


def secret_in(path: Path) -> str | None:
    """What a secret's file holds; None where there is none. Raises ValueError where it cannot be read, and where others can read it too."""
    try:
        mode, text = path.stat().st_mode, path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error
    if mode & 0o077:
        raise ValueError(f"{path} can be read by others than its owner: run `chmod 600 {path}`, and consider known what it holds.")
    return text


def replaced(path: Path, data: bytes) -> None:
    """Whole, or not at all, and there after a power cut."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
