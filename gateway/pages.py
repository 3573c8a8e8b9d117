"""What the `type` of a problem document refers to."""

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import PlainTextResponse

from gateway.problems import NotFound, kinds

router = APIRouter(tags=["problems"])


@router.get("/problems/{code}", summary="Explain a problem", response_class=PlainTextResponse)
async def problem(code: Annotated[str, Path(description="The `code` of a problem document.", examples=["busy"])]) -> PlainTextResponse:
    """What a kind of problem means, and what to do about it."""
    for kind in kinds():
        if kind.code == code:
            return PlainTextResponse(f"{kind.title} (HTTP {kind.status}, {kind.code})\n\n{kind.advice}\n")
    raise NotFound(f"There is no kind of problem {code[:100]!r}.")
