"""The policies of the platform: looked at, written anew and checked, tried on what was decided, activated."""

import json
from typing import Any

from starlette.datastructures import FormData
from starlette.responses import Response

from gateway.console.api import Failed, path
from gateway.console.page import Page, once, said, see, sent, shown

FILES = 20
"""Modules that a page can hold; more of them are published from a terminal."""


async def policies(page: Page) -> Response:
    return page.draw("policies.html", shelf=await page.api.get(path("policies"), position=page.argument("position")))


async def one(page: Page) -> Response:
    found = await page.api.get(path("policies", page.named("name")), position=page.argument("position"))
    modules, data = found["modules"] or {}, json.dumps(found["data"], indent=2, ensure_ascii=False)
    return page.draw("policy.html", found=found, written=_written(modules.items(), data, None), told=None)


async def check(page: Page, form: FormData) -> Response:
    """The same page with what was written, and what the compiler says of it."""
    try:
        answer = await page.api.write("POST", path("policies", "check"), _body(form), once(form))
    except Failed as failed:
        return await _again(page, form, {"problem": failed.problem}, 200)  # that they are wrong is what was asked for
    return await _again(page, form, answer.document, 200)


async def publish(page: Page, form: FormData) -> Response:
    """What cannot be published is shown again, so that it can be mended."""
    try:
        answer = await page.api.write("POST", path("policies"), _body(form) | {"note": said(form, "note")}, once(form))
    except Failed as failed:
        return await _again(page, form, {"problem": failed.problem}, failed.status)
    version = answer.document.get("version")
    return see(f"/console/policies/{version}" if version else f"/console/policies?position={answer.document['position']}")


async def activate(page: Page, form: FormData) -> Response:
    address, body = path("policies", page.named("name"), "activate"), {"reason": said(form, "reason")}
    answer = await page.api.write("POST", address, body, once(form))
    position = answer.document.get("position")
    return see(f"/console/policies?position={position}" if position else "/console/policies")


async def backtest(page: Page, form: FormData) -> Response:
    day = said(form, "since")
    since = f"{day}T00:00:00Z" if day and len(day) == 10 else day
    address = path("policies", page.named("name"), "backtest")
    answer = await page.api.write("POST", address, None, once(form), since=since, cursor=said(form, "cursor"))
    return page.draw("backtest.html", report=answer.document)


async def _again(page: Page, form: FormData, told: dict[str, Any], status: int) -> Response:
    found = await page.api.get(path("policies", page.named("name")))
    written = _written(_modules(form), _text(form, "data"), said(form, "note"))
    return page.draw("policy.html", status, found=found, written=written, told=told)


def _written(modules: Any, data: str, note: str | None) -> dict[str, Any]:
    """What the page's form holds: the modules, and room for one more."""
    return {"modules": [*modules, ("", "")][:FILES], "data": data, "note": note or ""}


def _body(form: FormData) -> dict[str, Any]:
    """As the API takes it. Data that is no JSON goes on as the text that it is, for the API to say so."""
    data = _text(form, "data")
    try:
        return {"modules": dict(_modules(form)), "data": json.loads(data)}
    except (ValueError, RecursionError):
        return {"modules": dict(_modules(form)), "data": data}


def _modules(form: FormData) -> list[tuple[str, str]]:
    named = ((said(form, f"file-{number}"), _text(form, f"text-{number}")) for number in range(FILES))
    return [(name or "", text) for name, text in named if name or text.strip()]


def _text(form: FormData, name: str) -> str:
    """With line ends as they were: a form sends others (HTML, "Constructing the entry list")."""
    return str(form.get(name) or "").replace("\r\n", "\n")


ROUTES = (
    ("GET", "/console/policies", shown(policies)),
    ("GET", "/console/policies/{name}", shown(one)),
    ("POST", "/console/policies/{name}/check", sent(check)),
    ("POST", "/console/policies/{name}/publish", sent(publish)),
    ("POST", "/console/policies/{name}/activate", sent(activate)),
    ("POST", "/console/policies/{name}/backtest", sent(backtest)),
)
