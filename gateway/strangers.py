"""How often an address may show credentials that prove nobody. To find out that one is worth nothing costs more than to send it.

The limit is of one gateway. A sender who is not let in is an address: an IPv4 one, or the /64 network that a host with IPv6 has to itself.
"""

import math
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from gateway.bucket import WINDOW_SECONDS, Bucket
from gateway.problems import RateLimited

Network = IPv4Network | IPv6Network


class Strangers:
    """The failures of each address, at most `quota` within a minute. Senders behind `proxies` are known by what those say of them."""

    def __init__(self, quota: int, proxies: Sequence[Network] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._failures, self._proxies = Bucket(quota, clock), proxies

    def check(self, address: str) -> None:
        """Before a credential is looked at: a good one waits too. Raises RateLimited."""
        if wait := self._failures.wait(address):
            detail = f"From this address came {self._failures.quota} credentials within {WINDOW_SECONDS} s that prove nobody."
            raise RateLimited(detail, {"Retry-After": str(math.ceil(wait))})

    def failed(self, address: str) -> None:
        """One more of it proved nobody."""
        self._failures.take(address)

    def address(self, peer: str, forwarded: Sequence[str]) -> str:
        """Whose failures count together. `forwarded`: the values of X-Forwarded-For.

        Each proxy writes at the end from where it was asked; what stands before the last that is not one of ours anybody may have written.
        """
        asked = [part.strip() for value in forwarded for part in value.split(",")]
        while asked and self._is_proxy(peer):
            peer = asked.pop()
        return _network(peer)

    def _is_proxy(self, peer: str) -> bool:
        address = _read(peer)
        return address is not None and any(address in network for network in self._proxies)


def _network(peer: str) -> str:
    address = _read(peer)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), 64), strict=False))
    return str(address or "unknown")


def _read(peer: str) -> IPv4Address | IPv6Address | None:
    """An IPv4 address that a socket for both shows as IPv6 is IPv4. None: a Unix socket has none, and proxies may write what they like."""
    try:
        address = ip_address(peer)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
