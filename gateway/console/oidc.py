"""Sign-in at an identity provider: OpenID Connect's code flow with PKCE (RFC 7636), as RFC 9700 advises.

What the console keeps is the access token, which the gate verifies as it does everybody's. The provider is GATEWAY_JWT_ISSUER.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec

from gateway.console.cookie import Flow
from gateway.issuer import LONGEST, Issuer, trusted
from gateway.keyring import SourceDown
from ops.settings import Settings

CALLBACK = "/console/sign-in/callback"
SECONDS = 10.0


class ProviderFailed(Exception):
    """Nobody was signed in. Says why, and what to do, to whoever tried."""


class Provider:
    """The identity provider that the settings name."""

    def __init__(self, settings: Settings, client: httpx.AsyncClient) -> None:
        self._settings, self._client = settings, client
        self._here = f"{settings.url.rstrip('/')}{CALLBACK}"

    async def address(self, flow: Flow) -> str:
        """Where the browser signs in. Raises ProviderFailed."""
        settings = self._settings
        asked = {
            "response_type": "code",
            "client_id": settings.gateway_oidc_client_id,
            "redirect_uri": self._here,
            "scope": settings.gateway_oidc_scope,
            "state": flow.state,
            "code_challenge": urlsafe_b64encode(sha256(flow.verifier.encode()).digest()).decode().rstrip("="),
            "code_challenge_method": "S256",
            "audience": " ".join(settings.gateway_jwt_audience[:1]),
        }
        address = await self._endpoint("authorization_endpoint")
        return f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}"

    async def token(self, flow: Flow | None, answer: Mapping[str, str]) -> str:
        """The access token that the answer's code stands for. Raises ProviderFailed."""
        code = _code(flow, answer, self._settings.gateway_jwt_issuer)
        assert flow
        settings = self._settings
        given = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._here, "code_verifier": flow.verifier}
        given |= {"client_id": settings.gateway_oidc_client_id or ""}
        given |= {"client_secret": settings.gateway_oidc_client_secret} if settings.gateway_oidc_client_secret else {}
        said = await self._post(await self._endpoint("token_endpoint"), given)
        token = said.get("access_token") if isinstance(said, dict) else None
        if not isinstance(token, str):
            raise ProviderFailed("The identity provider gave no access token. Try again, or sign in with a key.")
        return token

    async def _endpoint(self, name: str) -> str:
        if not (self._settings.gateway_oidc_client_id and self._settings.gateway_jwt_issuer):
            raise ProviderFailed("No identity provider is configured here (GATEWAY_OIDC_CLIENT_ID). Sign in with a key.")
        try:
            found = (await Issuer(self._client, self._settings.gateway_jwt_issuer, None).description()).get(name)
        except SourceDown as down:
            raise ProviderFailed(f"The identity provider cannot be reached: {down}. Try again, or sign in with a key.") from down
        if not isinstance(found, str) or not trusted(found):
            raise ProviderFailed(f"The identity provider names no {name} that can be trusted: it has to be https.")
        return found

    async def _post(self, url: str, form: Mapping[str, str]) -> Any:
        body = b""
        try:
            async with self._client.stream("POST", url, data=form, headers={"Accept": "application/json"}, timeout=SECONDS) as answer:
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > LONGEST:
                        raise ProviderFailed("The identity provider answers too much.")
            if answer.status_code != httpx.codes.OK:
                raise ProviderFailed(f"The identity provider did not take the code (HTTP {answer.status_code}). Sign in again.")
            return msgspec.json.decode(body)
        except (httpx.HTTPError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ProviderFailed(f"The identity provider's answer cannot be used ({type(error).__name__}). Sign in again.") from error


def _code(flow: Flow | None, answer: Mapping[str, str], issuer: str | None) -> str:
    """The code, if this browser was sent for it (RFC 9700 §4.7), by this provider (RFC 9207). Raises ProviderFailed."""
    if flow is None or not hmac.compare_digest(answer.get("state", "").encode(), flow.state.encode()):
        raise ProviderFailed("This sign-in was not begun in this browser, or took too long. Begin it again.")
    if answer.get("iss", issuer) != issuer:
        raise ProviderFailed("The answer came from another identity provider. Begin the sign-in again.")
    if "code" not in answer:
        raise ProviderFailed(f"The identity provider let nobody in ({answer.get('error', 'it does not say why')[:100]}). Try again.")
    return answer["code"]
