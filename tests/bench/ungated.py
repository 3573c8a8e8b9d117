"""`soma`, whose gateway asks nobody and notes nothing: what the gate is measured against. `python -m tests.bench.ungated gateway`."""

from typing import Any

from gateway.audit import Audit
from gateway.origin import Origin
from gateway.policy import Decision, Policy, Question


async def let_in(self: Policy, question: Question) -> Decision:
    """Everybody, unasked."""
    return Decision("", question.action, "open", "none", (), "none")


def unnoted(self: Audit, question: Question, decided: Decision, came: Origin) -> Decision:
    """As it was decided."""
    return decided


if __name__ == "__main__":
    policy: Any = Policy
    audit: Any = Audit
    policy.decide, audit.note = let_in, unnoted
    from ops.cli import main

    main()
