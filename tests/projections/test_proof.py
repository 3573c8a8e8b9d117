"""`soma verify --chain`: tells harmless void records from an altered one, and where it is."""

from pathlib import Path

import msgspec
import pytest
from aiokafka.record.util import calc_crc32c
from fastavro import parse_schema

from ops.embedded.kafka import Kafka
from ops.settings import Settings
from projections.proof import Proof, Walk, prove
from projections.reading import Chain
from projections.session import EVENTS
from schemas.chain import digest
from schemas.codec import Codec, Unreadable
from schemas.contract import bundle
from schemas.types.session import SessionEvent
from tests.history import History, produce
from tests.projections.conftest import codec_of, prepared

CODEC = Codec(SessionEvent, 1, {1: parse_schema(bundle("soma.session.SessionEvent"))})
GARBAGE = b"neither framing nor schema"


def walked(values: list[bytes]) -> Proof:
    walk, broken = Walk(), None
    for offset, value in enumerate(values):
        try:
            event = CODEC.decode(value)
        except Unreadable:
            event = None
        if broken := walk.take(offset, value, event):
            break
    return Proof(walk.head.sequence, walk.void, broken or walk.unfinished())


def values(history: History, sessions: int = 1) -> list[bytes]:
    """The values of so many more sessions: four each."""
    for _ in range(sessions):
        history.session()
    return [record.value for record in history.take()]


def altered(value: bytes, old: bytes, new: bytes) -> bytes:
    assert old in value
    return value.replace(old, new)


def test_a_history_that_nobody_touched_is_whole() -> None:
    assert walked(values(History(CODEC), 3)) == Proof(12, [], None)
    assert walked([]) == Proof(0, [], None)


@pytest.mark.parametrize("more", [0, 1])
def test_a_second_writers_records_are_void_and_harmless_be_it_at_the_end(more: int) -> None:
    # Given two writers who begin at the same place, the second one with a group of eight records
    first, second = History(CODEC), History(CODEC)
    log = [*values(first), *values(second, 2)]
    # When the first one goes on, or nothing follows
    log += values(first, more)
    # Then
    assert walked(log) == Proof(4 + 4 * more, [(4, 11)], None)


def test_repeated_and_unreadable_records_are_void_where_the_chain_goes_on() -> None:
    # Given
    history = History(CODEC)
    first = values(history)
    # When / then
    assert walked([*first, *first[:2], GARBAGE, *values(history)]) == Proof(8, [(4, 6)], None)


@pytest.mark.parametrize("at", range(1, 6))
def test_an_altered_record_is_found_by_what_was_built_upon_it(at: int) -> None:
    # Given a record in the middle of which one byte of text was changed
    log = values(History(CODEC), 2)
    log[at] = altered(log[at], b"tester", b"tesTer")
    # When / then
    proof = walked(log)
    assert proof.valid == at + 1
    assert proof.broken
    assert proof.broken.startswith(f"altered at or before offset {at}: offset {at + 1} continues a record that is not in the log")


def test_an_altered_chain_field_is_found_too() -> None:
    # Given a record whose own digest of its predecessor was changed
    log = values(History(CODEC), 2)
    event = CODEC.decode(log[3])
    log[3] = CODEC.encode(msgspec.structs.replace(event, meta=msgspec.structs.replace(event.meta, previous=bytes(16))))
    # When / then
    assert (walked(log).broken or "").startswith("altered at or before offset 3: offset 4")
    assert (walked(log[:4]).broken or "").startswith("altered at or before offset 3: offset 3")


def test_an_unreadable_record_that_is_in_place_is_named() -> None:
    # Given one that the next record builds upon, and one that nothing follows
    history = History(CODEC)
    log = [*values(history), GARBAGE]
    head = history.partition.head
    history.partition.head = msgspec.structs.replace(head, sequence=head.sequence + 1, digest=digest(GARBAGE))
    # When / then
    assert (walked(log).broken or "").startswith("offset 4 cannot be read, and nothing continues sequence 4")
    assert (walked([*log, *values(history)]).broken or "").startswith("offset 4: the record cannot be read, and offset 5 builds on it")


def test_missing_offsets_are_named() -> None:
    assert Walk().take(3, b"", None) == "offsets 0 to 2 are missing"


async def test_one_byte_altered_on_disk_is_found_at_its_offset(own_kafka: Kafka, own_platform: Settings, tmp_path: Path) -> None:
    # Given two partitions that are whole
    settings = prepared(own_platform)
    for partition in (0, 1):
        history = History(codec_of(settings), partition)
        for number in range(5):
            history.reply(history.start(f"number {number}"))
        produce(own_kafka.bootstrap, history.take(), partition)
    assert proofs(settings) == {Chain(EVENTS, 0): Proof(20, [], None), Chain(EVENTS, 1): Proof(20, [], None)}
    # When one letter of partition 0's third session is changed on disk, where its first message is at offset 9
    await own_kafka.stop()
    alter(tmp_path / "kafka" / f"{EVENTS}-0" / f"{0:020}.log", b"number 2", b"nUmber 2")
    await own_kafka.start()
    # Then it is found there, and the other partition is as it was
    found = {chain.partition: proof for chain, proof in proofs(settings).items()}
    assert found[1] == Proof(20, [], None)
    assert (found[0].valid, found[0].void) == (10, [(10, 19)])
    assert (found[0].broken or "").startswith("altered at or before offset 9: offset 10 continues")


def proofs(settings: Settings) -> dict[Chain, Proof]:
    return prove(settings, lambda sizes: None, lambda partition, records: None)


def alter(segment: Path, old: bytes, new: bytes) -> None:
    """Change bytes of a log segment, and mend the checksum of the record batch they lie in (Kafka's message format v2)."""
    content = bytearray(segment.read_bytes())
    place = content.index(old)
    content[place : place + len(old)] = new
    batch = 0
    while (end := batch + 12 + int.from_bytes(content[batch + 8 : batch + 12], "big")) <= place:
        batch = end
    content[batch + 17 : batch + 21] = calc_crc32c(bytes(content[batch + 21 : end])).to_bytes(4, "big")
    segment.write_bytes(content)
