"""JSON Schemas of arguments and results: which ones are accepted, and what a value does wrong.

A schema is somebody else's program: it may not fetch anything, and not grow beyond its text when it is applied.
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import jsonschema_rs
import msgspec

MAX_BYTES = 64 << 10
MAX_DEPTH = 64
MAX_PARTS = 10_000
"""Parts of a schema once every `$ref` in it is written out: a few lines may name each other a million times."""
SHOWN = 5
_QUOTED = 300
_BACKTRACKS = 100_000


class BadSchema(ValueError):
    """The text is no schema that is accepted; says why."""


def problem(schema: str, value: Any) -> str | None:
    """What is wrong with the value, in words that a model can mend; None when it fits. Raises BadSchema."""
    if _is_deep(value):
        return f"the value is nested deeper than {MAX_DEPTH}"
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return "the value holds text that is not Unicode: half of a surrogate pair"
    errors = [_line(error) for _, error in zip(range(SHOWN), compiled(schema).iter_errors(value), strict=False)]
    return "\n".join(errors) or None


def _is_deep(value: Any) -> bool:
    """Whether it is nested so deep that nobody downstream should try it. Level by level, since a recursion would not come back."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for part in level for child in _children(part)]
        if not level:
            return False
    return True


def _children(part: Any) -> Iterable[Any]:
    return part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()


def invalid(schema: str) -> str | None:
    """Why this text is no schema that is accepted; None where it is one."""
    try:
        compiled(schema)
    except BadSchema as error:
        return str(error)
    return None


@lru_cache(maxsize=1_024)
def compiled(schema: str) -> jsonschema_rs.Validator:
    """The validator of a schema. Raises BadSchema."""
    parsed = _parsed(schema)
    _check(parsed)
    try:
        patterns = jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS)
        return jsonschema_rs.validator_for(parsed, offline=True, pattern_options=patterns)
    except ValueError as error:
        raise BadSchema(f"is not a JSON Schema: {getattr(error, 'message', str(error))[:_QUOTED]}") from error


def parsed(schema: str) -> dict[str, Any]:
    """The schema as an object. Raises BadSchema."""
    compiled(schema)
    return _parsed(schema)


def _parsed(schema: str) -> dict[str, Any]:
    if len(schema.encode(errors="replace")) > MAX_BYTES:
        raise BadSchema(f"is longer than {MAX_BYTES} bytes")
    try:
        parsed = json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise BadSchema(f"is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise BadSchema("is not an object")
    return parsed


def _check(schema: dict[str, Any]) -> None:
    _walk(schema, 0)
    if _parts(schema, schema, {}, []) > MAX_PARTS:
        raise BadSchema(f"has more than {MAX_PARTS} parts once its references are written out")


def _walk(part: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BadSchema(f"is nested deeper than {MAX_DEPTH}")
    for child in _children(part):
        _walk(child, depth + 1)
    for name, child in part.items() if isinstance(part, dict) else ():
        if name in ("$dynamicRef", "$recursiveRef") and isinstance(child, str):
            raise BadSchema(f"uses {name}: use $ref")
        if name == "$id" and isinstance(child, str) and depth > 0:
            raise BadSchema("gives an $id to a part: refer to parts with #/…")
        if name == "$ref" and isinstance(child, str) and not child.startswith("#/"):
            raise BadSchema(f"refers to {child[:_QUOTED]!r}: only parts of the schema itself can be referred to, as #/$defs/name")


def _parts(part: Any, whole: dict[str, Any], known: dict[str, int], within: list[str]) -> int:
    """How many parts there are with every reference written out. A reference that leads to itself has no end, and is refused."""
    if isinstance(part, list):
        return 1 + sum(_parts(child, whole, known, within) for child in part)
    if not isinstance(part, dict):
        return 1
    count = 1 + sum(_parts(child, whole, known, within) for child in part.values())
    if isinstance(pointer := part.get("$ref"), str):
        if pointer in within:
            raise BadSchema(f"refers to {pointer} within {pointer}: write it out as deep as it is needed")
        if pointer not in known:
            known[pointer] = _parts(_target(whole, pointer), whole, known, [*within, pointer])
        count += known[pointer]
    return count


def _target(whole: dict[str, Any], pointer: str) -> Any:
    """The part that a JSON pointer names, RFC 6901."""
    part: Any = whole
    for step in pointer[2:].split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(part, dict) and name in part:
            part = part[name]
        elif isinstance(part, list) and name.isdigit() and int(name) < len(part):
            part = part[int(name)]
        else:
            raise BadSchema(f"refers to {pointer[:_QUOTED]}, which is not there")
    return part


def _line(error: jsonschema_rs.ValidationError) -> str:
    place = "".join(f"/{step}" for step in error.instance_path)
    return f"{place or 'the value'}: {error.message[:_QUOTED]}"
