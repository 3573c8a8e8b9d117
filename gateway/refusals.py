"""What a refusal that was recorded is for the caller."""

from gateway.problems import (
    Busy,
    Conflict,
    Declined,
    Ended,
    Exists,
    Full,
    KeyReused,
    NotFound,
    OverBudget,
    Problem,
    TooLarge,
    TooManyCommands,
    VersionConflict,
)
from projections.session import Summary, overview
from schemas.types.common import Refused

KINDS: dict[str, type[Problem]] = {
    "not_found": NotFound,
    "busy": Busy,
    "ended": Ended,
    "full": Full,
    "budget": OverBudget,
    "no_such_call": NotFound,
    "exists": Exists,
    "version_conflict": VersionConflict,
    "key_reused": KeyReused,
    "too_large": TooLarge,
    "too_many_commands": TooManyCommands,
}


def problem(refused: Refused, summary: Summary | None) -> Problem:
    """The problem, with the state of the session where that is why."""
    kind = KINDS.get(refused.code, Declined)
    if not issubclass(kind, Conflict):
        return kind(refused.reason, {"Retry-After": "3600"} if kind is TooManyCommands else None)
    return kind(refused.reason, refusal=refused.code, session=summary and overview(summary))


def without_state(refused: Refused) -> Problem:
    """The problem where what refused it is no session."""
    kind = KINDS.get(refused.code, Declined)
    return Declined(refused.reason, refusal=refused.code) if issubclass(kind, Conflict) else problem(refused, None)
