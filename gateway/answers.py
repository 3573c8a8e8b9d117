"""Whatever was raised, as the problem document that the caller gets."""

from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import Request

from gateway.problems import Internal, Invalid, Malformed, MethodNotAllowed, NotFound, Problem, ReadModelDown, SealDown, TooLarge, TooSlow
from ops import seal
from projections import queries


def of_http(error: HTTPException) -> Problem:
    """The problem that the framework's own error is."""
    match error.status_code:
        case 404:
            return NotFound("There is no route at this address.")
        case 405:
            return MethodNotAllowed("This address does not take this method.", error.headers)
        case 408:
            return TooSlow(str(error.detail), {"Connection": "close"})
        case 413:
            return TooLarge(str(error.detail), {"Connection": "close"})
        case 400:
            return Malformed("The body cannot be read as JSON in UTF-8.")
        case _:
            return Internal(str(error.detail))


def of_validation(error: RequestValidationError) -> Problem:
    """400 for what is no JSON, else 422 with a list of the fields. What was sent is not repeated."""
    # the route reads a body, and so do the facts for its policies: both say the same of it
    told = dict.fromkeys((".".join(map(str, each["loc"])), each["msg"]) for each in error.errors())
    errors = [{"field": field, "problem": problem} for field, problem in told]
    if any(each["type"] == "json_invalid" for each in error.errors()):
        return Malformed(f"The body is no JSON: {errors[0]['problem']} at character {errors[0]['field'].partition('.')[2]}.")
    return Invalid(f"{len(errors)} of the fields cannot be used.", errors=errors[:50])


def of(error: Exception) -> Problem:
    """The problem that whatever was raised is. Nothing of a defect's inside is shown."""
    match error:
        case Problem():
            return error
        case queries.ReadModelDown():
            return ReadModelDown(str(error))
        case seal.KeysDown():
            return SealDown(str(error))
        case RequestValidationError():
            return of_validation(error)
        case HTTPException():
            return of_http(error)
        case _:
            return Internal("The request met a defect in the gateway. What it asked for may have been done.")


async def answer(request: Request, error: Exception) -> Response:
    """The framework's hook: whatever was raised, as its document."""
    return of(error).response()
