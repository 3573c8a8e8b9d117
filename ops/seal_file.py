"""Data keys as files of one machine: `DATA_DIR/seal/NAME/VERSION`, each wrapped by the master key. One that was destroyed is empty.

The master key lies elsewhere (`DATA_DIR/seal.key`, or SOMA_SEAL_MASTER), so that a backup of one is worthless without the other. A backup
of the data keys from before an erasure brings them back only as long as it meets the master key of that time: `rotate` makes another.
"""

import fcntl
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from ops.own_file import replaced, secret_in
from ops.seal import BadSeal, Erased, KeysDown
from ops.settings import Settings
from schemas.sealing import KEY_BYTES, Key, Unopenable

FILE = "seal.key"
DIRECTORY = "seal"
NAMES = "names"
"""The key that names are made with: wrapped like the others, and never destroyed."""


class FileKeys:
    """Keys on one machine. What one process writes is whole for every other: a file is renamed into its place."""

    def __init__(self, directory: Path, master: Path) -> None:
        self._directory, self._master = directory, master

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Raises BadSeal where the master key is missing, open to others, or none."""
        master = settings.soma_seal_master or settings.soma_data_dir / FILE
        _read(master)
        return cls(settings.soma_data_dir / DIRECTORY, master)

    def newest(self, tenant: str, subject: str) -> str:
        with _readable():
            name, versions = self._versions(tenant, subject)
            alive = [id for id in versions if self._file(id).stat().st_size]
            if alive:
                return alive[-1]
            with self._alone():
                id = f"{name}.{len(versions) + 1}"
                self._make(id)
                return id

    def secret(self, key_id: str) -> bytes:
        if "." not in key_id:
            raise Erased(key_id[:64])  # none that was made for a subject
        with _readable():
            return self._whole(key_id)

    def destroy(self, tenant: str, subject: str) -> tuple[str, ...]:
        with _readable():
            _, versions = self._versions(tenant, subject)
            with self._alone():
                return tuple(id for id in versions if _emptied(self._file(id)))

    def check(self) -> None:
        with _readable():
            _read(self._master)

    def rotate(self) -> int:
        """Wrap every key with a new master key, and forget the former ones. How many. Where it was stopped half way it begins again."""
        with _readable(), self._alone():
            masters = [secrets.token_bytes(KEY_BYTES), *_read(self._master)]
            replaced(self._master, "\n".join(key.hex() for key in masters).encode())
            files = {f"{path.parent.name}.{path.name}": path for path in self._directory.glob("*/*") if path.name.isdecimal()}
            whole = {id: secret for id, path in files.items() if path.stat().st_size and (secret := self._secret(id))}
            if (self._directory / NAMES).exists():
                whole[NAMES] = self._whole(NAMES)
            for id, secret in whole.items():
                replaced(self._file(id), self._wrap(id, secret))
            replaced(self._master, masters[0].hex().encode())
            return len(whole)

    def _versions(self, tenant: str, subject: str) -> tuple[str, list[str]]:
        """The subject's name, and the ids of all keys that it ever had, the newest last."""
        if not (self._directory / NAMES).exists():
            with self._alone():
                self._make(NAMES)
        name = hmac.digest(self._whole(NAMES), f"{tenant}\0{subject}".encode(), "sha256")[:16].hex()
        found = (int(path.name) for path in (self._directory / name).glob("*") if path.name.isdecimal())
        return name, [f"{name}.{version}" for version in sorted(found)]

    def _whole(self, id: str) -> bytes:
        """Looks twice, for the master key may just be replaced. Raises Erased, KeysDown."""
        if (secret := self._secret(id) or self._secret(id)) is None:
            raise KeysDown(f"The key {id} was wrapped by another master key than {self._master} holds.")
        return secret

    def _make(self, id: str) -> None:
        """Unless another process has done so before."""
        path = self._file(id)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            replaced(path, self._wrap(id, secrets.token_bytes(KEY_BYTES)))

    def _secret(self, id: str) -> bytes | None:
        """None where no master key here has wrapped it. Raises Erased."""
        try:
            wrapped = self._file(id).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise Erased(id) from None
        if not wrapped:
            raise Erased(id)
        for master in _read(self._master):
            try:
                return Key("master", master).open(wrapped, id)
            except Unopenable:
                continue
        return None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other process makes, destroys or wraps keys."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._directory / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _file(self, id: str) -> Path:
        name, dot, version = id.partition(".")
        if not name.isalnum() or (dot and not version.isdecimal()):
            raise Erased(id[:64])  # none that was made here
        return self._directory / name / version if dot else self._directory / name

    def _wrap(self, id: str, secret: bytes) -> bytes:
        return Key("master", _read(self._master)[0]).seal(secret, id)


def make(settings: Settings) -> None:
    """The master key, where there is none yet: readable by its owner alone."""
    path = settings.soma_seal_master or settings.soma_data_dir / FILE
    if not path.exists():
        replaced(path, secrets.token_hex(KEY_BYTES).encode())


@contextmanager
def _readable() -> Iterator[None]:
    """What goes wrong with files, in a process that was well when it started."""
    try:
        yield
    except (OSError, BadSeal) as error:
        raise KeysDown(f"The keys of sealed text cannot be read: {error}") from error


def _read(path: Path) -> list[bytes]:
    """The master keys: the first wraps, others are there while they are replaced. Raises BadSeal."""
    try:
        text = secret_in(path)
    except ValueError as error:
        raise BadSeal(str(error)) from error
    if text is None:
        raise BadSeal(f"{path}: there is no master key. `soma up` makes one, or `openssl rand -hex 32`.")
    try:
        keys = [bytes.fromhex(word) for word in text.split()]
    except ValueError:  # its text may show the key
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise BadSeal(f"{path}: a master key is {2 * KEY_BYTES} hexadecimal digits, as `openssl rand -hex 32` writes them.")
    return keys


def _emptied(path: Path) -> bool:
    """Whether there was something. It is written over before it is cut off: what a file system keeps of it then is its own affair."""
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        file.write(secrets.token_bytes(size))
        file.flush()
        os.fsync(file.fileno())
        file.truncate(0)
        os.fsync(file.fileno())
    return size > 0
