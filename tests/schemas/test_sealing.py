"""Which fields are text, and what sealing makes of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.ledger import DENIED
from commands.talk import tokens
from schemas.chain import digest
from schemas.contract import sources, topics
from schemas.sealing import Key, Unopenable, holds_text, key_ids, marks, opened, sealed
from schemas.types.common import Sealed
from schemas.types.session import AskedCall, CancelSession, RecordReply, Said, StartSession

KEY = Key("name.1", b"k" * 32)
HERE, THERE = "019ab3c2-7e1d-7cc0-9f6a-3b1de5a1c400", "019ab3c2-7e1d-7cc0-9f6a-3b1de5a1c401"
PLAIN = {
    "ids, names and codes": "actor aggregate_id agent approval attempt call code command_id epoch executor finish_reason id kind model "
    "model_id name origin outcome policy role seal session session_id tenant tool topic key_id",
    "our own words, or those of who keeps the platform": "AllotmentReceived.reason RecordAllotment.reason AllotmentDenied.reason "
    "Refused.reason TurnStopped.reason RecordVoided.reason",
    "made of a result that is not sealed, else our own words": "ToolCallReturned.reason",
    "an address, whose last part is a keyed digest where it is sealed": "artifact",
    "labels, by which sessions are searched": "metadata",
}
"""Strings of what sessions record that are no text of people, models or tools: by field, or by record and field."""


def test_every_string_of_a_session_is_marked_as_text_or_known_to_be_none() -> None:
    plain = {name for names in PLAIN.values() for name in names.split()}
    fields = {(record, name) for record, name, marked in _strings() if not marked}
    assert {f"{record}.{name}" for record, name in fields if not {name, f"{record}.{name}"} & plain} == set()


def test_every_marked_field_can_hold_what_is_sealed() -> None:
    for name, schema in sources().items():
        for field in schema.get("fields", []):
            if field.get("sealed"):
                assert "soma.common.Sealed" in field["type"], f"{name}.{field['name']}"
            if text := field.get("digest_of"):
                assert [each for each in schema["fields"] if each["name"] == text and each.get("sealed")], f"{name}.{field['name']}"


def test_text_is_sealed_wherever_it_lies_and_nothing_else() -> None:
    call = AskedCall(model_id="m1", tool="pay", arguments='{"to":"ada"}', digest=digest(b'{"to":"ada"}'), problem="no")
    reply = RecordReply(request=4, attempt="a", content="hello", finish_reason="stop", calls=(call,))
    # when
    there = sealed(reply, KEY, HERE)
    # then
    assert key_ids(there) == {"name.1"}
    assert not holds_text(there)
    assert (there.attempt, there.finish_reason, there.calls[0].tool) == ("a", "stop", "pay")
    assert there.calls[0].digest == KEY.digest(b'{"to":"ada"}') != call.digest
    assert opened(there, _with(KEY, HERE)) == RecordReply(
        request=4,
        attempt="a",
        content="hello",
        finish_reason="stop",
        calls=(AskedCall(model_id="m1", tool="pay", arguments='{"to":"ada"}', digest=there.calls[0].digest, problem="no"),),
    )


def test_what_was_said_before_a_session_is_sealed_too() -> None:
    start = StartSession(model="m", metadata={}, reply_seconds=1, idle_seconds=1, history=(Said(role="user", content="once"),))
    assert holds_text(start)
    assert isinstance(sealed(start, KEY, HERE).history[0].content, Sealed)


def test_a_command_without_a_word_needs_no_key() -> None:
    assert not holds_text(CancelSession())
    assert holds_text(CancelSession(reason="enough"))


def test_nothing_is_opened_with_another_key_in_another_place_or_altered() -> None:
    ciphertext = KEY.seal(b"hello", HERE)
    for key, place, data in (
        (Key("name.1", b"o" * 32), HERE, ciphertext),
        (Key("name.2", b"k" * 32), HERE, ciphertext),
        (KEY, THERE, ciphertext),
        (KEY, HERE, ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])),
        (KEY, HERE, ciphertext[:5]),
    ):
        with pytest.raises(Unopenable):
            key.open(data, place)


@given(st.text())
def test_the_bound_of_a_prompt_holds_for_sealed_text_and_for_a_denial_told_before_its_note(text: str) -> None:
    ciphertext = Sealed(key_id="k", ciphertext=KEY.seal(text.encode(), HERE))
    assert tokens(ciphertext) >= tokens(text)
    assert tokens(ciphertext) >= tokens(f"{DENIED} {text}")


def test_the_same_text_has_the_same_digest_under_one_key_and_is_sealed_anew_each_time() -> None:
    assert KEY.digest(b"hello") == KEY.digest(b"hello") != Key("name.1", b"o" * 32).digest(b"hello")
    assert KEY.seal(b"hello", HERE) != KEY.seal(b"hello", HERE)


def test_records_of_other_nouns_hold_no_marks() -> None:
    """Tools, agents, keys and budgets are a tenant's own: no subject's."""
    marked = {name.split(".")[1] for name, schema in sources().items() if any(field.get("sealed") for field in schema.get("fields", []))}
    assert marked == {"session"}
    assert marks(Sealed) == (frozenset(), ())


def _with(key: Key, about: str) -> Any:
    return lambda text: key.open(text.ciphertext, about).decode()


def _strings() -> Iterator[tuple[str, str, bool]]:
    """Record, field and whether it is marked, of every string that a topic of sessions can hold."""
    todo = [topic.schema for name, topic in topics().items() if name.startswith("soma.session.") and topic.schema]
    seen = set[str]()
    while todo:
        if (name := todo.pop()) in seen:
            continue
        seen.add(name)
        for field in sources()[name].get("fields", []):
            names = list(_names(field["type"]))
            todo += [each for each in names if each in sources()]
            if "string" in names:
                yield name.rpartition(".")[2], field["name"], bool(field.get("sealed"))


def _names(schema: Any) -> Iterator[str]:
    match schema:
        case str():
            yield schema
        case list():
            for branch in schema:
                yield from _names(branch)
        case {"items": part} | {"values": part} | {"type": part}:
            yield from _names(part)
