"""Values between bytes and types: Avro in Confluent's wire framing (magic 0, schema id, body), with CloudEvents headers."""

import io
import struct
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.types import Schema

from schemas.contract import bundle, sources

FRAME = struct.Struct(">bI")
NATIVE = (bytes, datetime)
type_name = {name.rpartition(".")[2]: name for name in sources()}
M = TypeVar("M", bound=msgspec.Struct)
Headers = Sequence[tuple[str, bytes]]


class Unreadable(ValueError):
    """The bytes can never be read (rule 9): no framing, a schema that the registry does not have, a body that is none of it."""


class UnknownSchema(LookupError):
    """The schema with this id has not been fetched yet: fetch it and decode again."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"schema {schema_id} is not loaded")
        self.schema_id = schema_id


class Codec(Generic[M]):
    """Encodes and decodes one message type. `writers` maps schema ids to what the registry returned for them."""

    def __init__(self, message: type[M], schema_id: int, writers: dict[int, Schema]) -> None:
        self.message, self.schema_id, self.writers = message, schema_id, writers
        self.reader = parse_schema(bundle(type_name[message.__name__]))

    def encode(self, message: M) -> bytes:
        """The framed value. Raises ValueError when a field does not fit its Avro type."""
        plain = msgspec.to_builtins(message, builtin_types=NATIVE)
        if "body" in plain:
            kind = plain["body"].pop("type")
            plain["body"] = (type_name[kind], plain["body"])
        out = io.BytesIO(FRAME.pack(0, self.schema_id))
        out.seek(FRAME.size)
        schemaless_writer(out, self.reader, plain)
        return out.getvalue()

    def decode(self, value: bytes | None) -> M:
        """The message. Raises Unreadable, or UnknownSchema when its schema must be fetched first."""
        if value is None or len(value) < FRAME.size or value[0] != 0:
            raise Unreadable("no Confluent framing: a value begins with a zero byte and a schema id")
        schema_id = FRAME.unpack_from(value)[1]
        writer = self.writers.get(schema_id)
        if writer is None:
            raise UnknownSchema(schema_id)
        body = io.BytesIO(value)
        body.seek(FRAME.size)
        return self._typed(self._read(body, writer, schema_id))

    def _read(self, body: io.BytesIO, writer: Schema, schema_id: int) -> Any:
        reader = None if schema_id == self.schema_id else self.reader
        try:
            plain = schemaless_reader(body, writer, reader, return_record_name=True, return_record_name_override=True)
        except Exception as error:  # fastavro raises whatever its parser stumbles over: struct, index, unicode, overflow, key errors
            raise Unreadable(f"schema {schema_id} does not fit the bytes: {error!r}") from error
        if body.read(1):
            raise Unreadable(f"bytes are left over after a value of schema {schema_id}")
        return plain

    def _typed(self, plain: Any) -> M:
        if isinstance(plain.get("body"), tuple):
            name, fields = plain["body"]
            fields["type"] = name.rpartition(".")[2]
            plain["body"] = fields
        try:
            return msgspec.convert(plain, self.message, builtin_types=NATIVE)
        except msgspec.ValidationError as error:
            raise Unreadable(f"not a {self.message.__name__}: {error}") from error


def headers(*, id: str, kind: str, source: str, subject: str, time: datetime, trace: dict[str, str]) -> list[tuple[str, bytes]]:
    """CloudEvents 1.0 Kafka binding, binary mode, and W3C trace context. The value is complete without them."""
    pairs = {"ce_specversion": "1.0", "ce_id": id, "ce_type": kind, "ce_source": source, "ce_subject": subject, "ce_time": time.isoformat()}
    return [(key, text.encode()) for key, text in ({**pairs, "content-type": "application/avro"} | trace).items()]


def trace_of(headers: Headers) -> dict[str, str]:
    """The W3C trace context among a record's headers."""
    return {key: value.decode("ascii", "replace") for key, value in headers if key in ("traceparent", "tracestate")}
