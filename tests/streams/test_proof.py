"""A rogue producer on the commands topic gets nowhere: what nobody of the platform signed changes nothing, in nobody's name."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from msgspec.structs import replace as but

from ops import kafka, topics
from ops.settings import Settings
from schemas import contract
from schemas.registry import Registry
from schemas.signing import Keys
from schemas.types.session import CloseSession, SessionCommand
from streams.aggregate import MEMORY
from streams.services import Services
from streams.session import SESSION
from tests.streams.conftest import Bench, start

KEYS = Keys([b"k" * 32])


@pytest.fixture
def guarded(bench: Bench) -> Bench:
    """A worker that asks for proofs."""
    bench.services = replace(bench.services, keys=KEYS)
    return bench


def signed(services: Services, command: SessionCommand) -> bytes:
    return services.keys.sign(SESSION.commands, services.commands, command)


async def started(bench: Bench) -> tuple[str, SessionCommand]:
    """A session that was started by right, and the command that did it, as a rogue reads it from the topic."""
    id = bench.new_id()
    await bench.services.send(SESSION, bench.home, id, "c1", "acme", start(), {})
    return id, bench.services.commands.decode(bench.commands()[-1].value)


async def outcomes(bench: Bench, count: int) -> list[Any]:
    """The record, once it has so many commands."""
    async with bench.running() as processor:
        await bench.until(processor, lambda: processor.partition.expected(processor.epoch) >= count)
    return bench.events()


async def test_what_the_platform_signed_is_taken(guarded: Bench) -> None:
    id, _ = await started(guarded)
    events = await outcomes(guarded, 1)
    assert [(type(event.body).__name__, event.meta.aggregate_id, event.meta.tenant) for event in events] == [("SessionStarted", id, "acme")]


FORGERIES: dict[str, dict[str, Any]] = {
    "a forged actor": {"actor": "root"},
    "another tenant": {"tenant": "other"},
    "another id, so that it counts again": {"id": "c2"},
    "no proof": {"proof": None},
    "a proof of noise": {"proof": b"n" * 40},
}


@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES)
async def test_a_command_with_a_forged_claim_is_refused_and_leaves_nothing_in_anybodys_name(guarded: Bench, change: dict[str, Any]) -> None:
    # given
    id, genuine = await started(guarded)
    # when
    forged = but(genuine, meta=but(genuine.meta, **change))
    await guarded.send_bytes(guarded.services.commands.encode(forged), id.encode())
    # then
    _, refused = await outcomes(guarded, 2)
    assert (refused.body.code, refused.meta.version) == ("unproven", None)
    assert (refused.meta.aggregate_id, refused.meta.tenant, refused.meta.actor) == ("", "", "platform")


async def test_a_valid_actor_with_another_body_is_refused(guarded: Bench) -> None:
    id, genuine = await started(guarded)
    await guarded.send_bytes(guarded.services.commands.encode(but(genuine, body=CloseSession())), id.encode())
    _, refused = await outcomes(guarded, 2)
    assert refused.body.code == "unproven"


async def test_a_proof_that_is_sent_again_for_another_session_is_refused(guarded: Bench) -> None:
    _, genuine = await started(guarded)
    other = guarded.new_id()
    forged = but(genuine, meta=but(genuine.meta, aggregate_id=other))
    await guarded.send_bytes(guarded.services.commands.encode(forged), other.encode())
    _, refused = await outcomes(guarded, 2)
    assert refused.body.code == "unproven"


async def test_the_same_bytes_sent_again_count_once(guarded: Bench) -> None:
    id, _ = await started(guarded)
    await guarded.send_bytes(guarded.commands()[0].value or b"", id.encode())
    _, refused = await outcomes(guarded, 2)
    assert refused.body.code == "duplicate"


async def test_bytes_that_were_signed_long_ago_are_refused_whatever_their_sender_says_of_the_time(guarded: Bench) -> None:
    # given a command of a day ago, proof and all
    id, genuine = await started(guarded)
    yesterday = datetime.now(UTC) - MEMORY
    closing = but(genuine, meta=but(genuine.meta, id="c2", time=yesterday, proof=None), body=CloseSession())
    value, then = signed(guarded.services, closing), int(yesterday.timestamp() * 1000)
    # when somebody sends it again, and claims that it comes in time
    await guarded.services.side.send_and_wait(SESSION.commands, value, id.encode(), partition=guarded.home, timestamp_ms=then)
    # then the broker says when it came
    _, refused = await outcomes(guarded, 2)
    assert (refused.body.code, refused.meta.version) == ("untimely", None)


async def test_a_topic_that_let_senders_say_when_a_command_came_does_so_no_more(platform: Settings) -> None:
    # given a topic as an earlier release made it
    admin, name = AdminClient(kafka.confluent(platform)), SESSION.commands
    before = ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET)
    [done] = admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, name, incremental_configs=[before])]).values()
    done.result(20)
    # when
    registry = Registry(kafka.registry(platform))
    said = list(topics.apply(platform, registry))
    # then
    assert f"{name}: the broker says when a command came" in said
    assert list(topics.apply(platform, registry))[-1] == f"{list(contract.topics())[-1]}: 4 partitions, unchanged"
    [found] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).values()
    assert found.result(20)["message.timestamp.type"].value == "LogAppendTime"


async def test_a_flood_of_forgeries_takes_no_room_from_the_session(guarded: Bench) -> None:
    # given
    id, genuine = await started(guarded)
    for number in range(1_100):
        forged = but(genuine, meta=but(genuine.meta, id=f"f{number}"))
        value = guarded.services.commands.encode(forged)
        await guarded.services.side.send(SESSION.commands, value, id.encode(), partition=guarded.home)
    # when
    await guarded.services.send(SESSION, guarded.home, id, "close", "acme", CloseSession(), {})
    # then
    events = await outcomes(guarded, 1_102)
    assert type(events[-1].body).__name__ == "SessionClosed"


async def test_the_decision_that_let_a_command_in_is_on_record(guarded: Bench) -> None:
    # given
    id, genuine = await started(guarded)
    mark = "allow sessions:write v1 3b0c8f1d"
    closing = but(genuine, meta=but(genuine.meta, id="c2", policy=mark, proof=None), body=CloseSession())
    # when
    await guarded.send_bytes(signed(guarded.services, closing), id.encode())
    # then
    _, closed = await outcomes(guarded, 2)
    assert (type(closed.body).__name__, closed.meta.policy) == ("SessionClosed", mark)
