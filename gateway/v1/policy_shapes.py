"""Policies as callers write and see them."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import BaseModel, Field, model_validator

from gateway.v1.shapes import Request
from projections.policy import MAX_BYTES, MAX_MODULES
from schemas.types.policy import Bundle, Module

FILE = r"^[a-z][a-z0-9_-]{0,63}\.rego$"
DIGEST = "3f1c0d9e8b7a"
STANDING: dict[str, Any] = {
    "version": "3",
    "digest": DIGEST,
    "active": False,
    "note": "Ceilings for acme.",
    "published_by": "ada",
    "published_at": "2026-01-31T12:00:00.000000Z",
}
MODULES = {"gate.rego": 'package soma.gate\n\ndecision := {"allow": false, "rule": "closed"}\n'}
POLICY: dict[str, Any] = STANDING | {"modules": MODULES, "data": {"soma": {"actions": {}}}}
SHELF: dict[str, Any] = {
    "active": "2",
    "versions": [STANDING],
    "activations": [{"version": "2", "by": "ada", "at": "2026-01-31T12:00:00.000000Z", "reason": "Reviewed."}],
}
CHANGE: dict[str, Any] = {
    "id": "019ab3c2-7e1d-7cc0-9f6a-3b1de5a1c400",
    "tenant": "acme",
    "at": "2026-01-31T12:00:00.000000Z",
    "actor": "ada",
    "action": "session.start",
    "resource": "session",
    "resource_id": None,
    "count": 1,
    "from": "allowed",
    "from_rule": "sessions:write",
    "from_version": f"2@{DIGEST}",
    "to": "denied",
    "rule": "limits",
    "reasons": ["Ask for `limits` of at most 100000 tokens."],
}
REPORT: dict[str, Any] = {
    "version": "3",
    "since": "2026-01-30T12:00:00.000000Z",
    "examined": 1000,
    "left_out": {"own": 2, "unproved": 0, "not_kept": 0},
    "changed": 1,
    "tallies": [{"from": "allowed", "to": "denied", "rule": "limits", "count": 1}],
    "changes": [CHANGE],
    "stopped": "limit",
    "next_cursor": "e2-17",
}
Note = Annotated[str | None, Field(max_length=512, description="What it is for.", examples=["Ceilings for acme."])]


class PolicyText(Request):
    """Policies, as OPA takes them."""

    modules: Annotated[
        dict[Annotated[str, Field(pattern=FILE)], str],
        Field(min_length=1, max_length=MAX_MODULES, description="Rego of the package `soma.gate`, by file name.", examples=[MODULES]),
    ]
    data: Annotated[
        dict[str, Any], Field(description="What modules find under `data`: all of it under `soma`.", examples=[{"soma": {"actions": {}}}])
    ]

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        bundle = self.bundle()
        size = len(bundle.data.encode()) + sum(len(each.name.encode()) + len(each.text.encode()) for each in bundle.modules)
        if size > MAX_BYTES:
            raise ValueError(f"modules and data take {size} bytes; {MAX_BYTES} are allowed")
        return self

    def bundle(self) -> Bundle:
        """In its one form, whatever order it was written in."""
        modules = tuple(Module(name=name, text=text) for name, text in sorted(self.modules.items()))
        return Bundle(modules=modules, data=msgspec.json.encode(self.data, order="deterministic").decode())


class NewPolicy(PolicyText):
    """A version to be published."""

    note: Note = None


class Activating(Request):
    """Why it is activated."""

    reason: Annotated[str | None, Field(max_length=512, description="For the record.", examples=["Reviewed."])] = None


class PolicyVersion(BaseModel):
    """A version, without what it says."""

    version: Annotated[str, Field(description="A number, or `shipped`.", examples=["3"])]
    digest: Annotated[str | None, Field(description="Of what it says; decisions name it `version@digest`.")]
    active: Annotated[bool, Field(description="Whether it decides.")]
    note: str | None
    published_by: str | None
    published_at: datetime | None


class Policy(PolicyVersion):
    """A version, with what it says. An OPA server that was given the shipped policies does not show them: then they are null."""

    modules: dict[str, str] | None
    data: dict[str, Any] | None


class Activation(BaseModel):
    """Who let which version decide."""

    version: str
    by: str
    at: datetime
    reason: str | None


class Shelf(BaseModel):
    """All versions and the last activations, the newest first."""

    active: Annotated[str, Field(description="The version that decides.", examples=["2"])]
    versions: list[PolicyVersion]
    activations: list[Activation]


class PolicyAccepted(BaseModel):
    """The command is in the log for good and will be decided; what became of it is not known yet."""

    position: Annotated[str, Field(description="Where the command stands: read with it.", examples=["0:12"])]
    detail: str


class Checked(BaseModel):
    """They can be published."""

    digest: str


class Tally(BaseModel):
    """So many decisions would go the same other way."""

    was: Annotated[str, Field(alias="from")]
    to: Literal["allowed", "denied", "failed"]
    rule: str | None
    count: int


class Change(BaseModel):
    """A decision on record that would be another one."""

    id: str
    tenant: str
    at: datetime
    actor: str
    action: str
    resource: str
    resource_id: str | None
    count: Annotated[int, Field(description="How many requests it stands for.")]
    was: Annotated[str, Field(alias="from", description="How it went: the audit's outcome.")]
    from_rule: str | None
    from_version: str | None
    to: Annotated[Literal["allowed", "denied", "failed"], Field(description="`failed`: what this version answers is none.")]
    rule: Annotated[str | None, Field(description="The rule of this version.")]
    reasons: list[str]


class LeftOut(BaseModel):
    """Decisions that were not asked about again."""

    own: Annotated[int, Field(description="About policies, which the shipped ones decide whatever is active.")]
    unproved: Annotated[int, Field(description="About strangers, of whom no policy was asked.")]
    not_kept: Annotated[int, Field(description="Of which the record does not hold what was asked.")]


class Backtest(BaseModel):
    """What this version would have decided otherwise."""

    version: str
    since: datetime
    examined: Annotated[int, Field(description="Decisions that it was asked about.")]
    left_out: LeftOut
    changed: Annotated[int, Field(description="Of the examined ones, those that would be others.")]
    tallies: Annotated[list[Tally], Field(description="The changed ones, by what would become of them.")]
    changes: Annotated[list[Change], Field(description="The first hundred.")]
    stopped: Annotated[Literal["limit", "time"] | None, Field(description="Why it did not go to the end of the record.")]
    next_cursor: Annotated[str | None, Field(description="Goes on where this one stopped.", examples=["e2-17"])]
