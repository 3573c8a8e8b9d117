"""Who looks at the console: by an API key or a token, or by way of an identity provider. Each sign-in begins a session of its own."""

from contextlib import suppress
from urllib.parse import urlencode

import httpx
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.auth import Gate, address
from gateway.console import guard, oidc
from gateway.console.cookie import FLOW, SESSION, VISIT, TooLong
from gateway.console.page import Page, SignInNeeded, draw, entered, of, secure, see, sent
from gateway.problems import CannotVerify, Malformed, Problem, RateLimited, Unauthenticated

PAGE = "/console/sign-in"


def asked(request: Request, reason: str | None) -> Response:
    """To the sign-in page, and from there back to the page that was asked for, if that can be looked at again."""
    then = request.url.path + (f"?{request.url.query}" if request.url.query else "") if request.method == "GET" else guard.HOME
    return RedirectResponse(f"{PAGE}?{urlencode({'then': guard.local(then), **({'reason': 'over'} if reason else {})})}", 303)


async def page(request: Request) -> Response:
    """A link from another site brings no cookie along (SameSite=Strict): then the page asks for itself again, as one of this site."""
    then = guard.local(request.query_params.get("then"))
    if request.headers.get("sec-fetch-site") == "cross-site":
        return draw("bounce.html", then=f"{PAGE}?{urlencode({'then': then})}")
    with suppress(SignInNeeded, Problem):
        if (await entered(request)).session.credential:
            return see(then)
    wrong = "You were signed out: what you signed in with is no longer good." if "reason" in request.query_params else None
    return _form(request, then, wrong)


async def by_credential(request: Request) -> Response:
    """Whoever shows what the gate takes."""
    console = of(request)
    visit = console.cookies.session(request.cookies, secure=secure(request))
    async with request.form(max_files=0, max_fields=10) as form:
        if visit is None:
            raise guard.Forged("This browser sent no cookie along: allow cookies for this site, and load the sign-in page again.")
        guard.check(request, form, visit.csrf)
        credential, then = str(form.get("credential", "")).strip(), guard.local(str(form.get("then", "")))
    return await _begun(request, credential, then, see(then))


async def to_provider(request: Request) -> Response:
    """Off to the identity provider."""
    console = of(request)
    flow = console.cookies.flow(guard.local(request.query_params.get("then")))
    try:
        async with httpx.AsyncClient() as client:
            response = RedirectResponse(await oidc.Provider(console.settings, client).address(flow), 303)
    except oidc.ProviderFailed as failed:
        return _form(request, flow.then, str(failed), 503)
    console.cookies.set(response, flow, secure=secure(request))
    return response


async def from_provider(request: Request) -> Response:
    """Back from it, with a code that only this gateway can change into a token."""
    console = of(request)
    flow = console.cookies.flowing(request.cookies, secure=secure(request))
    try:
        async with httpx.AsyncClient() as client:
            token = await oidc.Provider(console.settings, client).token(flow, request.query_params)
    except oidc.ProviderFailed as failed:
        return _form(request, flow.then if flow else guard.HOME, str(failed), 401)
    assert flow
    return await _begun(request, token, flow.then, draw("bounce.html", then=flow.then))


async def sign_out(page: Page, _: object) -> Response:
    """The cookie is forgotten; the key or token goes on to be good."""
    response = see(PAGE)
    page.console.cookies.forget(response, SESSION, secure=secure(page.request))
    return response


async def _begun(request: Request, credential: str, then: str, welcome: Response) -> Response:
    """`welcome`, with the cookie of a session that did not exist before; else the form again, which says why not."""
    console = of(request)
    try:
        gate = _gate(request)
        who = await gate.admit("GET", guard.HOME, [f"Bearer {credential}"], address(gate, request.scope))
        if who is None or who.kind == "anonymous":
            raise Unauthenticated("This is neither an API key nor a token that is known here.")
        console.cookies.set(welcome, console.cookies.begin(credential), secure=secure(request))
    except (Unauthenticated, Malformed, CannotVerify, RateLimited) as problem:
        return _form(request, then, problem.detail, problem.status)
    except TooLong as error:
        return _form(request, then, str(error), 422)
    console.cookies.forget(welcome, VISIT, FLOW, secure=secure(request))
    return welcome


def _form(request: Request, then: str, wrong: str | None, status: int = 200) -> Response:
    console, is_secure = of(request), secure(request)
    visit = console.cookies.session(request.cookies, secure=is_secure) or console.cookies.begin()
    provider = console.settings.gateway_oidc_client_id and console.settings.gateway_jwt_issuer
    response = draw("sign_in.html", status, csrf=visit.csrf, then=then, wrong=wrong, provider=provider)
    if visit.credential is None:
        console.cookies.set(response, visit, secure=is_secure)
    return response


def _gate(request: Request) -> Gate:
    found: Gate = of(request).api.state.parts.sign_in.gate
    return found


ROUTES = (
    ("GET", PAGE, page),
    ("POST", PAGE, by_credential),
    ("GET", f"{PAGE}/provider", to_provider),
    ("GET", oidc.CALLBACK, from_provider),
    ("POST", "/console/sign-out", sent(sign_out)),
)
