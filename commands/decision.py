"""What every decider can answer besides events."""

from msgspec import Struct


class Refusal(Struct, frozen=True):
    """The command changes nothing: a stable code for programs, a reason for people.

    `charged` where the record has charged before what the command says that it cost: it is no bill any more.
    """

    code: str
    reason: str
    charged: bool = False
