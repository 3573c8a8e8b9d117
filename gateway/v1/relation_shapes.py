"""Relations as callers write and see them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from gateway.v1.shapes import Request

SUBJECT = r"^(user|key|group|tenant):[^\s#*]{1,255}$"
Role = Literal["viewer", "editor", "approver", "member", "admin", "parent"]
DOCUMENT: dict[str, Any] = {
    "object": "session:019ab3c2-7e1d-7cc0-9f6a-3b1de5a1c000",
    "relations": [{"with": "user:ada", "as": "owner"}, {"with": "group:reviewers", "as": "approver"}],
    "position": "0:12",
}


class Share(Request):
    """Who gets which relation."""

    subject: Annotated[
        str,
        Field(
            alias="with",
            pattern=SUBJECT,
            description="`user:` and an actor, `key:` and an id, or all members of `group:` or `tenant:` and a name.",
            examples=["group:reviewers"],
        ),
    ]
    relation: Annotated[
        Role,
        Field(
            alias="as",
            description="`viewer`, `editor` or `approver` of a thing; `member` of a group; `member`, `admin` or `parent` of a tenant.",
            examples=["viewer"],
        ),
    ]


class Given(BaseModel):
    """One relation."""

    subject: Annotated[str, Field(alias="with", examples=["user:ada"])]
    relation: Annotated[str, Field(alias="as", description="`owner` is who started or registered it.", examples=["owner"])]


class Relations(BaseModel):
    """Who has which relation to it, besides the admins of the tenant."""

    object: Annotated[str, Field(examples=[DOCUMENT["object"]])]
    relations: list[Given]
    position: Annotated[str | None, Field(description="The last command that changed them; null before the first.", examples=["0:12"])]


class RelationAccepted(BaseModel):
    """The command is on record; that it counts already is not known."""

    object: str
    position: Annotated[str, Field(description="Where the command stands: read with it.", examples=["0:12"])]
    detail: str


class GroupList(BaseModel):
    """A page of groups that have members, by name."""

    groups: list[str]
    next_cursor: Annotated[str | None, Field(description="Gives the next page; null on the last one.")]
