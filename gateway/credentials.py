"""Which credentials the settings say are taken here, and what is wrong with what they say."""

import asyncio
import logging
from collections.abc import Iterator

import httpx

from gateway import vault
from gateway.auth import Gate, Verifier
from gateway.issuer import Issuer, trusted
from gateway.key_material import secret_key
from gateway.keyring import Keyring, Secret, Source
from gateway.keys import Keys
from gateway.strangers import Strangers
from gateway.token import KINDS, Terms, Tokens
from ops import pepper
from ops.settings import Settings

log = logging.getLogger("soma.gateway")
OPEN = "Nobody has to sign in (GATEWAY_REQUIRE_AUTH is false): whoever reaches this address may do everything."


def sources(settings: Settings, client: httpx.AsyncClient) -> Iterator[Source]:
    """Where the keys of tokens are."""
    if settings.gateway_jwt_secret:
        yield Secret(settings.gateway_jwt_secret)
    if settings.gateway_jwt_jwks_url or settings.gateway_jwt_issuer:
        yield Issuer(client, settings.gateway_jwt_issuer, settings.gateway_jwt_jwks_url)
    if settings.gateway_jwt_vault_kv:
        yield vault.kv(settings, settings.gateway_jwt_vault_kv)
    if settings.gateway_jwt_vault_transit:
        yield vault.transit(settings, settings.gateway_jwt_vault_transit)


def terms(settings: Settings) -> Terms:
    """What tokens have to say."""
    return Terms(
        algorithms=frozenset(settings.gateway_jwt_algorithms or KINDS),
        types=frozenset(map(str.lower, settings.gateway_jwt_types)),
        issuer=settings.gateway_jwt_issuer,
        audience=settings.gateway_jwt_audience,
        leeway=settings.gateway_jwt_leeway_seconds,
        tenant=settings.gateway_jwt_tenant,
        tenant_claims=settings.gateway_jwt_tenant_claims,
        actor_claim=settings.gateway_jwt_actor_claim,
        scope_claims=settings.gateway_jwt_scope_claims,
        role_claims=settings.gateway_jwt_role_claims,
        policy_claims=frozenset(settings.gateway_jwt_policy_claims),
    )


class SignIn:
    """The gate of this gateway, and the keys behind it."""

    def __init__(self, settings: Settings, client: httpx.AsyncClient, keys: Keys) -> None:
        self.rings = [Keyring(source, settings.gateway_jwt_keys_fresh_seconds) for source in sources(settings, client)]
        tokens: list[Verifier] = [Tokens(terms(settings), self.rings)] if self.rings else []
        strangers = Strangers(settings.gateway_failed_sign_ins_per_minute, settings.gateway_trusted_proxies)
        self.gate = Gate([keys, *tokens], strangers, required=settings.gateway_require_auth)
        if not self.gate.required:
            log.warning(OPEN)

    async def run(self) -> None:
        """Keep all keys fresh."""
        await asyncio.gather(*(ring.run() for ring in self.rings))

    def status(self) -> tuple[str, str]:
        """For /health. Where keys are too old to be believed, their tokens are refused; where none is left, nobody gets in."""
        failing = [f"{ring.name}: {ring.failing}" for ring in self.rings if ring.failing]
        if failing:
            return ("down" if all(ring.stale for ring in self.rings) else "degraded"), "; ".join(failing)
        return "ok", ", ".join(ring.name for ring in self.rings) if self.gate.required else OPEN


def wrong(settings: Settings) -> Iterator[str]:
    """What of the settings cannot be used, and what to do."""
    signed = [settings.gateway_jwt_secret, settings.gateway_jwt_issuer, settings.gateway_jwt_jwks_url]
    signed += [settings.gateway_jwt_vault_kv, settings.gateway_jwt_vault_transit]
    if settings.gateway_require_auth and not any(signed) and not pepper.there(settings):
        yield (
            "Nobody could sign in. Set GATEWAY_JWT_SECRET (`openssl rand -base64 48` makes one), or GATEWAY_JWT_ISSUER for an identity "
            "provider, or SOMA_KEYS_PEPPER for API keys, or GATEWAY_REQUIRE_AUTH=false on a machine of your own."
        )
    if not settings.gateway_require_auth and not settings.on_loopback:
        yield (
            f"GATEWAY_HOST={settings.gateway_host} can be reached from other machines, and GATEWAY_REQUIRE_AUTH=false lets everybody do "
            "everything. Set GATEWAY_JWT_SECRET or GATEWAY_JWT_ISSUER and leave GATEWAY_REQUIRE_AUTH out, or bind 127.0.0.1."
        )
    yield from _wrong_tokens(settings)
    if settings.gateway_jwt_vault_kv or settings.gateway_jwt_vault_transit:
        yield from _wrong_vault(settings)


def _wrong_tokens(settings: Settings) -> Iterator[str]:
    if settings.gateway_jwt_secret:
        try:
            secret_key(settings.gateway_jwt_secret)
        except ValueError as error:
            yield f"GATEWAY_JWT_SECRET: {error}."
    outside = settings.gateway_jwt_issuer or settings.gateway_jwt_jwks_url
    if outside and not settings.gateway_jwt_audience:
        yield "GATEWAY_JWT_AUDIENCE is missing: an identity provider signs tokens for others too. Set the `aud` of those for this API."
    if settings.gateway_jwt_jwks_url and not settings.gateway_jwt_issuer:
        yield "GATEWAY_JWT_ISSUER is missing: set the `iss` of the tokens whose keys are at GATEWAY_JWT_JWKS_URL."
    for name, url in (("ISSUER", settings.gateway_jwt_issuer), ("JWKS_URL", settings.gateway_jwt_jwks_url)):
        if url and not trusted(url):
            yield f"GATEWAY_JWT_{name}: keys that come over plain HTTP can be anybody's. Use https."
    if unknown := set(settings.gateway_jwt_algorithms) - KINDS.keys():
        yield f"GATEWAY_JWT_ALGORITHMS: {', '.join(sorted(unknown))}. There are {', '.join(KINDS)}."


def _wrong_vault(settings: Settings) -> Iterator[str]:
    if not settings.vault_addr:
        yield "VAULT_ADDR is missing: GATEWAY_JWT_VAULT_KV and GATEWAY_JWT_VAULT_TRANSIT are places in a Vault."
    elif not trusted(settings.vault_addr):
        yield "VAULT_ADDR: a login that goes over plain HTTP can be read by others. Use https."
    if not (settings.vault_token or settings.vault_role_id or settings.vault_kubernetes_role):
        yield "No login for Vault: set VAULT_ROLE_ID and VAULT_SECRET_ID, or VAULT_KUBERNETES_ROLE, or VAULT_TOKEN."
