"""The console in a real browser: what people do with it, without a script for reading, and readable for everyone."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.faults.cluster import Process
from tests.gateway.code_flow import CodeFlow
from tests.gateway.console import ADDER, PAGES, SCOPES, guarded, provider, waiting_call
from tests.gateway.keys import api, gateway, issue, peppered, worker
from tests.gateway.platform import Gateway

CHROMIUM = shutil.which("chromium")
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-quic"]
PICTURES = Path("docs/images")
PAYLOAD = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here: `make browser` installs it where apt-get can"),
]
__all__ = ["api", "gateway", "guarded", "peppered", "provider", "worker"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--headless", *QUIET])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser, guarded: Gateway) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(base_url=str(guarded.client.base_url), viewport={"width": 1200, "height": 900})
    context.set_default_timeout(30_000)
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(context: BrowserContext, api: httpx.AsyncClient) -> AsyncIterator[Page]:
    """A page of somebody who is signed in. Nothing that the page's policy forbids may have been tried, and nothing have failed."""
    page, said = await context.new_page(), list[str]()
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    await sign_in(page, api)
    yield page
    assert said == []


async def sign_in(page: Page, api: httpx.AsyncClient) -> None:
    key = await issue(api, "a browser's", scopes=SCOPES)
    await page.goto("/console")
    await page.get_by_label("API key, or access token").fill(key.secret or "")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()


async def picture(page: Page, name: str) -> None:
    """For docs/console.md, when SOMA_SCREENSHOTS is set."""
    if os.environ.get("SOMA_SCREENSHOTS"):
        await page.screenshot(path=PICTURES / f"console-{name}.png")


async def test_a_conversation_is_followed_as_it_happens(page: Page, api: httpx.AsyncClient) -> None:
    # given a session that somebody began in the console
    await page.get_by_role("link", name="Sessions", exact=True).click()
    await page.get_by_label("With").select_option("model:echo")
    await page.get_by_label("First message").fill("good morning")
    await page.get_by_role("button", name="Start").click()
    # then its reply appears by itself
    await expect(page.locator(".message.assistant .text", has_text="good morning")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="ReplyRecorded")
    await expect(row).to_be_visible()
    await row.get_by_text("data").click()
    # and so does what others say, without a reload: the page is still the one that was marked
    await page.evaluate("window.marked = true")
    session = page.url.split("/")[-1].split("?")[0]
    await api.post(f"/v1/sessions/{session}/messages", json={"input": PAYLOAD})
    await expect(page.locator(".message.user .text", has_text="<script>")).to_be_visible()
    await expect(page.locator(".message.assistant .text", has_text="<script>")).to_be_visible()
    # with what was opened still open
    await expect(page.get_by_role("row").filter(has_text="ReplyRecorded").first.locator("pre")).to_be_visible()
    await page.get_by_label("Message", exact=True).fill("and another")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator(".message.assistant .text", has_text="and another")).to_be_visible()
    assert await page.evaluate("window.marked") is True
    assert "broken" not in await page.title()
    await picture(page, "session")
    # when it is cancelled
    await page.get_by_label("Reason, for the record").fill("no longer needed")
    await page.get_by_role("button", name="Cancel whatever it does").click()
    # then there is nothing more to say
    await expect(page.locator("dl.facts").get_by_text("cancelled")).to_be_visible()
    await expect(page.get_by_role("button", name="Send")).to_have_count(0)


async def test_what_waits_for_a_person_is_decided_on_the_overview(page: Page, api: httpx.AsyncClient, worker: Process) -> None:
    # given
    session, call = await waiting_call(api, "a-thousand")
    await page.reload()
    card = page.get_by_role("region", name="Call of adder").filter(has_text="a-thousand")
    await expect(card).to_be_visible()
    await picture(page, "overview")
    # when
    await card.get_by_label("Note, for the record").fill("checked")
    await card.get_by_role("button", name="Approve").click()
    # then
    await expect(page.get_by_text("approved by").first).to_be_visible()
    entry = (await api.get(f"/v1/sessions/{session}/calls/{call}")).json()
    assert (entry["approval"]["decision"], entry["approval"]["note"]) == ("approved", "checked")


async def test_a_key_is_issued_with_its_secret_shown_once_then_rotated_and_revoked(page: Page, guarded: Gateway) -> None:
    # given
    await page.get_by_role("link", name="Keys", exact=True).click()
    await page.get_by_label("Name").fill("<b>nightly</b>")
    await page.get_by_label("Scopes").fill("sessions:read")
    # when
    await page.get_by_role("button", name="Issue").click()
    # then
    first = await page.locator("#secret").inner_text()
    assert (await guarded.client.get("/v1/sessions", headers={"Authorization": f"Bearer {first}"})).status_code == 200
    await page.get_by_role("link", name="To the keys").click()
    await expect(page.get_by_role("heading", name="API keys")).to_be_visible()
    assert first not in await page.content()
    row = page.get_by_role("row").filter(has_text="<b>nightly</b>")
    await picture(page, "keys")
    # and nothing that the browser kept shows it again
    await page.go_back()
    await expect(page.locator("#secret")).to_have_count(0)
    await page.goto("/console/keys")
    # when it is rotated without overlap
    await row.get_by_text("Change").click()
    await row.get_by_label("Hours").fill("0")
    await row.get_by_role("button", name="Rotate").click()
    second = await page.locator("#secret").inner_text()
    # then only the new one is good
    assert second != first
    assert (await guarded.client.get("/v1/sessions", headers={"Authorization": f"Bearer {first}"})).status_code == 401
    # when it is revoked
    await page.get_by_role("link", name="To the keys").click()
    await row.get_by_text("Change").click()
    await row.get_by_role("button", name="Revoke").click()
    # then
    await expect(row.get_by_text("revoked")).to_be_visible()
    assert (await guarded.client.get("/v1/sessions", headers={"Authorization": f"Bearer {second}"})).status_code == 401


async def test_a_tool_is_retired_and_restored_and_says_of_its_versions(page: Page, api: httpx.AsyncClient) -> None:
    # given a tool of two versions
    for description in (PAYLOAD, "Adds, and shows it."):
        assert (await api.post("/v1/tools", json=ADDER | {"name": "shower", "description": description})).status_code == 201
    await page.get_by_role("link", name="Tools", exact=True).click()
    await page.get_by_role("link", name="shower").click()
    await page.get_by_role("link", name="1", exact=True).click()
    await expect(page.get_by_text("1 of 2")).to_be_visible()
    # when, then
    await page.get_by_role("button", name="Retire").click()
    await expect(page.get_by_role("button", name="Restore")).to_be_visible()
    await page.get_by_role("button", name="Restore").click()
    await expect(page.get_by_role("button", name="Retire")).to_be_visible()


async def test_policies_are_written_checked_tried_and_activated_and_gone_back_from(
    page: Page, guarded: Gateway, api: httpx.AsyncClient
) -> None:
    # given
    await page.get_by_role("link", name="Policies", exact=True).click()
    await page.get_by_role("link", name="shipped").click()
    data = page.get_by_label("Data, as JSON")
    shipped = await data.input_value()
    # when something is wrong with them
    await data.fill("{")
    await page.get_by_role("button", name="Check").click()
    # then it says so, and nothing that was written is lost
    await expect(page.get_by_role("alert")).to_contain_text("body.data")
    assert await data.input_value() == "{"
    # when they are mended: nobody may use a model but the small one
    narrowed = json.loads(shipped)
    narrowed["soma"]["tenants"]["*"]["models"] = ["small"]
    await data.fill(json.dumps(narrowed))
    await page.get_by_role("button", name="Check").click()
    await expect(page.get_by_text("This can be published.")).to_be_visible()
    await page.get_by_label("What it is for").fill("Small models alone.")
    await page.get_by_role("button", name="Publish").click()
    await expect(page.get_by_role("heading", name="Policies, version 1", exact=True)).to_be_visible()
    await picture(page, "policies")
    # and tried on what was decided
    await until_answered(api, 201)
    async with asyncio.timeout(30):
        while not (await api.get("/v1/audit?action=session.start")).json()["decisions"]:
            await asyncio.sleep(0.05)
    await page.get_by_role("button", name="Backtest").click()
    await expect(page.get_by_role("cell", name="model", exact=True)).to_be_visible()
    assert [each["impact"] for each in (await Axe().run(page)).response["violations"] if each["impact"] in ("serious", "critical")] == []
    await picture(page, "backtest")
    await page.get_by_role("link", name="Back to version 1").click()
    # and activated
    await page.get_by_label("Reason, for the record").fill("for a test")
    await page.get_by_role("button", name="Activate").click()
    await expect(page.get_by_role("row").filter(has_text="for a test")).to_be_visible()
    await until_answered(api, 403)
    # then the audit says by which version who was kept out
    await page.get_by_role("link", name="Audit", exact=True).click()
    await page.get_by_label("Outcome").select_option("denied")
    await page.get_by_role("button", name="Search").click()
    await page.get_by_role("row").filter(has_text="session.start").first.get_by_role("link").click()
    await expect(page.get_by_text("This tenant may not use the model echo.")).to_be_visible()
    await expect(page.get_by_role("row", name="version")).to_contain_text("1@")
    await picture(page, "decision")
    # when it is gone back from
    await page.get_by_role("link", name="Policies", exact=True).click()
    await page.get_by_role("link", name="shipped").click()
    await page.get_by_role("button", name="Activate").click()
    # then
    await expect(page.get_by_text("Version shipped decides")).to_be_visible()
    await until_answered(api, 201)


async def until_answered(api: httpx.AsyncClient, status: int) -> None:
    """Gateways follow the topic each for itself."""
    async with asyncio.timeout(30):
        while (await api.post("/v1/sessions", json={"model": "echo"})).status_code != status:
            await asyncio.sleep(0.05)


async def test_what_was_used_is_told_by_what_was_asked_for(page: Page, api: httpx.AsyncClient) -> None:
    # given
    assert (await api.post("/v1/sessions", json={"model": "echo", "input": "hello"})).status_code == 201
    await page.get_by_role("link", name="Usage", exact=True).click()
    # when
    await page.get_by_label("By day").uncheck()
    await page.get_by_role("button", name="Show").click()
    # then
    await expect(page.get_by_role("columnheader", name="Day")).to_have_count(0)
    await expect(page.get_by_role("row").filter(has_text="echo")).to_be_visible()


async def test_every_page_can_be_read_without_scripts(browser: Browser, guarded: Gateway, api: httpx.AsyncClient) -> None:
    context = await browser.new_context(base_url=str(guarded.client.base_url), java_script_enabled=False)
    page = await context.new_page()
    await sign_in(page, api)
    for path in PAGES:
        answer = await page.goto(f"/console{path}")
        assert answer
        assert answer.status == 200
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in to SomaAgentHub")).to_be_visible()
    await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_page_keeps_anybody_out(scheme: str, page: Page, api: httpx.AsyncClient) -> None:
    # given a page of each kind, with something on it
    session, _ = await waiting_call(api, f"seen-{scheme}")
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for path in (*PAGES, f"/sessions/{session}", "/tools/adder", "/tools/none", "/sign-in/callback"):
        await page.goto(f"/console{path}") if path not in ("/tools/none", "/sign-in/callback") else await _failing(page, path)
        # when
        found = await Axe().run(page)
        # then
        serious = [each for each in found.response["violations"] if each["impact"] in ("serious", "critical")]
        assert serious == [], (path, found.generate_report())
    if scheme == "dark":
        await page.goto(f"/console/sessions/{session}")
        await picture(page, "dark")


async def _failing(page: Page, path: str) -> None:
    """A page that says that something went wrong; the browser says so too, in a page of its own."""
    await page.set_content(await (await page.context.request.get(f"/console{path}")).text())


async def test_a_person_signs_in_at_the_provider_and_out_again(context: BrowserContext, provider: CodeFlow) -> None:
    page = await context.new_page()
    await page.goto("/console/sessions?status=idle")
    await page.get_by_role("link", name=f"Sign in at {provider.issuer}").click()
    await expect(page.get_by_text("ada · default")).to_be_visible()
    assert page.url.endswith("/console/sessions?status=idle")
    await page.get_by_role("button", name="Sign out").click()
    await page.goto("/console")
    await expect(page.get_by_role("heading", name="Sign in to SomaAgentHub")).to_be_visible()


async def test_the_keyboard_reaches_everything_and_the_content_first(page: Page) -> None:
    await page.goto("/console/sessions")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="To the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(page.get_by_label("State")).to_be_focused()
