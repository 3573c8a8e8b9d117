"""Ids that carry their partition (rule 3): the lowest 10 bits of a UUID."""

import hashlib
import secrets
import time
import uuid

PARTITION_BITS = 10
MAX_PARTITIONS = 1 << PARTITION_BITS
_MASK = MAX_PARTITIONS - 1


def partition_of(id: str) -> int:
    """The partition that the id was born in. Raises ValueError when it is no UUID in its one canonical spelling (RFC 9562 §4)."""
    parsed = uuid.UUID(id)
    if str(parsed) != id:
        raise ValueError(f"{id!r} is not how {parsed} is spelled")
    return parsed.int & _MASK


def new_id(partition: int) -> str:
    """A UUIDv7 (RFC 9562 §5.7) of the present millisecond, its lowest bits the partition."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return _with(value, version=7, partition=partition)


def keyed_id(tenant: str, route: str, key: str, partitions: int) -> str:
    """A UUIDv8 (RFC 9562 §5.8) hashed from an Idempotency-Key and what it belongs to, born in one of `partitions`."""
    parts = [part.encode() for part in (tenant, route, key)]
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    value = int.from_bytes(hashlib.blake2b(framed, digest_size=16).digest(), "big")
    return _with(value, version=8, partition=(value >> 16) % partitions)


def named_id(tenant: str, noun: str, name: str) -> str:
    """The id of what a tenant calls by a name: a tool, a capsule. Topics keyed by name have one partition and never grow (rule 3)."""
    return keyed_id(tenant, noun, name, 1)


def derived_id(*parts: object) -> str:
    """A uuid5 of the parts: the same parts give the same id everywhere."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "\x1f".join(map(str, parts))))


def _with(value: int, *, version: int, partition: int) -> str:
    if not 0 <= partition < MAX_PARTITIONS:
        raise ValueError(f"partition {partition} does not fit into {PARTITION_BITS} bits")
    value = value & ~(0xF << 76) | version << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value & ~_MASK | partition))
