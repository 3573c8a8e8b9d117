"""An identity provider on loopback that signs people in: the code flow with PKCE, and tokens of the key it publishes."""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from urllib.parse import urlencode

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from ops.embedded.process import free_port
from tests.gateway.signing import EC, public, saying, token


class CodeFlow:
    """Whoever comes is ada. A code is good once, for whoever shows the verifier of its challenge."""

    def __init__(self) -> None:
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self._challenges: dict[str, str] = {}

    async def description(self, _: Request) -> Response:
        names = {"jwks_uri": "keys", "authorization_endpoint": "authorize", "token_endpoint": "token"}
        return JSONResponse({"issuer": self.issuer} | {name: f"{self.issuer}/{path}" for name, path in names.items()})

    async def keys(self, _: Request) -> Response:
        return JSONResponse({"keys": [public(EC)]})

    async def authorize(self, request: Request) -> Response:
        asked = request.query_params
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        code = f"code-{len(self._challenges)}"
        self._challenges[code] = asked["code_challenge"]
        answer = urlencode({"code": code, "state": asked["state"], "iss": self.issuer})
        return RedirectResponse(f"{asked['redirect_uri']}?{answer}", 302)

    async def token(self, request: Request) -> Response:
        form = await request.form()
        shown = urlsafe_b64encode(sha256(str(form["code_verifier"]).encode()).digest()).decode().rstrip("=")
        if self._challenges.pop(str(form["code"]), None) != shown:
            return JSONResponse({"error": "invalid_grant"}, 400)
        claims = saying(iss=self.issuer, tenant="default", scope="sessions:read sessions:write")
        return JSONResponse({"access_token": token(claims, EC), "token_type": "Bearer"})


@asynccontextmanager
async def signing_people_in() -> AsyncIterator[CodeFlow]:
    """The provider, while it serves."""
    provider = CodeFlow()
    routes = [Route("/.well-known/openid-configuration", provider.description), Route("/keys", provider.keys)]
    routes += [Route("/authorize", provider.authorize), Route("/token", provider.token, methods=["POST"])]
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=provider.port, log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield provider
    server.should_exit = True
    await serving
