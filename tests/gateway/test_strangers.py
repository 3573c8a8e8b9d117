"""Credentials that prove nobody, too many from one address."""

from collections.abc import AsyncIterator
from ipaddress import ip_network

import httpx
import pytest
import pytest_asyncio

from gateway.problems import RateLimited
from gateway.strangers import Strangers
from ops.embedded.process import free_port
from ops.settings import Settings
from tests.gateway.platform import Gateway, until
from tests.gateway.signing import SECRET, bearer, hs256, saying
from tests.gateway.test_rates import Clock

QUOTA = 3


def test_an_address_waits_after_its_quota_of_failures_and_no_other_does() -> None:
    # given
    strangers = Strangers(QUOTA, clock=(clock := Clock()))
    for _ in range(QUOTA):
        strangers.check("192.0.2.1")
        strangers.failed("192.0.2.1")
    # when
    with pytest.raises(RateLimited, match="From this address came 3 credentials") as refused:
        strangers.check("192.0.2.1")
    # then
    assert refused.value.headers["Retry-After"] == "20"
    strangers.check("192.0.2.2")
    # when it waits as long as it was told
    clock.now += 20
    strangers.check("192.0.2.1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["no address"], "unknown"),
        ("", [], "unknown"),
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("2001:db8:0:1:aaaa::1", [], "2001:db8:0:1::/64"),
        ("2001:db8:0:1:bbbb::2", [], "2001:db8:0:1::/64"),
    ],
)
def test_who_asks_is_the_last_address_that_no_proxy_of_ours_has(peer: str, forwarded: list[str], address: str) -> None:
    strangers = Strangers(QUOTA, [ip_network("10.0.0.0/8")])
    assert strangers.address(peer, forwarded) == address


@pytest.fixture(scope="module")
def limited(module_settings: Settings) -> Settings:
    """Of a gateway at which tokens are shown, behind a proxy on loopback."""
    sign_in = {"gateway_require_auth": True, "gateway_jwt_secret": SECRET, "gateway_failed_sign_ins_per_minute": QUOTA}
    proxies = {"gateway_trusted_proxies": (ip_network("127.0.0.1"),), "gateway_port": free_port()}
    return module_settings.model_copy(update=sign_in | proxies)


@pytest_asyncio.fixture
async def client(limited: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with Gateway(limited) as gateway:
        await until(gateway.client, "gateway", "ok")
        yield gateway.client


async def test_a_gateway_looks_at_no_more_credentials_of_an_address_that_showed_too_many_bad_ones(client: httpx.AsyncClient) -> None:
    # given somebody who shows none at all, which is no attempt
    here, elsewhere = {"X-Forwarded-For": "198.51.100.7"}, {"X-Forwarded-For": "198.51.100.8"}
    good = bearer(hs256(saying(), SECRET.encode()))
    for _ in range(2 * QUOTA):
        assert (await client.get("/v1/models", headers=here)).status_code == 401
    assert (await client.get("/v1/models", headers=here | good)).status_code == 200
    # when somebody tries, also where everybody is answered
    for path, status in (("/v1/models", 401), ("/health/live", 200), ("/v1/nothing", 401)):
        assert (await client.get(path, headers=here | bearer("sk-made-up"))).status_code == status
    # then
    answer = await client.get("/v1/models", headers=here | good)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert 0 < int(answer.headers["retry-after"]) <= 20
    assert (await client.get("/health/live", headers=here | good)).status_code == 200
    assert (await client.get("/v1/models", headers=elsewhere | good)).status_code == 200
