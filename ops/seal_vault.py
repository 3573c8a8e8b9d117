"""Data keys in Vault or OpenBao: none is ever stored by us.

A subject has a key of the transit engine, which never leaves it, and a data key is what that one's HMAC makes of a constant. A version of
it that was trimmed is gone from the engine, and with it the data key.
"""

import base64
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from threading import Lock
from typing import Any, NamedTuple, Self, TypeVar

import hvac
from hvac.exceptions import InvalidPath, VaultError
from requests.exceptions import RequestException

from ops.seal import BadSeal, Erased, KeysDown
from ops.settings import Settings
from ops.vault import Login

NAMES = "soma-names"
"""The key that names are made with. It is never destroyed."""
DATA_KEY = b"soma data key 1"
REMEMBERED = 10_000
T = TypeVar("T")


class _Versions(NamedTuple):
    """Of a transit key: the oldest one that was not trimmed, and the newest."""

    oldest: int
    newest: int


class VaultKeys:
    """Keys in the transit engine: `soma-NAME`, whose versions count as ours do. One question at a time."""

    def __init__(self, settings: Settings) -> None:
        self._mount, self._login, self._turn = settings.soma_seal_transit, Login(settings), Lock()
        self._name = lru_cache(REMEMBERED)(self._named)

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Raises BadSeal where no Vault is named."""
        if not settings.vault_addr:
            raise BadSeal("SOMA_SEAL is vault, and VAULT_ADDR names none.")
        return cls(settings)

    def newest(self, tenant: str, subject: str) -> str:
        name = self._name(tenant, subject)
        described = self._described(name)
        if described is None:
            self._ask(lambda client: client.secrets.transit.create_key(f"soma-{name}", mount_point=self._mount))
            described = self._described(name)
        if described is None:
            raise KeysDown(f"Vault did not make the key soma-{name}.")
        return f"{name}.{described.newest}"

    def secret(self, key_id: str) -> bytes:
        name, _, version = key_id.partition(".")
        if not (name.isalnum() and version.isdecimal()):
            raise Erased(key_id[:64])  # none that was made here
        try:
            return self._hmac(f"soma-{name}", DATA_KEY, int(version))
        except KeysDown:
            if self._alive(name, int(version)):
                raise
            raise Erased(key_id) from None

    def destroy(self, tenant: str, subject: str) -> tuple[str, ...]:
        name = self._name(tenant, subject)
        if (described := self._described(name)) is None:
            return ()
        self._ask(lambda client: _trimmed(client, f"soma-{name}", described.newest + 1, self._mount))
        return tuple(f"{name}.{version}" for version in range(max(described.oldest, 1), described.newest + 1))

    def check(self) -> None:
        self._described(NAMES.removeprefix("soma-"))

    def _named(self, tenant: str, subject: str) -> str:
        self._ask(lambda client: client.secrets.transit.create_key(NAMES, mount_point=self._mount))  # nothing where it is there
        return self._hmac(NAMES, f"{tenant}\0{subject}".encode(), 1)[:16].hex()

    def _hmac(self, name: str, data: bytes, version: int) -> bytes:
        text = base64.b64encode(data).decode()

        def question(client: hvac.Client) -> bytes:
            answer = client.secrets.transit.generate_hmac(
                name, hash_input=text, key_version=version, algorithm="sha2-256", mount_point=self._mount
            )
            secret = base64.b64decode(answer["data"]["hmac"].rpartition(":")[2])
            if len(secret) != sha256().digest_size:
                raise ValueError("this is no HMAC")
            return secret

        return self._ask(question)

    def _alive(self, name: str, version: int) -> bool:
        described = self._described(name)
        return described is not None and described.oldest <= version <= described.newest

    def _described(self, name: str) -> _Versions | None:
        """Which versions of the key the engine has; None where there is none."""
        try:
            return self._ask(lambda client: _versions(client.secrets.transit.read_key(f"soma-{name}", mount_point=self._mount)))
        except _NoSuchKey:
            return None

    def _ask(self, question: Callable[[hvac.Client], T]) -> T:
        with self._turn:
            try:
                return self._login.ask(question)
            except (VaultError, RequestException, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
                if isinstance(error, InvalidPath) and error.errors == []:
                    raise _NoSuchKey("Vault has no such key.") from error
                raise KeysDown(f"Vault does not give the keys of sealed text: {type(error).__name__}.") from error


class _NoSuchKey(KeysDown):
    """404, by the engine itself, which complains of nothing then; somebody else's 404, or that of another mount, tells of no key."""


def _versions(answer: Any) -> _Versions:
    """Raises what is raised by an answer that is none."""
    described = answer["data"]
    return _Versions(int(described.get("min_available_version", 0)), int(described["latest_version"]))


def _trimmed(client: hvac.Client, name: str, version: int, mount: str) -> None:
    """Only this version is left of the key, and it is new."""
    transit = client.secrets.transit
    transit.rotate_key(name, mount_point=mount)
    oldest = {"min_decryption_version": version, "min_encryption_version": version}  # which the library takes for a mistake
    client.write_data(f"{mount}/keys/{name}/config", data=oldest)
    transit.trim_key(name, version, mount_point=mount)
