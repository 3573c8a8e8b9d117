"""The arguments that a person gives a tool call: held to what a model is held to."""

from typing import Any

import msgspec

from gateway.problems import Invalid
from ops import json_schema

ARGUMENT_BYTES = 64 << 10
"""What a model may write for one call, too."""


def fitting(schema: str, arguments: dict[str, Any]) -> str:
    """The arguments as JSON, their names sorted. Raises Invalid where they do not fit the tool's schema, or are too long."""
    if problem := json_schema.problem(schema, arguments):
        raise _invalid(problem)
    text = msgspec.json.encode(arguments, order="sorted")
    if len(text) > ARGUMENT_BYTES:
        raise _invalid(f"they take more than {ARGUMENT_BYTES} bytes as JSON")
    return text.decode()


def _invalid(problem: str) -> Invalid:
    errors = [{"field": "body.arguments", "problem": line} for line in problem.splitlines()]
    return Invalid("The arguments do not fit the tool's schema.", errors=errors)
