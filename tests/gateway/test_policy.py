"""A decision, whatever becomes of the engine: nobody is let in by a failure, and it takes no longer than it may."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from prometheus_client import REGISTRY

from gateway.auth import ANONYMOUS, Principal
from gateway.engine import Embedded, engine
from gateway.policy import Decision, Policy, Question
from gateway.problems import PolicyDown
from ops import rego
from ops.settings import Settings
from tests.opa import Opa

ASKED = Question(ANONYMOUS, "session.list", {"kind": "session", "id": None, "tenant": "default"}, {})
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(body: str, status: str = "200 OK") -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {len(body.encode())}\r\n\r\n"
        writer.write(head.encode() + body.encode())
        writer.close()

    return serve


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@asynccontextmanager
async def asking(serve: Serve, *, fail_open: bool = False) -> AsyncIterator[Policy]:
    """Policies at an address that is answered as `serve` does."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with engine(Settings(opa_url=f"http://127.0.0.1:{port}", policy_seconds=0.3)) as opa:
            yield Policy(opa, fail_open=fail_open, seconds=0.3)


def embedded(text: str) -> Policy:
    """Policies that say just this."""
    modules = {"gate.rego": f"package soma.gate\n{text}\n"}
    return Policy(Embedded(rego.Policies(modules, {}, "v")), fail_open=False, seconds=5)


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("soma_policy_decisions_total", {"outcome": outcome}) or 0.0


NONSENSE = {
    "no JSON": answering("<html>"),
    "no object": answering("[1]"),
    "a text for a truth": answering('{"result": {"allow": "true", "rule": "x"}}'),
    "no rule": answering('{"result": {"allow": true}}'),
    "a rule that would not fit on record": answering('{"result": {"allow": true, "rule": "a b"}}'),
    "true alone": answering('{"result": true}'),
    "an error": answering("{}", "500 Internal Server Error"),
    "not found": answering("{}", "404 Not Found"),
    "a redirect to itself": answering("{}", "307 Temporary Redirect\r\nlocation: /"),
    "half an answer": answering('{"result": {"allow": true, "rule'),
    "silence": silent,
}


@pytest.mark.parametrize("serve", NONSENSE.values(), ids=NONSENSE)
async def test_a_server_that_talks_nonsense_or_nothing_lets_nobody_in(serve: Serve) -> None:
    before = counted("unavailable")
    async with asking(serve) as policy:
        # when, then
        with pytest.raises(PolicyDown) as refused:
            async with asyncio.timeout(10):
                await policy.decide(ASKED)
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "1")
    assert counted("unavailable") == before + 1


async def test_what_a_server_leaves_undefined_is_denied() -> None:
    async with asking(answering("{}")) as policy:
        decision = await policy.decide(ASKED)
    assert (decision.outcome, decision.rule) == ("deny", "undefined")


async def test_what_embedded_policies_leave_undefined_is_denied() -> None:
    decision = await embedded('decision := {"allow": true, "rule": "x"} if input.nothing').decide(ASKED)
    assert (decision.outcome, decision.rule) == ("deny", "undefined")


@pytest.mark.parametrize("text", ["decision := true", 'decision := {"allow": 1, "rule": "x"}', "decision := {1, 2}"])
async def test_embedded_policies_that_talk_nonsense_let_nobody_in(text: str) -> None:
    with pytest.raises(PolicyDown):
        await embedded(text).decide(ASKED)


async def test_the_same_question_is_not_put_to_the_embedded_engine_twice_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # given an engine that counts
    evaluated = list[str]()
    put = Embedded._evaluate

    def counting(self: Embedded, term: str) -> Any:
        evaluated.append(term)
        return put(self, term)

    monkeypatch.setattr(Embedded, "_evaluate", counting)
    policy = embedded('decision := {"allow": input.action == "session.list", "rule": "x", "reasons": []}')
    other = structs.replace(ASKED, action="session.start")
    # when many ask the same, and one asks otherwise
    same = await asyncio.gather(*[policy.decide(ASKED) for _ in range(50)])
    denied = await policy.decide(other)
    # then each has a decision of its own
    assert len({decision.id for decision in same}) == 50
    assert ({decision.outcome for decision in same}, denied.outcome) == ({"allow"}, "deny")
    assert len(evaluated) == 2


async def test_open_when_nobody_can_be_asked_is_marked_and_counted() -> None:
    before = counted("open")
    async with asking(silent, fail_open=True) as policy:
        decision = await policy.decide(ASKED)
    assert (decision.outcome, decision.rule, decision.version) == ("open", "policy_down", "none")
    assert decision.mark == f"open policy_down none {decision.id}"
    assert counted("open") == before + 1


async def test_open_means_nothing_where_the_policies_answer() -> None:
    async with asking(answering("{}"), fail_open=True) as policy:
        assert (await policy.decide(ASKED)).outcome == "deny"


async def test_a_real_server_that_goes_down_is_noticed_and_so_is_its_return(tmp_path: Path) -> None:
    # given
    opa = Opa(rego.SHIPPED, tmp_path / "opa.log")
    opa.start()
    try:
        async with engine(Settings(opa_url=opa.url)) as server:
            policy = Policy(server, fail_open=False, seconds=5)
            assert (await policy.decide(ASKED)).outcome == "allow"
            # when
            opa.stop()
            # then
            with pytest.raises(PolicyDown):
                await policy.decide(ASKED)
            # when
            opa.start()
            # then
            assert (await policy.decide(ASKED)).outcome == "allow"
    finally:
        opa.stop()


async def test_many_at_once_are_each_given_their_own_decision_though_they_stand_in_a_line() -> None:
    # given an engine that may take less time for one of them than all of them take
    policy = Policy(Embedded(rego.load(None)), fail_open=False, seconds=0.05)
    reader = Principal("default", "ann", scopes=frozenset({"sessions:read"}))
    resource: dict[str, str | None] = {"kind": "", "id": None, "tenant": "default"}
    actions = ["session.list", "tool.register"] * 250
    # when
    decisions: list[Decision] = await asyncio.gather(*[policy.decide(Question(reader, action, resource, {})) for action in actions])
    # then
    assert [(each.action, each.outcome) for each in decisions] == [("session.list", "allow"), ("tool.register", "deny")] * 250
    assert len({each.id for each in decisions}) == len(actions)


def test_a_question_holds_what_policies_may_decide_upon_and_nothing_else() -> None:
    who: dict[str, Any] = ASKED.document()["principal"]
    assert who == {"tenant": "default", "actor": "anonymous", "kind": "anonymous", "scopes": ["*"], "roles": [], "claims": {}}
