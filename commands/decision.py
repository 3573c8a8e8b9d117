"""What every decider can answer besides events."""

from msgspec import Struct


class Refusal(Struct, frozen=True):
    """The command changes nothing: a stable code for programs, a reason for people."""

    code: str
    reason: str
