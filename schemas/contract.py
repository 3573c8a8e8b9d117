"""The contract as data: Avro sources and the list of topics, read from the files beside this module."""

import functools
import json
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

ROOT = Path(__file__).parent
KEPT = ROOT / "history"
Schema = Any  # an Avro schema as JSON: a name, a union (list) or an object


class Topic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of topics.yaml. `retention` is in days; `schema` is the full name of the record that its values hold."""

    about: str
    key: str
    partitions: int | Literal["scaled"]
    retention: int | Literal["forever"]
    owner: str
    readers: tuple[str, ...]
    schema: str | None = None
    cleanup: Literal["delete", "compact"] = "delete"
    compression: Literal["producer", "zstd"] = "producer"


@functools.cache
def topics() -> dict[str, Topic]:
    """Topics by name, in the order in which they are raised."""
    return msgspec.convert(yaml.safe_load((ROOT / "topics.yaml").read_text()), dict[str, Topic])


@functools.cache
def sources() -> dict[str, Schema]:
    """Every named type by full name, as written in its file."""
    loaded = [json.loads(path.read_text()) for path in sorted((ROOT / "avro").rglob("*.avsc"))]
    return {f"{schema['namespace']}.{schema['name']}": schema for schema in loaded}


def bundle(name: str) -> Schema:
    """The named type with every type it refers to written out at its first use, so that it stands alone."""
    seen: set[str] = set()

    def inline(schema: Schema) -> Schema:
        if isinstance(schema, list):
            return [inline(branch) for branch in schema]
        if isinstance(schema, str):
            if schema not in sources() or schema in seen:
                return schema
            seen.add(schema)
            return inline(sources()[schema])
        if schema["type"] == "record":
            return {**schema, "fields": [{**field, "type": inline(field["type"])} for field in schema["fields"]]}
        return {key: inline(part) if key in ("items", "values") else part for key, part in schema.items()}

    return inline(name)


def subjects() -> dict[str, Schema]:
    """What the registry holds: a schema for each typed topic, by TopicNameStrategy."""
    return {f"{name}-value": bundle(topic.schema) for name, topic in topics().items() if topic.schema}


def kept(subject: str) -> list[Path]:
    """Every version of a subject's schema that this repository ever had, oldest first."""
    return sorted((KEPT / subject).glob("*.avsc"), key=lambda path: int(path.stem))
