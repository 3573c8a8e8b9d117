"""What goes out about usage, as callers see it."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

By = Literal["day", "model", "tool"]
USED = {"input_tokens": 1200, "output_tokens": 340, "cost_micros": 5150, "replies": 7, "tool_calls": 3}
REPORT: dict[str, Any] = {
    "since": "2026-01-02",
    "until": "2026-01-31",
    "group_by": ["day", "model"],
    "usage": [{"day": "2026-01-31", "model": "echo", **USED}],
    "total": USED,
}


class UsageTotal(BaseModel):
    """What was used."""

    input_tokens: int
    output_tokens: int
    cost_micros: Annotated[int, Field(description="Of models and tools, in millionths of the currency that prices are given in.")]
    replies: Annotated[int, Field(description="Of models.")]
    tool_calls: Annotated[int, Field(description="Calls that began.")]


class UsageEntry(UsageTotal):
    """What was used by one group; of `day`, `model` and `tool` it has those that were asked for."""

    day: Annotated[date | None, Field(description="In UTC.")] = None
    model: Annotated[str | None, Field(description="The session's, also for what its tools used.")] = None
    tool: Annotated[str | None, Field(description="null: the model itself. `?`: a tool whose result came too late to be named.")] = None


class UsageReport(BaseModel):
    """What a tenant used, on the days from `since` to `until`, both among them."""

    since: date
    until: date
    group_by: list[By]
    usage: list[UsageEntry]
    total: UsageTotal
