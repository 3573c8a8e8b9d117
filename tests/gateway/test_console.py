"""The console by itself: what it draws, what it keeps in cookies, and where it sends people."""

import re
import time
from html.parser import HTMLParser
from typing import Any, ClassVar

import pytest
from starlette.responses import Response

from gateway.auth import ANONYMOUS
from gateway.console import guard
from gateway.console.cookie import FLOW, SESSION, VISIT, Cookies, Session, TooLong
from gateway.console.page import draw
from gateway.v1.access import KEY, SECRET
from gateway.v1.agent_shapes import AGENT
from gateway.v1.audit_shapes import DECISION
from gateway.v1.budget import BUDGET
from gateway.v1.call_shapes import DETAILED
from gateway.v1.policy_shapes import POLICY, REPORT, SHELF
from gateway.v1.responses import EVENT, OVERVIEW
from gateway.v1.responses import SESSION as WHOLE
from gateway.v1.tool import OVERVIEW as TOOL_OVERVIEW
from gateway.v1.tool import TOOL
from gateway.v1.usage_shapes import REPORT as USAGE

PAYLOAD = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}"
PROBLEM = {"title": "No", "detail": "It is.", "advice": "Wait.", "errors": [{"field": "a", "problem": "b"}]}
CALL = DETAILED | {"status": "awaiting"}
PAGE = {"csrf": "c", "who": ANONYMOUS, "path": "/console"}
WANTED = {"status": None, "model": "echo", "tool": "x", "cursor": None}
MESSAGE = {"role": "tool", "content": "42", "at": WHOLE["created_at"], "place": "e0-1", "tool_calls": [CALL], "call": "c"}
TURN = WHOLE | {"messages": [MESSAGE, {"role": "user", "content": {"sealed": "k"}, "at": WHOLE["created_at"], "place": "e0-2"}]}
PAGES: dict[str, dict[str, Any]] = {
    "home.html": {
        "health": {"parts": {"kafka": {"status": "ok", "detail": "answers"}}},
        "approvals": {"approvals": [CALL]},
        "unknown": {"calls": [DETAILED]},
        "tools": {"problem": PROBLEM},
        "sessions": {"sessions": [OVERVIEW]},
        "broken": [TOOL_OVERVIEW],
    },
    "sessions.html": {
        "list": {"sessions": [OVERVIEW], "next_cursor": "n"},
        "models": {"data": [{"id": "echo"}]},
        "agents": {"agents": [AGENT]},
        "wanted": WANTED,
        "statuses": ["idle"],
    },
    "session.html": {
        "session": TURN | {"error": {"code": "c", "reason": "r"}, "metadata": {"team": "blue"}, "agent": "a"},
        "waiting": [CALL, DETAILED | {"status": "unknown"}, {"problem": PROBLEM}],
        "calls": {"calls": [DETAILED | {"note": "n", "approval": {"decision": "denied", "actor": "a", "at": "", "note": "n"}}]},
        "events": {"events": [EVENT], "next_after": "e0-1", "more": True},
        "event_kinds": "A B",
    },
    "approvals.html": {"list": {"approvals": [CALL], "next_cursor": None}},
    "calls.html": {"list": {"calls": [DETAILED], "next_cursor": "n"}, "wanted": WANTED, "statuses": ["done"]},
    "tools.html": {"list": {"tools": [TOOL_OVERVIEW], "next_cursor": None}},
    "agents.html": {"list": {"agents": [AGENT], "next_cursor": None}},
    "named.html": {"noun": "tools", "about": "tool", "found": TOOL},
    "keys.html": {"list": {"keys": [KEY], "next_cursor": None}},
    "secret.html": {"key": KEY | SECRET},
    "budget.html": {"budget": BUDGET, "amounts": ("tokens",)},
    "usage.html": {"report": USAGE, "wanted": {"since": "2026-01-01", "until": None, "by": ["day"]}, "ways": ["day"]},
    "audit.html": {
        "list": {"decisions": [DECISION], "next_cursor": "n"},
        "wanted": dict.fromkeys(("actor", "action", "outcome", "resource", "resource_id", "since", "until", "cursor"), "w"),
        "outcomes": ["denied"],
    },
    "decision.html": {"decision": DECISION},
    "policies.html": {"shelf": SHELF},
    "policy.html": {
        "found": POLICY,
        "written": {"modules": [["gate.rego", "package soma.gate"]], "data": "{}", "note": "n"},
        "told": {"problem": PROBLEM},
    },
    "backtest.html": {"report": REPORT},
    "problem.html": {"problem": PROBLEM},
    "sign_in.html": {"then": "/console", "wrong": "w", "provider": "https://login.example.com"},
    "bounce.html": {"then": "/console"},
}


class Elements(HTMLParser):
    """What a browser would make of a page: its scripts, images, and attributes that run something."""

    RUNS: ClassVar = re.compile(r"on|style$")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts, self.strangers, self.running = list[str](), list[str](), list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.scripts.append(dict(attributes).get("src") or "inline")
        if tag in ("img", "iframe", "object", "svg", "style"):
            self.strangers.append(tag)
        self.running += [name for name, _ in attributes if self.RUNS.match(name)]


def attacked(value: Any) -> Any:
    """The same shape with the payload in each text of it, in names of labels too."""
    match value:
        case str():
            return PAYLOAD
        case dict():
            return {name: attacked(each) for name, each in value.items()}
        case list():
            return [attacked(each) for each in value]
        case _:
            return value


@pytest.mark.parametrize("template", PAGES)
def test_whatever_is_in_a_text_a_page_shows_it_as_text(template: str) -> None:
    # given every text that comes from people, models and tools is an attack
    hostile = attacked(PAGES[template])
    # and what decides which part of a page is drawn is as it was
    for name in ("list", "session", "found", "waiting", "approvals"):
        _keep_states(PAGES[template].get(name), hostile.get(name))
    # when
    page = bytes(draw(template, **PAGE, **hostile).body).decode()
    # then nothing of it has become a part of the page
    elements = Elements(page)
    assert elements.scripts == ["/console/static/htmx.min.js", "/console/static/console.js"]
    assert (elements.strangers, elements.running) == ([], [])
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page or "%3Cscript%3E" in page
    assert "49" not in re.sub(r'value="[^"]*"', "", page)


def _keep_states(given: Any, hostile: Any) -> None:
    if isinstance(given, dict) and isinstance(hostile, dict):
        for name in given:
            if name == "status":
                hostile[name] = given[name]
            _keep_states(given[name], hostile[name])
    if isinstance(given, list):
        for one, other in zip(given, hostile, strict=True):
            _keep_states(one, other)


def test_every_template_is_attacked() -> None:
    from gateway.console.page import ROOM

    assert {path.name for path in (ROOM / "templates").iterdir()} == PAGES.keys() | {"base.html", "parts.html"}


def kept(cookies: Cookies, value: Any, *, secure: bool = True) -> dict[str, str]:
    """The browser's cookies after an answer that sets this one."""
    response = Response()
    cookies.set(response, value, secure=secure)
    name, _, sealed = response.headers["set-cookie"].partition("=")
    return {name: sealed.partition(";")[0]}


def test_a_cookie_shows_nothing_and_only_its_maker_can_make_it() -> None:
    # given
    cookies = Cookies(bytes(32))
    session = cookies.begin("soma_key_secret")
    jar = kept(cookies, session)
    ((name, sealed),) = jar.items()
    # then
    assert name == "__Host-soma"
    assert "secret" not in sealed
    assert cookies.session(jar, secure=True) == session
    assert Cookies(bytes(31) + b"1").session(jar, secure=True) is None
    assert cookies.session({name: sealed[:-8] + "AAAAAAAA"}, secure=True) is None
    assert cookies.session({name: "x"}, secure=True) is None
    assert cookies.session({SESSION: sealed}, secure=True) is None  # a name that other hosts of the domain can set


def test_a_cookie_is_taken_for_what_it_was_made_for_alone_and_for_its_time() -> None:
    now = [time.time()]
    cookies = Cookies(bytes(32), lambda: now[0])
    flow, visit = kept(cookies, cookies.flow("/console")), kept(cookies, cookies.begin())
    assert cookies.session({f"__Host-{SESSION}": flow[f"__Host-{FLOW}"]}, secure=True) is None
    assert cookies.session({f"__Host-{SESSION}": visit[f"__Host-{VISIT}"]}, secure=True) is None
    assert isinstance(cookies.session(visit, secure=True), Session)
    now[0] += 8 * 3600
    assert cookies.session(visit, secure=True) is None


def test_a_credential_that_no_browser_would_keep_is_refused_with_a_reason() -> None:
    with pytest.raises(TooLong, match="too long to be kept"):
        Cookies(bytes(32)).set(Response(), Cookies(bytes(32)).begin("x" * 4000), secure=True)


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/console//evil.example",
        "/console/../v1/keys",
        "/console/%2e%2e/x",
        "javascript:alert(1)",
        "/consoleevil",
        "/console/a\r\nSet-Cookie: x=1",
        "/console/sessions#x",
        " /console",
        "",
        None,
    ],
)
def test_nobody_is_sent_elsewhere_after_signing_in(address: str | None) -> None:
    assert guard.local(address) == "/console"


@pytest.mark.parametrize("address", ["/console", "/console/sessions?status=idle", "/console/sessions/019ab3c2-7e1d?position=0:42"])
def test_a_page_of_the_console_is_come_back_to(address: str) -> None:
    assert guard.local(address) == address
