"""Keys that are kept in Vault or OpenBao: secrets and public keys in KV version 2, and the public halves of transit keys."""

import asyncio
from base64 import b64decode
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

import hvac
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hvac.exceptions import VaultError
from joserfc.jwk import Key, OKPKey
from requests.exceptions import RequestException

from gateway.key_material import PUBLIC, jwk_key, pem_key, secret_key
from gateway.keyring import Fetched, SourceDown
from ops.settings import Settings
from ops.vault import RENEWALS, Login

AGAIN_SECONDS = 60.0
Read = Callable[[hvac.Client], list[Key]]


class Vault:
    """A Source over one login."""

    def __init__(self, settings: Settings, name: str, kinds: frozenset[str], read: Read) -> None:
        self.name, self.kinds = f"Vault {name}", kinds
        self._login, self._read = Login(settings), read
        self._busy = Lock()

    async def fetch(self) -> Fetched:
        """Raises SourceDown."""
        return await asyncio.to_thread(self._fetch)

    def _fetch(self) -> Fetched:
        """In a thread of its own, of which a Vault that is slow holds one and no more."""
        if not self._busy.acquire(blocking=False):
            raise SourceDown("it has not answered the question before")
        try:
            return self._ask()
        except (VaultError, RequestException) as error:
            raise SourceDown(f"does not give the keys: {type(error).__name__}") from error
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise SourceDown(f"answers what cannot be used: {type(error).__name__}") from error
        finally:
            self._busy.release()

    def _ask(self) -> Fetched:
        keys = self._login.ask(self._read)
        if not keys:
            raise SourceDown("holds no key that tokens could be checked with")
        return Fetched(keys, min(AGAIN_SECONDS, self._login.lease / RENEWALS) if self._login.lease else AGAIN_SECONDS)


def kv(settings: Settings, place: str) -> Vault:
    """The fields of a secret, `MOUNT/PATH`: each holds a key, and its name is the key's id."""
    mount, _, path = place.partition("/")

    def read(client: hvac.Client) -> list[Key]:
        answer = client.secrets.kv.v2.read_secret_version(path, mount_point=mount, raise_on_deleted_version=True)
        return [_field(name, value) for name, value in answer["data"]["data"].items()]

    return Vault(settings, f"KV {place}", PUBLIC | {"oct"}, read)


def transit(settings: Settings, place: str) -> Vault:
    """All versions of a transit key that may still verify, `MOUNT/NAME`: `NAME:v3` is the id of the third."""
    mount, _, name = place.partition("/")

    def read(client: hvac.Client) -> list[Key]:
        key = client.secrets.transit.read_key(name, mount_point=mount)["data"]
        oldest = key.get("min_decryption_version", 1)
        return [_version(f"{name}:v{number}", each) for number, each in key["keys"].items() if int(number) >= oldest]

    return Vault(settings, f"transit {place}", PUBLIC, read)


def _field(name: str, value: str) -> Key:
    """Raises ValueError. What looks like a public key is never taken for a secret: everybody knows it."""
    text = value.strip()
    if text.startswith("-----BEGIN"):
        return pem_key(text, name)
    if text.startswith("{"):
        return jwk_key(msgspec.json.decode(text, type=dict[str, Any]) | {"kid": name})
    return secret_key(text, name)


def _version(kid: str, described: Mapping[str, Any]) -> Key:
    """Transit writes Ed25519 keys as their bytes in base64, and others in PEM. Raises ValueError."""
    text = described["public_key"]
    if described["name"] != "ed25519":
        return pem_key(text, kid)
    key = Ed25519PublicKey.from_public_bytes(b64decode(text))
    return OKPKey(key, key, {"kid": kid})
