"""Generated from schemas/avro/common/ by `soma schemas generate`: change those files instead of this one."""

from datetime import datetime

from msgspec import Struct


Digest = bytes  # 16 bytes: BLAKE2b, 128 bits, of the whole value of a record as it lies in the log (framing included).


class Amounts(Struct, frozen=True, kw_only=True):
    """What can be budgeted: used, reserved or granted."""

    tokens: int = 0
    cost_micros: int = 0
    calls: int = 0
    turns: int = 0


class CommandMeta(Struct, frozen=True, kw_only=True):
    """Who asks for what, and when."""

    id: str
    aggregate_id: str
    tenant: str
    actor: str
    time: datetime
    expected_version: int | None = None
    key_digest: Digest | None = None
    policy: str | None = None
    proof: bytes | None = None


class CommandsLost(Struct, frozen=True, kw_only=True, tag=True):
    """A hole in the commands topic, made by retention before anyone read it."""

    first_offset: int
    last_offset: int


class Position(Struct, frozen=True, kw_only=True):
    """A place in a commands topic."""

    epoch: str
    partition: int
    offset: int


class EventMeta(Struct, frozen=True, kw_only=True):
    """Where a record stands: in its partition's chain, in its aggregate, and after which command."""

    id: str
    aggregate_id: str
    version: int | None = None
    sequence: int
    previous: Digest
    versions: int
    tenant: str
    actor: str
    time: datetime
    command_id: str
    command: Position
    index: int
    count: int
    key_digest: Digest | None = None
    policy: str | None = None
    origin: str


class LayoutChanged(Struct, frozen=True, kw_only=True):
    """The number of partitions of a topic was raised."""

    topic: str
    partitions: int
    former: int | None = None
    time: datetime


class RecordVoided(Struct, frozen=True, kw_only=True, tag=True):
    """An operator's word that a record which nobody can read is void: the chain goes on without it."""

    offset: int
    reason: str


class Usage(Struct, frozen=True, kw_only=True):
    """What a provider billed for one model call."""

    input_tokens: int
    output_tokens: int
    cost_micros: int = 0


class Refused(Struct, frozen=True, kw_only=True, tag=True):
    """A command that changed nothing, and why."""

    code: str
    reason: str
    first: Position | None = None
    usage: Usage | None = None


class Sealed(Struct, frozen=True, kw_only=True):
    """Text that only the holder of a key can read."""

    key_id: str
    ciphertext: bytes
