"""A tenant's budget as callers write and see it."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from gateway.v1.shapes import Request
from schemas.types import budget


class Allowance(Request):
    """What all sessions of the tenant may use in a window. What is not named, or null, has no limit."""

    tokens: Annotated[int | None, Field(ge=0, le=10**15, description="Tokens read and written by models.", examples=[10_000_000])] = None
    cost_micros: Annotated[int | None, Field(ge=0, le=10**18, description="Millionths of your currency.", examples=[50_000_000])] = None
    calls: Annotated[int | None, Field(ge=0, le=10**12, description="Tool calls.", examples=[10_000])] = None
    turns: Annotated[int | None, Field(ge=0, le=10**12, description="Messages that are answered.", examples=[5_000])] = None
    seconds: Annotated[
        int | None, Field(ge=60, le=366 * 86400, description="Length of the window; null: it does not end.", examples=[2_592_000])
    ] = None


class NewBudget(Request):
    """A budget, whole: it takes the place of the one that there is."""

    limits: Annotated[Allowance, Field(description="What it allows.", examples=[{"calls": 10_000, "seconds": 2_592_000}])]
    renews: Annotated[bool, Field(description="Whether another window follows; else nothing is granted after it.", examples=[True])] = False

    @model_validator(mode="after")
    def _has_a_window(self) -> Self:
        if self.renews and self.limits.seconds is None:
            raise ValueError("a budget that renews needs limits.seconds, the length of its window")
        return self

    def command(self) -> budget.SetBudget:
        """What is put on record."""
        return budget.SetBudget(limits=budget.Allowance(**self.limits.model_dump()), renews=self.renews)


class BudgetAccepted(BaseModel):
    """The command is in the log for good and will be decided; what became of it is not known yet."""

    position: Annotated[str, Field(description="Where the command stands: read the budget with it.", examples=["0:12"])]
    detail: str


class Amounts(BaseModel):
    """What can be budgeted."""

    tokens: int
    cost_micros: int
    calls: int
    turns: int


class BudgetLimits(BaseModel):
    """What it allows in a window; null: no limit."""

    tokens: int | None
    cost_micros: int | None
    calls: int | None
    turns: int | None
    seconds: int | None


class Budget(BaseModel):
    """A tenant's budget. One that was never set has no limits, and counts what governed sessions use."""

    limits: BudgetLimits
    renews: bool
    since: Annotated[datetime | None, Field(description="When its window began.")]
    until: Annotated[datetime | None, Field(description="When its window ends; null: it does not.")]
    spent: Annotated[Amounts, Field(description="What was used in this window, as far as sessions have said.")]
    reserved: Annotated[Amounts, Field(description="What sessions hold, and may use.")]
    sessions: Annotated[int, Field(description="How many hold something of it.")]
    position: Annotated[str | None, Field(description="The last command that changed it.", examples=["0:12"])]
    updated_at: datetime | None
