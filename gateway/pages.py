"""What the `type` of a problem document refers to."""

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import PlainTextResponse

from gateway.problems import Busy, Invalid, NotFound, kinds
from gateway.v1.responses import Responses, bad

router = APIRouter(tags=["problems"])


EXAMPLE = f"{Busy.title} (HTTP {Busy.status}, {Busy.code})\n\n{Busy.advice}\n"
RESPONSES: Responses = {200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": EXAMPLE}}}}


@router.get(
    "/problems/{code}",
    summary="Explain a problem",
    response_class=PlainTextResponse,
    responses=RESPONSES | bad(NotFound, Invalid, public=True),
)
async def problem(code: Annotated[str, Path(description="The `code` of a problem document.", examples=["busy"])]) -> PlainTextResponse:
    """What a kind of problem means, and what to do about it."""
    for kind in kinds():
        if kind.code == code:
            return PlainTextResponse(f"{kind.title} (HTTP {kind.status}, {kind.code})\n\n{kind.advice}\n")
    raise NotFound(f"There is no kind of problem {code[:100]!r}.")
