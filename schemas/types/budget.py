"""Generated from schemas/avro/budget/ by `soma schemas generate`: change those files instead of this one."""

from datetime import datetime

from msgspec import Struct

from schemas.types.common import Amounts, CommandMeta, CommandsLost, EventMeta, RecordVoided, Refused



class AllotmentDenied(Struct, frozen=True, kw_only=True, tag=True):
    """A session holds nothing from now on: what it needs is not left."""

    session: str
    draw: int
    used: Amounts
    code: str
    reason: str


class Allotted(Struct, frozen=True, kw_only=True, tag=True):
    """A session holds this much from now on, in place of what it held. A draw that is answered again says so with nothing used."""

    session: str
    draw: int
    used: Amounts
    granted: Amounts


class Allowance(Struct, frozen=True, kw_only=True):
    """What all sessions of a tenant may use at most in a window; null: no limit."""

    tokens: int | None = None
    cost_micros: int | None = None
    calls: int | None = None
    turns: int | None = None
    seconds: int | None = None


class SetBudget(Struct, frozen=True, kw_only=True, tag=True):
    """Set or change a tenant's budget."""

    limits: Allowance
    renews: bool = False


class Draw(Struct, frozen=True, kw_only=True, tag=True):
    """A session says what it used, holds nothing open, and asks for what comes next."""

    session: str
    draw: int
    used: Amounts
    need: Amounts
    wish: Amounts
    asked: datetime


class BudgetCommand(Struct, frozen=True, kw_only=True):
    """Value of soma.budget.commands."""

    meta: CommandMeta
    body: SetBudget | Draw


class BudgetSet(Struct, frozen=True, kw_only=True, tag=True):
    """A budget was set or changed."""

    limits: Allowance
    renews: bool = False
    since: datetime
    until: datetime | None = None


class BudgetRenewed(Struct, frozen=True, kw_only=True, tag=True):
    """A new window began, with nothing spent; what is reserved stays so."""

    since: datetime
    until: datetime


class BudgetEvent(Struct, frozen=True, kw_only=True):
    """Value of soma.budget.events."""

    meta: EventMeta
    body: BudgetSet | BudgetRenewed | Allotted | AllotmentDenied | Refused | CommandsLost | RecordVoided
