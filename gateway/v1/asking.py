"""What a request says besides its path and its body."""

import re
from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec
from fastapi import Depends, Header, Query, Request
from opentelemetry import propagate, trace
from pydantic import BaseModel, Field

from gateway import positions, prefer
from gateway.auth import Caller, Principal
from gateway.needs import mark_of
from gateway.positions import Place, Position
from gateway.prefer import Prefer
from gateway.problems import Malformed, NotJson
from gateway.v1.shapes import Status
from projections.queries import Filters
from schemas.chain import digest
from schemas.types.common import Digest


class Asked(NamedTuple):
    """What every POST may say, and the decision that let it in, as it goes on record. `key` is None where the caller sent none."""

    principal: Principal
    policy: str
    key: str | None
    prefer: Prefer
    trace: dict[str, str]


class Freshness(NamedTuple):
    """How new the state must be that a GET shows."""

    position: Position | None
    prefer: Prefer


PreferHeader = Annotated[
    list[str] | None,
    Header(alias="Prefer", description="RFC 7240: `wait=N` (seconds), `respond-async`, `handling=lenient`.", examples=["wait=10"]),
]


async def asked(
    request: Request,
    caller: Caller,
    preferences: PreferHeader = None,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            pattern=r"^[\x21-\x7e]+$",
            description="The same key and body give the first answer again, for 24 hours; another body is refused.",
            examples=["8e03978e-40d5-43dd-bc93-6894a57f9324"],
        ),
    ] = None,
) -> Asked:
    """Raises Malformed, NotJson."""
    _check_media_type(request)
    return Asked(caller, mark_of(request), key, prefer.parse(preferences or ()), _trace(request))


async def expected(
    if_match: Annotated[
        str | None, Header(alias="If-Match", description="The ETag of the state that the caller decided upon.", examples=['"4"'])
    ] = None,
) -> int | None:
    """RFC 9110 §13.1.1: `*` holds for whatever there is. Raises Malformed."""
    if if_match is None or if_match.strip() == "*":
        return None
    match = re.fullmatch(r'(?:W/)?"([0-9]{1,18})"', if_match.strip())
    if match is None:
        raise Malformed(f"If-Match: {if_match[:100]!r} is no ETag of a session: send the one that you were given, or *.")
    return int(match[1])


IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match", description="An ETag.")]


def matches(etag: str, if_none_match: str | None) -> bool:
    """RFC 9110 §13.1.2: whether the caller has this state already."""
    return etag in [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]


async def freshness(
    preferences: PreferHeader = None,
    position: Annotated[str | None, Query(description="Wait until the command at this position is applied.", examples=["0:42"])] = None,
    soma_position: Annotated[str | None, Header(alias="Soma-Position", description="The same as the parameter `position`.")] = None,
) -> Freshness:
    """Raises Malformed."""
    text = position or soma_position
    return Freshness(positions.position(text) if text else None, prefer.parse(preferences or ()))


async def behind(
    after: Annotated[str | None, Query(max_length=32, description="Begin behind this event.", examples=["e0-41"])] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", description="The same; a browser sends it by itself.")] = None,
) -> Place | None:
    """Raises Malformed."""
    text = last_event_id or after
    return positions.place(text) if text else None


async def filters(
    status: Annotated[Status | None, Query(description="Only those in this state.")] = None,
    model: Annotated[str | None, Query(max_length=128, description="Only those with this model.", examples=["echo"])] = None,
    metadata: Annotated[
        list[Annotated[str, Field(max_length=577)]] | None,
        Query(max_length=16, description="Only those with this label, `key=value`; several must all fit.", examples=[["team=blue"]]),
    ] = None,
    created_after: Annotated[datetime | None, Query(description="Only those started after this time.")] = None,
    created_before: Annotated[datetime | None, Query(description="Only those started before this time.")] = None,
) -> Filters:
    """Raises Malformed."""
    after, before = zoned("created_after", created_after), zoned("created_before", created_before)
    return Filters(status, model, _labels(metadata or []), after, before)


Asking = Annotated[Asked, Depends(asked)]
Expected = Annotated[int | None, Depends(expected)]
Fresh = Annotated[Freshness, Depends(freshness)]
After = Annotated[Place | None, Depends(behind)]
Wanted = Annotated[Filters, Depends(filters)]


def digest_of(body: BaseModel | None) -> Digest:
    """What tells two bodies apart, however each was written: of its fields that are not at their defaults, in one order."""
    return digest(msgspec.json.encode(body.model_dump(exclude_defaults=True) if body else {}, order="deterministic"))


def _check_media_type(request: Request) -> None:
    """A browser sends other media types across origins without asking first; JSON it does not."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    if has_body and media_type != "application/json":
        raise NotJson(f"The body is declared as {media_type or 'nothing'!r}.")


def _trace(request: Request) -> dict[str, str]:
    """The trace context to hand on: of this request's span, or the caller's where nothing is traced here."""
    onward: dict[str, str] = {}
    traced = trace.get_current_span().get_span_context().is_valid
    propagate.inject(onward, None if traced else propagate.extract(request.headers))
    return {name: text for name, text in onward.items() if name in ("traceparent", "tracestate")}


def _labels(texts: list[str]) -> dict[str, str]:
    if wrong := [text for text in texts if "=" not in text]:
        raise Malformed(f"metadata={wrong[0]!r} is no label: write metadata=key=value.")
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def zoned(name: str, time: datetime | None) -> datetime | None:
    if time and time.tzinfo is None:
        raise Malformed(f"{name} names no time zone: end it with Z, or with an offset as RFC 3339 writes it.")
    return time
