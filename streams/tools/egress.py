"""The way out: tools reach the hosts they may, at public addresses, and nothing else.

A name is resolved once, every address that it has is checked, and the connection goes to an address that was checked, so that a second
answer of the name server changes nothing. Spellings of addresses (decimal, octal, hexadecimal) are resolved like names.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import SOCK_STREAM

import httpcore2
import httpx2

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]

CONNECT_SECONDS = 5.0
"""For one address: where a name has several, the next one gets its turn."""
_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_SPECIAL = [
    ip_network(text)
    for text in (
        "192.0.0.0/24",  # IETF protocol assignments, RFC 6890
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "168.63.129.16/32",  # Azure's platform, its metadata among it
        "2001::/23",  # IETF protocol assignments, Teredo among them
        "2002::/16",  # 6to4: leads to an IPv4 address
        "3fff::/20",  # documentation, RFC 9637
    )
]


class Barred(Exception):
    """The guard does not let this request out; says which setting or definition would."""


class TooLong(Exception):
    """The answer has more bytes than it may have."""


def public(address: Address) -> bool:
    """Whether the address belongs to the public Internet, also behind the forms in which IPv6 carries IPv4."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return public(address.ipv4_mapped)
        if address in _NAT64:
            return public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _UNICAST:
            return False
    return address.is_global and not address.is_multicast and not any(address in special for special in _SPECIAL)


async def system(host: str, port: int) -> list[str]:
    """The addresses of a name as this machine resolves it, the preferred one first."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Guard:
    """Says which addresses may be connected to. `private`: names, addresses and networks that are allowed though they are not public."""

    def __init__(self, private: Sequence[str] = (), resolve: Resolve = system, tls: ssl.SSLContext | None = None) -> None:
        self._networks = [network for network in map(_network, private) if network]
        self._names = {entry.lower() for entry in private if not _network(entry)}
        self._resolve, self._given = resolve, tls

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """One for all transports: loading the certificates takes tens of milliseconds."""
        return self._given or httpx2.create_ssl_context()

    async def addresses(self, host: str, port: int) -> list[str]:
        """Where the host is. Raises Barred when one of its addresses may not be reached, OSError when it has none."""
        found = [ip_address(text) for text in await self._resolve(host, port)]
        for address in found:
            if not self._may(host, address):
                raise Barred(
                    f"{host} is at {address}, which is not a public address: tools do not reach it unless SOMA_TOOL_PRIVATE_HOSTS lists it"
                )
        return [str(address) for address in found]

    def _may(self, host: str, address: Address) -> bool:
        plain = (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address
        return host.lower() in self._names or public(plain) or any(plain in network for network in self._networks)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


class _Checked(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that the guard has seen. TLS still names the host: httpcore takes it from the request."""

    def __init__(self, guard: Guard) -> None:
        self._guard, self._network = guard, httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            addresses = await self._guard.addresses(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"the name {host} cannot be resolved") from error
        failure: Exception = httpcore2.ConnectError(f"the name {host} has no address")
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout or CONNECT_SECONDS, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


class Transport(httpx2.AsyncHTTPTransport):
    """HTTP/1.1 through the guard, to `hosts` alone, without proxies; answers have at most `max_bytes`.

    A request raises Barred or TooLong besides httpx2's errors. Redirects come back to the caller: each hop is a request of its own.
    """

    def __init__(self, guard: Guard, hosts: Iterable[str], max_bytes: int) -> None:
        self._hosts, self._max_bytes = {host.lower() for host in hosts}, max_bytes
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=guard.tls,
            max_connections=None,  # the concurrency of a tool is its executor's matter
            max_keepalive_connections=32,
            keepalive_expiry=30.0,
            network_backend=_Checked(guard),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.scheme not in ("http", "https"):
            raise Barred(f"{request.url.scheme or 'no scheme'} is not spoken here: an address begins with http:// or https://")
        if request.url.host.lower() not in self._hosts:
            raise Barred(f"{request.url.host} is not among the hosts that this tool may reach: {', '.join(sorted(self._hosts)) or 'none'}")
        request.headers["accept-encoding"] = "identity"  # a compressed answer has no bound until it is unpacked
        response = await super().handle_async_request(request)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise TooLong("the answer is compressed though that was not asked for, so its length is unknown")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Bounded(response.stream, self._max_bytes)
        return response


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, max_bytes: int) -> None:
        self._stream, self._max_bytes = stream, max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._max_bytes
        async for part in self._stream:
            left -= len(part)
            if left < 0:
                raise TooLong(f"the answer is longer than {self._max_bytes} bytes")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
