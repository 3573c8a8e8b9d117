"""The first key: where callers have to sign in and nobody can yet, who can reach Kafka and has the pepper issues one past the gateway."""

import secrets
from collections.abc import Sequence

from gateway.operator import NotDone, Order, decided, refused, who
from gateway.secret import Pepper, Wish
from ops import pepper
from ops.settings import Settings
from schemas.ids import derived_id
from schemas.types.access import AccessCommand, AccessEvent, IssueKey


def bootstrap(settings: Settings, tenant: str, name: str, scopes: Sequence[str]) -> str:
    """Issue a key, and wait until that is on record. Its secret. Raises NotDone, LogUnavailable, RegistryDown, NotRegistered."""
    if (root := pepper.load(settings)) is None:
        raise NotDone("There is no pepper: set SOMA_KEYS_PEPPER as the gateways have it, or SOMA_DATA_DIR to where `soma up` runs.")
    made, wish = Pepper(root), Wish(tenant, who(), "soma keys bootstrap", secrets.token_hex(16))
    key = made.key(wish)
    secret = made.secret(key, wish)
    body = IssueKey(key=key, name=name, hash=made.hash(secret), pepper=made.name, scopes=tuple(sorted(set(scopes))))
    if why := refused(decided(settings, Order("access", key, derived_id(*wish), tenant, body, AccessCommand, AccessEvent))):
        raise NotDone(f"It was refused: {why}")
    return secret
