"""Definitions and calls, with what a test does not care about filled in."""

from typing import Any

from schemas.types.tool import Definition
from streams.tools.egress import Guard
from streams.tools.running import Call, Ways
from streams.tools.secrets import Secrets

OPEN = Guard(["127.0.0.1"])
"""Lets tools reach the servers of the tests."""


def definition(**fields: Any) -> Definition:
    """A definition that is right as soon as it says what runs the tool."""
    given: dict[str, Any] = {
        "name": "tool",
        "description": "Does something.",
        "parameters": '{"type": "object"}',
        "repeat": "safe",
        "timeout_seconds": 10,
        "attempts": 3,
        "approval": "never",
    }
    return Definition(**{**given, **fields})


def call(seconds: float = 20, **arguments: Any) -> Call:
    return Call("call-1", "session-1", "default", arguments, seconds)


def ways(guard: Guard = OPEN, **fields: Any) -> Ways:
    return Ways(**{"guard": guard, "secrets": Secrets(None, {}), **fields})
