"""The contract: generated types are current, every record has an example that survives the round trip, ids carry partitions."""

import json
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastavro import parse_schema

from schemas import contract, generate
from schemas.codec import FRAME, Codec, UnknownSchema, Unreadable
from schemas.compatibility import broken, reads
from schemas.ids import derived_id, keyed_id, named_id, new_id, partition_of
from schemas.types import access, agent, audit, budget, policy, relation, session, tool

MESSAGES: dict[tuple[str, str], Any] = {
    ("session", "command"): session.SessionCommand,
    ("session", "event"): session.SessionEvent,
    ("agent", "command"): agent.AgentCommand,
    ("agent", "event"): agent.AgentEvent,
    ("tool", "command"): tool.ToolCommand,
    ("tool", "event"): tool.ToolEvent,
    ("access", "command"): access.AccessCommand,
    ("access", "event"): access.AccessEvent,
    ("audit", "command"): audit.AuditCommand,
    ("policy", "command"): policy.PolicyCommand,
    ("policy", "event"): policy.PolicyEvent,
    ("audit", "event"): audit.AuditEvent,
    ("budget", "command"): budget.BudgetCommand,
    ("budget", "event"): budget.BudgetEvent,
    ("relation", "command"): relation.RelationCommand,
    ("relation", "event"): relation.RelationEvent,
}
EXAMPLES = sorted((contract.ROOT / "examples").rglob("*.json"))
SESSIONS = sorted((contract.ROOT / "examples" / "session").rglob("*.json"))


def codec(message: type[Any]) -> Codec[Any]:
    name = next(f"soma.{noun}.{message.__name__}" for (noun, _), kind in MESSAGES.items() if kind is message)
    return Codec(message, 7, {7: parse_schema(contract.bundle(name))})


def test_generated_types_are_current() -> None:
    assert generate.stale() == [], "run `soma schemas generate`"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_an_example_is_what_its_record_says(path: Path) -> None:
    message = MESSAGES[path.parts[-3], path.parts[-2]]
    example = msgspec.json.decode(path.read_bytes(), type=message)
    assert type(example.body).__name__ == path.stem
    avro = codec(message)
    assert avro.decode(avro.encode(example)) == example
    assert json.loads(msgspec.json.encode(example)) == json.loads(path.read_text())


def test_every_record_that_a_topic_can_hold_has_an_example() -> None:
    for (noun, room), message in MESSAGES.items():
        bodies = {branch.rpartition(".")[2] for branch in _bodies(f"soma.{noun}.{message.__name__}")}
        assert bodies == {path.stem for path in (contract.ROOT / "examples" / noun / room).glob("*.json")}


def _bodies(name: str) -> list[str]:
    fields = {field["name"]: field["type"] for field in contract.sources()[name]["fields"]}
    branches: list[str] = fields["body"]
    return branches


FRAMED = b"\x00\x00\x00\x00\x07"


@pytest.mark.parametrize("value", [None, b"", b"\x00", b"\x01\x00\x00\x00\x07x", FRAMED, FRAMED + b"\xff" * 40])
def test_bytes_that_are_no_message_are_unreadable(value: bytes | None) -> None:
    with pytest.raises(Unreadable):
        codec(session.SessionEvent).decode(value)


def test_bytes_left_over_are_unreadable() -> None:
    avro = codec(session.SessionEvent)
    example = msgspec.json.decode(SESSIONS[-1].read_bytes(), type=session.SessionEvent)
    with pytest.raises(Unreadable, match="left over"):
        avro.decode(avro.encode(example) + b"x")


def test_a_schema_that_is_not_loaded_is_asked_for() -> None:
    with pytest.raises(UnknownSchema) as unknown:
        codec(session.SessionEvent).decode(FRAME.pack(0, 8) + b"x")
    assert unknown.value.schema_id == 8


def test_ids_carry_their_partition_and_their_version() -> None:
    born, keyed = new_id(1023), keyed_id("t", "POST /v1/sessions", "k", 8)
    assert (partition_of(born), uuid.UUID(born).version) == (1023, 7)
    assert (partition_of(keyed) < 8, uuid.UUID(keyed).version, uuid.UUID(keyed).variant) == (True, 8, uuid.RFC_4122)
    assert keyed == keyed_id("t", "POST /v1/sessions", "k", 8)
    assert keyed != keyed_id("tP", "OST /v1/sessions", "k", 8), "parts are told apart"
    assert uuid.UUID(derived_id("a", 1)).version == 5


def test_what_has_a_name_has_one_id_in_the_one_partition() -> None:
    assert named_id("t", "tool", "adder") == named_id("t", "tool", "adder")
    assert len({named_id("t", "tool", "a"), named_id("u", "tool", "a"), named_id("t", "capsule", "a"), named_id("t", "tool", "b")}) == 4
    assert partition_of(named_id("t", "tool", "adder")) == 0


def test_keyed_ids_spread_over_all_partitions() -> None:
    assert {partition_of(keyed_id("t", "r", str(key), 8)) for key in range(200)} == set(range(8))


def test_a_new_id_in_a_partition_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not fit into 10 bits"):
        new_id(1024)


def test_topics_are_raised_in_an_order_that_lets_commands_come_last() -> None:
    scaled = [name for name, topic in contract.topics().items() if topic.partitions == "scaled"]
    assert scaled[-1] == "soma.session.commands"
    assert {topic.schema for topic in contract.topics().values() if topic.schema} <= set(contract.sources())


def test_todays_schemas_read_every_version_that_was_kept() -> None:
    assert broken() == []


def test_a_change_that_would_make_old_records_unreadable_is_named() -> None:
    old = contract.bundle("soma.session.SessionEvent")
    new = json.loads(json.dumps(old))
    new["fields"][0]["type"]["fields"].append({"name": "colour", "type": "string"})
    assert "colour" in (reads(new, old) or "")
    new["fields"][0]["type"]["fields"][-1]["default"] = "none"
    assert reads(new, old) is None
