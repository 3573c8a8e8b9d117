"""Keys that are kept in a real OpenBao."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.util import urlsafe_b64encode

from gateway import keyring, vault
from gateway.keyring import Keyring, SourceDown
from gateway.problems import CannotVerify, Unauthenticated
from gateway.token import Terms, Tokens
from ops.settings import Settings
from tests.gateway.bao import ROOT, Bao, running
from tests.gateway.signing import EC, HMAC, RSA, SECRET, encoded, hs256, saying, token

POLICY = """
path "secret/data/soma/jwt" { capabilities = ["read"] }
path "transit/keys/soma" { capabilities = ["read"] }
"""
OTHER = "another secret of this test, also long enough"


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    with running(tmp_path_factory.mktemp("bao")) as bao:
        bao.client.sys.create_or_update_policy("soma", POLICY)
        bao.client.sys.enable_auth_method("approle")
        bao.client.sys.enable_secrets_engine("transit")
        yield bao


def approle(bao: Bao, ttl: str = "1h") -> dict[str, Any]:
    """Settings of a login that may read the keys and nothing else."""
    bao.client.auth.approle.create_or_update_approle("soma", token_policies=["soma"], token_ttl=ttl, token_max_ttl=ttl)
    role = bao.client.auth.approle.read_role_id("soma")["data"]["role_id"]
    secret = bao.client.auth.approle.generate_secret_id("soma")["data"]["secret_id"]
    return {"vault_role_id": role, "vault_secret_id": secret}


def keep(bao: Bao, **fields: str) -> None:
    bao.client.secrets.kv.v2.create_or_update_secret("soma/jwt", fields)


def verifier(source: vault.Vault) -> Tokens:
    return Tokens(Terms(), [Keyring(source, fresh=60.0, pause=0.0)])


def signed_by_transit(bao: Bao, name: str, version: int, alg: str, **how: Any) -> str:
    """A token whose private key never left the Vault."""
    signed = f"{encoded({'alg': alg, 'typ': 'at+jwt', 'kid': f'{name}:v{version}'})}.{encoded(saying())}"
    answer = bao.client.secrets.transit.sign_data(name, base64.b64encode(signed.encode()).decode(), key_version=version, **how)
    signature = answer["data"]["signature"].rpartition(":")[2]
    jws = signature if how.get("marshaling_algorithm") == "jws" else urlsafe_b64encode(base64.b64decode(signature)).decode()
    return f"{signed}.{jws}"


async def test_secrets_and_public_keys_lie_side_by_side_and_are_rotated_without_a_restart(bao: Bao) -> None:
    # given
    keep(bao, current=SECRET, rsa=RSA.as_pem(private=False).decode(), ec=json.dumps(EC.as_dict(private=False)))
    tokens = verifier(vault.kv(Settings(vault_addr=bao.url, **approle(bao)), "secret/soma/jwt"))
    # then each is a key under the name of its field
    for good in (token(key=HMAC), token(key=HMAC, kid="current"), token(key=RSA, kid="rsa"), token(key=EC, kid="ec")):
        assert (await tokens.principal(good)).actor == "ada"
    with pytest.raises(Unauthenticated):
        await tokens.principal(token(key=HMAC, kid="rsa"))
    with pytest.raises(Unauthenticated):
        await tokens.principal(hs256(saying(), RSA.as_pem(private=False), kid="rsa"))
    # when
    keep(bao, next=OTHER)
    # then
    assert (await tokens.principal(hs256(saying(), OTHER.encode(), kid="next"))).actor == "ada"
    with pytest.raises(Unauthenticated):
        await tokens.principal(token(key=HMAC))


@pytest.mark.parametrize(
    ("kind", "alg", "how"),
    [
        ("ed25519", "Ed25519", {}),
        ("ecdsa-p256", "ES256", {"hash_algorithm": "sha2-256", "marshaling_algorithm": "jws"}),
        ("rsa-2048", "RS256", {"hash_algorithm": "sha2-256", "signature_algorithm": "pkcs1v15"}),
    ],
)
async def test_tokens_signed_by_transit_are_checked_with_its_public_keys_of_each_version(
    bao: Bao, kind: str, alg: str, how: dict[str, str]
) -> None:
    # given
    bao.client.secrets.transit.create_key(kind, key_type=kind)
    tokens = verifier(vault.transit(Settings(vault_addr=bao.url, vault_token=ROOT), f"transit/{kind}"))
    first = signed_by_transit(bao, kind, 1, alg, **how)
    assert (await tokens.principal(first)).actor == "ada"
    # when it is rotated, and later the first version must not be used any more
    bao.client.secrets.transit.rotate_key(kind)
    second = signed_by_transit(bao, kind, 2, alg, **how)
    # then
    assert (await tokens.principal(second)).actor == "ada"
    assert (await tokens.principal(first)).actor == "ada"
    bao.client.secrets.transit.update_key_configuration(kind, min_decryption_version=2)
    await tokens.rings[0].renew()
    with pytest.raises(Unauthenticated):
        await tokens.principal(first)


async def test_a_lease_is_renewed_and_where_it_ends_the_role_logs_in_anew(bao: Bao) -> None:
    # given
    keep(bao, current=SECRET)
    source = vault.kv(Settings(vault_addr=bao.url, **approle(bao, ttl="30s")), "secret/soma/jwt")
    assert (await source.fetch()).again == 10
    first = source._login._client.token
    # when its time to be renewed has come
    source._login._renew_at = float("-inf")
    await source.fetch()
    assert source._login._client.token == first
    # when it was revoked
    bao.client.auth.token.revoke(first)
    assert len((await source.fetch()).keys) == 1
    assert source._login._client.token != first


async def test_a_pod_logs_in_with_its_kubernetes_account(bao: Bao, tmp_path: Path) -> None:
    """Only what is sent: OpenBao asks a Kubernetes that is not there."""
    account = tmp_path / "token"
    account.write_text("an account's token\n")
    settings = Settings(vault_addr=bao.url, vault_kubernetes_role="soma", vault_kubernetes_token_file=account)
    with pytest.raises(SourceDown, match=r"InvalidPath|Forbidden|InvalidRequest"):
        await vault.kv(settings, "secret/soma/jwt").fetch()
    account.unlink()
    with pytest.raises(SourceDown, match="FileNotFoundError"):
        await vault.kv(settings, "secret/soma/jwt").fetch()


@pytest.mark.parametrize(
    "fields", [{"current": "short"}, {"pem": "-----BEGIN PUBLIC KEY-----\nx"}, {"jwk": "{"}, {"jwk": '{"kty": "oct"}'}]
)
async def test_a_field_that_is_no_key_is_said_and_not_shown(bao: Bao, fields: dict[str, str]) -> None:
    keep(bao, **fields)
    with pytest.raises(SourceDown, match="cannot be used") as down:
        await vault.kv(Settings(vault_addr=bao.url, vault_token=ROOT), "secret/soma/jwt").fetch()
    assert not any(value in str(down.value) for value in fields.values())


async def test_a_login_that_is_refused_and_a_place_that_is_not_there_let_nobody_in(bao: Bao) -> None:
    for settings in (
        Settings(vault_addr=bao.url, vault_token="no"),
        Settings(vault_addr=bao.url, vault_role_id="no", vault_secret_id="no"),
    ):
        with pytest.raises(CannotVerify):
            await verifier(vault.kv(settings, "secret/soma/jwt")).principal(token(key=HMAC))
    with pytest.raises(CannotVerify):
        await verifier(vault.kv(Settings(vault_addr=bao.url, vault_token=ROOT), "secret/nothing")).principal(token(key=HMAC))


async def test_down_or_slow_it_lets_nobody_new_in_and_its_return_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path) as bao:
        # given
        keep(bao, current=SECRET)
        tokens = verifier(vault.kv(Settings(vault_addr=bao.url, vault_token=ROOT), "secret/soma/jwt"))
        assert (await tokens.principal(token(key=HMAC))).actor == "ada"
        unknown = hs256(saying(), OTHER.encode(), kid="next")
        # when it is frozen
        monkeypatch.setattr(keyring, "ASK_SECONDS", 0.5)
        bao.freeze()
        with pytest.raises(CannotVerify):
            await tokens.principal(unknown)
        assert (await tokens.principal(token(key=HMAC))).actor == "ada"
        bao.thaw()
        # when it is dead
        bao.kill()
        with pytest.raises(CannotVerify):
            await tokens.principal(unknown)
        # when it is back
        bao.start()
        keep(bao, next=OTHER)
        monkeypatch.setattr(keyring, "ASK_SECONDS", 20.0)
        while tokens.rings[0].failing:
            await tokens.rings[0].renew()
        assert (await tokens.principal(unknown)).actor == "ada"
