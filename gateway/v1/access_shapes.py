"""API keys as callers write and see them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field

from gateway.v1.shapes import Request

OVERLAP_SECONDS = 3600
OVERLAP_SECONDS_AT_MOST = 30 * 86400
OVERLAP = "For so long the secrets before it go on to be good; 0: from now on only the new one is."
SHOWN = "The key's secret. It is shown in this answer only, and is on no record: keep it. Send it as `Authorization: Bearer …`."
Scope = Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9:*._-]{0,63})$")]


def _written(value: Any) -> Any:
    if value is not None and not isinstance(value, str):
        raise ValueError("write the time as RFC 3339 does")
    return value


class NewKey(Request):
    """What a key is for, and what its bearer may do."""

    name: Annotated[
        str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$", description="For people.", examples=["nightly build"])
    ]
    scopes: Annotated[
        list[Scope],
        Field(default_factory=list, max_length=32, description="What its bearer may do.", examples=[["sessions:read", "sessions:write"]]),
    ]
    expires_at: Annotated[
        AwareDatetime | None,
        Field(strict=False, description="From then on it is worth nothing; null: it does not expire.", examples=["2100-01-31T12:00:00Z"]),
        BeforeValidator(_written),
    ] = None


class Rotation(Request):
    """How to change to another secret."""

    overlap_seconds: Annotated[int, Field(ge=0, le=OVERLAP_SECONDS_AT_MOST, description=OVERLAP, examples=[3600])] = OVERLAP_SECONDS


class Revocation(Request):
    """Why a key is revoked."""

    reason: str | None = None


class Key(BaseModel):
    """A key, without anything by which it could be shown."""

    id: Annotated[str, Field(description="It begins each of its secrets.", examples=["kq2zr4m7x3ab5cde"])]
    name: str
    status: Annotated[Literal["active", "expired", "revoked"], Field(description="Only an active key is good.")]
    scopes: list[str]
    expires_at: datetime | None
    rotation: Annotated[int, Field(description="How many secrets it has had.", examples=[1])]
    overlap_until: Annotated[datetime | None, Field(description="Until then a secret before the newest one is good too.")]
    used_at: Annotated[datetime | None, Field(description="When it was used last, to the hour.")]
    issued_by: str
    position: Annotated[str, Field(description="The last command that changed it: `partition:offset`.", examples=["0:12"])]
    created_at: datetime
    updated_at: datetime


class KeyWithSecret(Key):
    """A key, and its new secret."""

    secret: Annotated[str | None, Field(description=SHOWN + " null: this gateway cannot show it again; rotate the key.")]


class KeyList(BaseModel):
    """A page of keys, by id."""

    keys: list[Key]
    next_cursor: Annotated[str | None, Field(description="Gives the next page; null on the last one.")]


class KeyAccepted(BaseModel):
    """The command is in the log for good and will be decided; what became of it is not known yet."""

    id: Annotated[str, Field(description="The key.")]
    position: Annotated[str, Field(description="Where the command stands: read the key with it.", examples=["0:12"])]
    idempotency_key: Annotated[str, Field(description="Send the request again with it to be shown the secret.")]
    detail: str
