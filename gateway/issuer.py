"""The keys of an identity provider: a JWK Set by its address, or by the provider's own description (OpenID Connect Discovery 1.0)."""

from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from gateway.key_material import PUBLIC, jwks_keys
from gateway.keyring import Fetched, SourceDown

AGAIN_SECONDS = 300.0
"""How long a key that the provider took back is believed at most, while the provider answers."""
LONGEST = 512 << 10
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Issuer:
    """A Source: `jwks_url`, else the one that `issuer` names."""

    kinds = PUBLIC

    def __init__(self, client: httpx.AsyncClient, issuer: str | None, jwks_url: str | None) -> None:
        self._client, self._issuer, self._jwks_url = client, issuer, jwks_url
        self.name = jwks_url or issuer or ""

    async def fetch(self) -> Fetched:
        """Raises SourceDown."""
        url = self._jwks_url or await self._discovered()
        try:
            keys = jwks_keys(await self._json(url))
        except ValueError as error:
            raise SourceDown(f"{url} answers what cannot be used: {error}") from error
        if not keys:
            raise SourceDown(f"{url} lists no key that tokens could be checked with")
        return Fetched(keys, AGAIN_SECONDS)

    async def description(self) -> dict[str, Any]:
        """What the provider says of itself. §4.3: a description that names another issuer is not this one's. Raises SourceDown."""
        url = f"{(self._issuer or '').rstrip('/')}/.well-known/openid-configuration"
        document = await self._json(url)
        if not isinstance(document, dict) or document.get("issuer") != self._issuer:
            raise SourceDown(f"{url} does not describe {self._issuer}")
        return document

    async def _discovered(self) -> str:
        found = (await self.description()).get("jwks_uri")
        if not isinstance(found, str) or not trusted(found):
            raise SourceDown(f"{self._issuer} names no address of keys that can be trusted: it has to be https")
        return found

    async def _json(self, url: str) -> Any:
        """Raises SourceDown. Redirects are not followed: they could lead to anybody."""
        body = b""
        try:
            async with self._client.stream("GET", url, headers={"Accept": "application/json"}, follow_redirects=False) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise SourceDown(f"{url} answers HTTP {answer.status_code}")
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > LONGEST:
                        raise SourceDown(f"{url} answers more than {LONGEST} bytes")
            return msgspec.json.decode(body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceDown(f"{url} does not answer ({type(error).__name__})") from error
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise SourceDown(f"{url} does not answer in JSON") from error


def trusted(url: str) -> bool:
    """Whether keys that come from there are as they were sent: by https, or from this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK))
