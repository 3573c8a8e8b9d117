"""How many writes wait at once, of all and of one tenant."""

from contextlib import ExitStack

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from gateway.link import Link
from gateway.problems import TooMany
from gateway.waits import Waits


@pytest_asyncio.fixture
async def waits() -> Waits:
    """Three at once, two of them of one tenant."""
    return Waits(Link(AIOKafkaProducer()), 3, 2)


async def test_a_tenant_has_its_share_and_leaves_the_rest_to_others(waits: Waits) -> None:
    with ExitStack() as waiting:
        # given
        for _ in range(2):
            waiting.enter_context(waits.admitted("acme"))
        # when / then
        with pytest.raises(TooMany, match="2 writes of this tenant") as refused, waits.admitted("acme"):
            pass
        assert refused.value.headers["Retry-After"] == "1"
        waiting.enter_context(waits.admitted("other"))
        with pytest.raises(TooMany, match="3 writes wait"), waits.admitted("third"):
            pass


async def test_whatever_became_of_a_write_its_place_is_free_again(waits: Waits) -> None:
    # given
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), waits.admitted("acme"):
            raise ZeroDivisionError
    # when / then
    with waits.admitted("acme"), waits.admitted("acme"), waits.admitted("other"):
        pass
    assert not waits._of_tenants
