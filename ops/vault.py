"""A login at Vault or OpenBao, which is kept: by a token, an AppRole, or this pod's Kubernetes account."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import hvac
from hvac.exceptions import Forbidden, VaultError

from ops.settings import Settings

REQUEST_SECONDS = 2.0
RENEWALS = 3
"""How often a lease is looked after within its time."""
T = TypeVar("T")


class Login:
    """Its lease is renewed, else it logs in anew. One thread at a time; `lease` is in seconds, 0 where it does not end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = hvac.Client(
            settings.vault_addr,
            timeout=REQUEST_SECONDS,
            verify=str(settings.vault_cacert) if settings.vault_cacert else True,
            namespace=settings.vault_namespace,
            allow_redirects=False,
        )
        self._client.token = None  # the library takes one from the environment or a file, which may not be the one that is meant
        self._renew_at, self.lease = float("-inf"), 0.0

    def ask(self, question: Callable[[hvac.Client], T]) -> T:
        """The answer, by a login that holds. Raises what hvac and requests raise."""
        self._keep()
        try:
            return question(self._client)
        except Forbidden:
            self._login()
            return question(self._client)

    def _keep(self) -> None:
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
        self.lease = float(auth["lease_duration"])
        self._renew_at = time.monotonic() + self.lease / RENEWALS if self.lease else float("inf")
