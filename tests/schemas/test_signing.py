"""Proofs of commands: who holds no key can make none, and one says what it was made for."""

from typing import Any

import msgspec
import pytest
from fastavro import parse_schema
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.codec import Codec
from schemas.contract import ROOT, bundle
from schemas.signing import PROOF_BYTES, Keys
from schemas.types.session import PostMessage, SessionCommand

TOPIC = "soma.session.commands"
OLD, NEW = b"o" * 32, b"n" * 32
CODEC: Codec[SessionCommand] = Codec(SessionCommand, 7, {7: parse_schema(bundle("soma.session.SessionCommand"))})
EXAMPLE = msgspec.json.decode((ROOT / "examples" / "session" / "command" / "PostMessage.json").read_bytes(), type=SessionCommand)


def proven(keys: Keys, value: bytes, topic: str = TOPIC) -> bool:
    return keys.prove(topic, CODEC.decode(value), value)


@given(text=st.text(), actor=st.text())
def test_a_signed_command_is_the_same_command_and_is_proven(text: str, actor: str) -> None:
    command = SessionCommand(meta=replace(EXAMPLE.meta, actor=actor, proof=None), body=PostMessage(input=text))
    # when
    value = Keys([NEW]).sign(TOPIC, CODEC, command)
    # then
    read = CODEC.decode(value)
    assert len(read.meta.proof or b"") == PROOF_BYTES
    assert replace(read, meta=replace(read.meta, proof=None)) == command
    assert proven(Keys([NEW]), value)


def test_no_single_byte_can_be_another() -> None:
    value = Keys([NEW]).sign(TOPIC, CODEC, EXAMPLE)
    for place in range(len(value)):
        altered = value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]
        try:
            assert not proven(Keys([NEW]), altered), f"byte {place}"
        except (ValueError, LookupError):
            continue  # it cannot even be read


CLAIMS: list[dict[str, Any]] = [
    {"actor": "eve"},
    {"tenant": "other"},
    {"aggregate_id": EXAMPLE.meta.id},
    {"id": "x"},
    {"policy": "allow all v i"},
    {"expected_version": 9},
]


@pytest.mark.parametrize("change", CLAIMS, ids=str)
def test_a_proof_does_not_fit_another_claim(change: dict[str, Any]) -> None:
    signed = CODEC.decode(Keys([NEW]).sign(TOPIC, CODEC, EXAMPLE))
    forged = CODEC.encode(replace(signed, meta=replace(signed.meta, **change)))
    assert not proven(Keys([NEW]), forged)


def test_a_proof_does_not_fit_another_topic() -> None:
    value = Keys([NEW]).sign(TOPIC, CODEC, EXAMPLE)
    assert not proven(Keys([NEW]), value, "soma.tool.commands")


@pytest.mark.parametrize("proof", [None, b"", b"\x00" * PROOF_BYTES, b"short"])
def test_what_is_no_proof_proves_nothing(proof: bytes | None) -> None:
    assert not proven(Keys([NEW]), CODEC.encode(replace(EXAMPLE, meta=replace(EXAMPLE.meta, proof=proof))))


def test_keys_are_rotated_without_a_gap() -> None:
    # given what was signed before, by the old key, and while both are known
    before, between = Keys([OLD]).sign(TOPIC, CODEC, EXAMPLE), Keys([NEW, OLD]).sign(TOPIC, CODEC, EXAMPLE)
    # then each is proven as long as its key is known, and no longer
    assert proven(Keys([NEW, OLD]), before)
    assert proven(Keys([OLD, NEW]), between)
    assert not proven(Keys([NEW]), before)
    assert not proven(Keys([OLD]), between)


def test_without_keys_nothing_is_signed_and_nothing_asked_for() -> None:
    value = Keys().sign(TOPIC, CODEC, EXAMPLE)
    assert value == CODEC.encode(EXAMPLE)
    assert proven(Keys(), value)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Keys([b"short"])
