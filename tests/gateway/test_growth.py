"""Partitions are raised while traffic runs (rule 3): old sessions stay, new ones spread, and keys keep their first answer."""

import asyncio
from datetime import UTC, datetime, timedelta

from gateway.identity import START
from gateway.layout import Layout
from ops import kafka, topics
from ops.settings import Settings
from schemas.ids import keyed_id, partition_of
from schemas.registry import Registry
from schemas.types.common import LayoutChanged
from tests.gateway.platform import PARTITIONS, Platform, running, until

MORE = 8
SETTLE = timedelta(seconds=2)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def key_that_moves() -> str:
    """An Idempotency-Key whose session would be born elsewhere after the growth."""
    return next(
        key
        for key in map(str, range(100))
        if keyed_id("default", START, key, PARTITIONS) != keyed_id("default", START, key, MORE)
        and partition_of(keyed_id("default", START, key, MORE)) >= PARTITIONS
    )


async def test_partitions_are_raised_while_traffic_runs(own_settings: Settings) -> None:
    async with running(own_settings, settle=SETTLE) as platform:
        # given
        client, key = platform.client, {"Idempotency-Key": key_that_moves()}
        first = await client.post("/v1/sessions", json={"model": "echo", "input": "before"}, headers=key)
        talking = asyncio.create_task(talk(platform, first.json()["id"]))
        # when
        settings = own_settings.model_copy(update={"kafka_cfg_num_partitions": MORE})
        registry = Registry(kafka.registry(settings))
        await asyncio.to_thread(lambda: list(topics.apply(settings, registry)))
        changed = datetime.now(UTC)
        async with asyncio.timeout(30):
            while f"{MORE} partitions" not in await until(client, "gateway", "ok"):
                await asyncio.sleep(0.1)
        early = await client.post("/v1/sessions", json={"model": "echo"}, headers={"Idempotency-Key": f"{key['Idempotency-Key']}-early"})
        while datetime.now(UTC) < changed + SETTLE:
            await asyncio.sleep(0.1)
        fresh = [(await client.post("/v1/sessions", json={"model": "echo"})).json()["id"] for _ in range(30)]
        keyed = await client.post("/v1/sessions", json={"model": "echo"}, headers={"Idempotency-Key": f"{key['Idempotency-Key']}-late"})
        again = await client.post("/v1/sessions", json={"model": "echo", "input": "before"}, headers=key)
        said = await talking
        # then
        assert (again.status_code, again.json(), again.headers["idempotency-replayed"]) == (201, first.json(), "true")
        assert early.status_code == keyed.status_code == 201
        assert keyed.json()["id"] == keyed_id("default", START, f"{key['Idempotency-Key']}-late", MORE)
        assert max(map(partition_of, fresh)) >= PARTITIONS
        session = (await client.get(f"/v1/sessions/{first.json()['id']}?position={said[-1]}")).json()
        texts = [message["content"] for message in session["messages"] if message["role"] == "user"]
        assert texts == ["before", *map(str, range(len(said)))]


async def talk(platform: Platform, id: str) -> list[str]:
    """Talk until the growth is over. The positions of what was said."""
    said = list[str]()
    while len(said) < 20 or f"{MORE} partitions" not in (await platform.client.get("/health")).text:
        answer = await platform.client.post(f"/v1/sessions/{id}/messages", json={"input": str(len(said))})
        assert answer.status_code == 200, answer.text
        said.append(answer.json()["position"])
    return said


def layout(*changes: tuple[int, int | None, timedelta]) -> Layout:
    made = Layout("commands", timedelta(minutes=1))
    for partitions, former, ago in changes:
        made.take(LayoutChanged(topic="commands", partitions=partitions, former=former, time=NOW - ago))
    return made


def test_the_first_number_holds_at_once() -> None:
    assert (layout((8, None, timedelta())).in_force(NOW), layout((8, None, timedelta())).former(NOW)) == (8, [])


def test_a_new_number_holds_a_minute_later_and_the_former_one_is_remembered_for_a_day() -> None:
    grown = (8, None, timedelta(days=9))
    assert layout(grown, (16, 8, timedelta(seconds=59))).in_force(NOW) == 8
    assert layout(grown, (16, 8, timedelta(seconds=59))).former(NOW) == []
    assert layout(grown, (16, 8, timedelta(seconds=60))).in_force(NOW) == 16
    assert layout(grown, (16, 8, timedelta(hours=24))).former(NOW) == [8]
    assert layout(grown, (16, 8, timedelta(hours=24, minutes=1))).former(NOW) == []


def test_several_growths_within_a_day_are_remembered() -> None:
    assert layout((8, None, timedelta(days=9)), (16, 8, timedelta(hours=2)), (32, 16, timedelta(hours=1))).former(NOW) == [16, 8]


def test_a_growth_that_is_said_again_changes_nothing() -> None:
    said_twice = layout((8, None, timedelta(days=9)), (16, 8, timedelta(hours=25)), (16, 8, timedelta()))
    assert (said_twice.in_force(NOW), said_twice.former(NOW)) == (16, [])


def test_topics_that_were_made_by_other_means_have_a_former_number_all_the_same() -> None:
    grown = layout((16, 8, timedelta(seconds=30)))
    assert (grown.in_force(NOW), grown.largest) == (8, 16)
    assert layout((16, 8, timedelta(hours=1))).former(NOW) == [8]


def test_other_topics_do_not_count() -> None:
    made = Layout("commands")
    made.take(LayoutChanged(topic="events", partitions=8, time=NOW))
    assert (made.in_force(NOW), made.largest) == (0, 0)
