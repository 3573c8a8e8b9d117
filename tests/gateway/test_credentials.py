"""What of the settings of sign-in cannot be used is said before anything runs, all at once, with what to do."""

import subprocess
import sys
from typing import Any

import pytest

from gateway.credentials import wrong
from ops.settings import Settings
from tests.gateway.signing import SECRET

PROVIDER = {"gateway_jwt_issuer": "https://login.example.com", "gateway_jwt_audience": ("soma",)}
VAULT = {"gateway_jwt_vault_kv": "secret/soma/jwt", "vault_addr": "https://vault.example.com", "vault_token": "t"}


@pytest.mark.parametrize(
    "settings",
    [
        {"gateway_require_auth": False},
        {"gateway_jwt_secret": SECRET},
        {"gateway_jwt_secret": SECRET, "gateway_host": "0.0.0.0"},
        PROVIDER,
        PROVIDER | {"gateway_jwt_jwks_url": "https://login.example.com/keys", "gateway_jwt_algorithms": ("ES256",)},
        VAULT,
        VAULT | {"vault_addr": "http://127.0.0.1:8200"},
    ],
)
def test_these_are_good(settings: dict[str, Any]) -> None:
    assert list(wrong(Settings(**settings))) == []


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, ["GATEWAY_JWT_SECRET", "GATEWAY_JWT_ISSUER", "GATEWAY_REQUIRE_AUTH=false"]),
        ({"gateway_require_auth": False, "gateway_host": "0.0.0.0"}, ["GATEWAY_HOST=0.0.0.0", "bind 127.0.0.1"]),
        ({"gateway_require_auth": False, "gateway_host": "::"}, ["GATEWAY_HOST=::"]),
        ({"gateway_jwt_secret": "canary"}, ["32 bytes", "openssl"]),
        ({"gateway_jwt_secret": "-----BEGIN PUBLIC KEY-----canary" * 3}, ["PEM"]),
        ({"gateway_jwt_issuer": "https://login.example.com"}, ["GATEWAY_JWT_AUDIENCE"]),
        ({"gateway_jwt_jwks_url": "https://x.example/keys", "gateway_jwt_audience": ("soma",)}, ["GATEWAY_JWT_ISSUER"]),
        (PROVIDER | {"gateway_jwt_issuer": "http://login.example.com"}, ["GATEWAY_JWT_ISSUER", "https"]),
        (PROVIDER | {"gateway_jwt_algorithms": ("none", "RS256", "HS1")}, ["HS1, none"]),
        (VAULT | {"vault_addr": None}, ["VAULT_ADDR"]),
        (VAULT | {"vault_addr": "http://vault.example.com"}, ["VAULT_ADDR", "https"]),
        (VAULT | {"vault_token": None}, ["VAULT_ROLE_ID"]),
    ],
)
def test_these_are_refused(settings: dict[str, Any], named: list[str]) -> None:
    said = "\n".join(wrong(Settings(**settings)))
    assert all(name in said for name in named), said
    assert "canary" not in said


@pytest.mark.parametrize(
    "environment", [{}, {"GATEWAY_REQUIRE_AUTH": "false", "GATEWAY_HOST": "0.0.0.0"}, {"GATEWAY_JWT_SECRET": "canary"}]
)
def test_a_gateway_that_would_be_open_to_others_or_closed_to_all_does_not_start(environment: dict[str, str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "ops.cli", "gateway"], env={"PATH": "", **environment}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "GATEWAY_JWT_SECRET" in ended.stderr
    assert "canary" not in ended.stderr + ended.stdout


def test_the_command_line_makes_no_token_without_a_secret() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "ops.cli", "token", "--actor", "ada"], env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "GATEWAY_JWT_SECRET" in ended.stderr
