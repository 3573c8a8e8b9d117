"""What the policies saw is on record whole or not at all, and the question that it gives back is the one that was asked."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway import facts
from gateway.auth import Principal
from gateway.editions import Editions
from gateway.engine import Embedded, EngineDown
from gateway.policy import Question
from ops import rego
from ops.settings import Settings
from projections.audit import Entry
from projections.policy import POLICIES, Policies
from schemas.registry import Registry
from schemas.types.audit import Decision

texts = st.text(max_size=20).filter(lambda text: "soma_" not in text)
values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts | st.lists(texts, max_size=3)
principals = st.builds(
    Principal,
    tenant=texts,
    actor=texts,
    scopes=st.frozensets(texts, max_size=3),
    roles=st.frozensets(texts, max_size=3),
    claims=st.dictionaries(texts, values, max_size=3),
)
requests = st.builds(
    lambda own, path: own | {"method": "POST", "path": path, "remote": "192.0.2.7"},
    st.dictionaries(texts.filter(lambda name: name not in facts.RECORDED), values, max_size=3),
    texts,
)
questions = st.builds(
    lambda who, request, id: Question(who, "session.start", {"kind": "session", "id": id, "tenant": who.tenant}, request),
    principals,
    requests,
    st.none() | texts,
)
ADA = Question(
    Principal("acme", "ada"), "tool.list", {"kind": "tool", "id": None, "tenant": "acme"}, {"method": "GET", "path": "/", "remote": None}
)


def entry(question: Question) -> Entry:
    """As it is on record."""
    who, about = question.principal, question.request
    decision = Decision(
        id="d", time=datetime(2026, 1, 1, tzinfo=UTC), actor=who.actor, kind=who.kind, action=question.action,
        resource=question.resource["kind"] or "", resource_id=question.resource["id"], outcome="allowed", method=about["method"],
        remote=about["remote"], facts=facts.of(question),
    )  # fmt: skip
    return Entry(who.tenant, 1, 0, 0, decision)


@given(questions)
def test_the_record_gives_back_the_question_that_was_asked(question: Question) -> None:
    assert facts.document(entry(question)) == question.document()


@pytest.mark.parametrize(
    "changed",
    [
        replace(ADA, request=ADA.request | {"path": "/v1/keys/soma_secret"}),
        replace(ADA, resource={"kind": "tool", "id": "soma_secret", "tenant": "acme"}),
        replace(ADA, principal=replace(ADA.principal, actor="a" * 300)),
        replace(ADA, principal=replace(ADA.principal, claims={"groups": ["g" * 100] * 100})),
        replace(ADA, request=ADA.request | {"model": "soma_secret"}),
    ],
)
def test_what_is_too_much_or_must_not_be_kept_is_not_and_is_not_asked_again(changed: Question) -> None:
    assert facts.of(changed) is None
    assert facts.document(entry(changed)) is None


@pytest.fixture
def editions(tmp_path: Path) -> Editions:
    """Of a gateway that has read nothing yet."""
    catalogue = Policies(POLICIES, Registry({"url": "http://127.0.0.1:1"}), {}, "test")
    return Editions(Embedded(rego.load(None)), catalogue, Settings(soma_data_dir=tmp_path))


async def test_nobody_is_let_in_while_it_is_not_known_which_version_decides_but_to_the_policies(editions: Editions) -> None:
    # given
    question: dict[str, Any] = ADA.document()
    # when, then
    with pytest.raises(EngineDown, match="not read yet"):
        await editions.ask(question)
    assert (await editions.ask(question | {"action": "policy.activate"})).found["rule"] == "scope"


async def test_what_decided_here_last_decides_until_it_is_known_what_does(editions: Editions) -> None:
    # given
    await asyncio.to_thread(editions.remember, None)
    # when, then
    assert (await editions.ask(ADA.document())).version == rego.load(None).version
