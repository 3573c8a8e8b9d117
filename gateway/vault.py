"""Keys that are kept in Vault or OpenBao: secrets and public keys in KV version 2, and the public halves of transit keys."""

import asyncio
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

import hvac
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hvac.exceptions import Forbidden, VaultError
from joserfc.jwk import Key, OKPKey
from requests.exceptions import RequestException

from gateway.key_material import PUBLIC, jwk_key, pem_key, secret_key
from gateway.keyring import Fetched, SourceDown
from ops.settings import Settings

REQUEST_SECONDS = 2.0
AGAIN_SECONDS = 60.0
RENEWALS = 3
"""How often a lease is looked after within its time."""
Read = Callable[[hvac.Client], list[Key]]


class Vault:
    """A Source over one login: a token, an AppRole, or this pod's Kubernetes account. Its lease is renewed, else it logs in anew."""

    def __init__(self, settings: Settings, name: str, kinds: frozenset[str], read: Read) -> None:
        self.name, self.kinds = f"Vault {name}", kinds
        self._settings, self._read = settings, read
        self._client = hvac.Client(
            settings.vault_addr,
            timeout=REQUEST_SECONDS,
            verify=str(settings.vault_cacert) if settings.vault_cacert else True,
            namespace=settings.vault_namespace,
            allow_redirects=False,
        )
        self._client.token = None  # the library takes one from the environment or a file, which may not be the one that is meant
        self._renew_at, self._lease = float("-inf"), 0.0
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
        self._keep_login()
        try:
            keys = self._read(self._client)
        except Forbidden:
            self._login()
            keys = self._read(self._client)
        if not keys:
            raise SourceDown("holds no key that tokens could be checked with")
        return Fetched(keys, min(AGAIN_SECONDS, self._lease / RENEWALS) if self._lease else AGAIN_SECONDS)

    def _keep_login(self) -> None:
        if time.monotonic() < self._renew_at:
            return None
        if not self._client.token:
            return self._login()
        try:
            self._leased(self._client.auth.token.renew_self()["auth"])
        except VaultError:
            self._login()
        return None

    def _login(self) -> None:
        """With what the settings name; a Kubernetes token is read anew each time, for it is rotated too."""
        settings, mount = self._settings, self._settings.vault_auth_mount
        if settings.vault_role_id:
            answer = self._client.auth.approle.login(settings.vault_role_id, settings.vault_secret_id, mount_point=mount or "approle")
            self._leased(answer["auth"])
        elif settings.vault_kubernetes_role:
            token = settings.vault_kubernetes_token_file.read_text().strip()
            answer = self._client.auth.kubernetes.login(settings.vault_kubernetes_role, token, mount_point=mount or "kubernetes")
            self._leased(answer["auth"])
        else:
            self._client.token = settings.vault_token
            data = self._client.auth.token.lookup_self()["data"]
            self._leased({"lease_duration": data["ttl"] if data.get("renewable") else 0})

    def _leased(self, auth: Mapping[str, Any]) -> None:
        """Note when to look after it next. One without a lease does not end."""
        self._lease = float(auth["lease_duration"])
        self._renew_at = time.monotonic() + self._lease / RENEWALS if self._lease else float("inf")


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
