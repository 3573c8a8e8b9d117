"""The page to try the API out needs nobody but the gateway."""

import re

import httpx
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_page_refers_to_files_that_the_gateway_serves_and_to_no_other_host(client: httpx.AsyncClient) -> None:
    # given
    page = (await client.get("/docs")).text
    # when
    addresses = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)|url:\s*["']([^"']+)""", page)
    told = [one or other for one, other in addresses]
    # then
    assert {address.rpartition("/")[2] for address in told} >= {"swagger-ui-bundle.js", "swagger-ui.css", "openapi.json"}
    assert [address for address in told if not re.match(r"/[^/]", address)] == []
    assert [address for address in told if not (await client.get(address)).is_success] == []
    assert "//" not in re.sub(r"//[^\n\"']*\n", "", page), "nothing else on it is an address"
