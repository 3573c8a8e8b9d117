"""Writes what is made from the Avro sources: `types/*.py`, a frozen msgspec Struct for each record, and the versions in `history/`."""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from schemas.contract import KEPT, ROOT, Schema, kept, sources, subjects

PLAIN = {"string": "str", "int": "int", "long": "int", "boolean": "bool", "double": "float", "bytes": "bytes", "null": "None"}
HEADER = '"""Generated from schemas/avro/{noun}/ by `soma schemas generate`: change those files instead of this one."""\n'
TYPES = ROOT / "types"


def generated() -> dict[Path, str]:
    """What is made from the sources: file → the text it must have."""
    return _types() | _kept()


def stale() -> list[Path]:
    """Generated files that differ from what the sources say."""
    return [path for path, text in generated().items() if not path.exists() or path.read_text() != text]


def write() -> None:
    """Bring every generated file up to date."""
    for path, text in generated().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def _types() -> dict[Path, str]:
    named = sorted(sources().items(), key=lambda item: item[0].rpartition(".")[0])
    return {
        TYPES / f"{namespace.rpartition('.')[2]}.py": _module(namespace, dict(members))
        for namespace, members in groupby(named, key=lambda item: item[0].rpartition(".")[0])
    }


def _kept() -> dict[Path, str]:
    """Each subject's schema as it is now: its newest kept version, or the next one."""
    return {path: text for subject, schema in subjects().items() for path, text in [_newest(subject, json.dumps(schema, indent=1) + "\n")]}


def _newest(subject: str, text: str) -> tuple[Path, str]:
    versions = kept(subject)
    if versions and versions[-1].read_text() == text:
        return versions[-1], text
    return KEPT / subject / f"{len(versions) + 1}.avsc", text


def _module(namespace: str, members: dict[str, Schema]) -> str:
    records = [schema for _, schema in _ordered(members) if schema["type"] == "record"]
    fixed = [schema for schema in members.values() if schema["type"] == "fixed"]
    body = [f"{s['name']} = bytes  # {s['size']} bytes: {s['doc']}" for s in fixed]
    body += [_struct(schema) for schema in records]
    text = "\n\n".join(body)
    foreign = sorted({name for s in records for name in _references(s) if name not in members})
    imports = ["from datetime import datetime\n"] if "datetime" in text else []
    imports += ["from msgspec import Struct\n"]
    ours = [_import(space, names) for space, names in groupby(foreign, key=lambda name: name.rpartition(".")[0])]
    imports += ["".join(ours)] if ours else []
    return "\n".join([HEADER.format(noun=namespace.rpartition(".")[2]), *imports]) + "\n\n" + text + "\n"


def _import(namespace: str, names: Iterator[str]) -> str:
    return f"from schemas.types.{namespace.rpartition('.')[2]} import {', '.join(name.rpartition('.')[2] for name in names)}\n"


def _ordered(members: dict[str, Schema]) -> Iterator[tuple[str, Schema]]:
    """Each type after those it refers to."""
    done: set[str] = set()

    def visit(name: str) -> Iterator[tuple[str, Schema]]:
        if name in members and name not in done:
            done.add(name)
            for reference in _references(members[name]):
                yield from visit(reference)
            yield name, members[name]

    for name in sorted(members):
        yield from visit(name)


def _references(schema: Schema) -> list[str]:
    if isinstance(schema, str):
        return [schema] if schema in sources() else []
    if isinstance(schema, list):
        return [name for branch in schema for name in _references(branch)]
    parts = [field["type"] for field in schema.get("fields", [])] + [schema[k] for k in ("values", "items") if k in schema]
    return [name for part in parts for name in _references(part)]


def _struct(schema: Schema) -> str:
    tagged = ", tag=True" if schema["name"] in _bodies() else ""
    fields = "".join(f"    {f['name']}: {_type(f['type'])}{_default(f)}\n" for f in schema["fields"])
    return f'\nclass {schema["name"]}(Struct, frozen=True, kw_only=True{tagged}):\n    """{schema["doc"]}"""\n\n{fields}'.rstrip()


def _default(field: Schema) -> str:
    if "default" not in field:
        return ""
    return f" = {() if field['default'] == [] else field['default']!r}"


def _bodies() -> set[str]:
    """Records that are a branch of a message's `body`: told apart in JSON by a `type` of their name."""
    fields = [field for schema in sources().values() for field in schema.get("fields", []) if field["name"] == "body"]
    return {name.rpartition(".")[2] for field in fields for name in field["type"]}


def _type(schema: Schema) -> str:
    if isinstance(schema, list):
        branches = [_type(branch) for branch in schema if branch != "null"] + (["None"] if "null" in schema else [])
        return " | ".join(branches)
    if isinstance(schema, str):
        return PLAIN.get(schema) or schema.rpartition(".")[2]
    if schema.get("logicalType") == "timestamp-micros":
        return "datetime"
    match schema["type"]:
        case "map":
            return f"dict[str, {_type(schema['values'])}]"
        case "array":
            return f"tuple[{_type(schema['items'])}, ...]"
    raise ValueError(f"no Python type for {schema}: teach schemas/generate.py about it")
