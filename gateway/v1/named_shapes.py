"""What is the same of everything that callers call by a name."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from gateway.v1.shapes import Request

DESCRIPTION_BYTES = 4 << 10
NAME = r"^[a-z][a-z0-9_-]{0,63}$"


def _within_bytes(text: str) -> str:
    if len(text.encode()) > DESCRIPTION_BYTES:
        raise ValueError(f"it takes more than {DESCRIPTION_BYTES} bytes in UTF-8")
    return text


Description = Annotated[str, AfterValidator(_within_bytes)]


class Retirement(Request):
    """Why it is retired."""

    reason: str | None = None


class NamedAccepted(BaseModel):
    """The command is in the log for good and will be decided; what became of it is not known yet."""

    name: Annotated[str, Field(description="What it is about.", examples=["adder"])]
    position: Annotated[str, Field(description="Where the command stands: read with it.", examples=["0:12"])]
    detail: str


class Standing(BaseModel):
    """How it stands."""

    name: Annotated[str, Field(examples=["adder"])]
    version: Annotated[int, Field(description="Of the definition, from 1.", examples=[2])]
    status: Annotated[Literal["offered", "retired"], Field(description="`retired`: no new session may use it.")]
    description: str
    position: Annotated[str, Field(description="The last command that changed it: `partition:offset`.", examples=["0:12"])]
    created_at: datetime
    updated_at: datetime
