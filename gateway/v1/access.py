"""API keys: issue, look, rotate, revoke."""

import hmac
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel

from gateway.auth import Caller, Principal
from gateway.named import Written
from gateway.needs import needs
from gateway.parts import Gateway, Parts
from gateway.problems import CannotVerify, Declined, Exceeds, Invalid, Malformed, NotFound, NotYet
from gateway.reader import READ_SECONDS
from gateway.secret import ID, Pepper, Wish
from gateway.v1 import names
from gateway.v1.access_shapes import Key as Shape
from gateway.v1.access_shapes import KeyAccepted, KeyList, KeyWithSecret, NewKey, Revocation, Rotation
from gateway.v1.asking import Asked, Asking, Fresh, Freshness
from gateway.v1.names import DETAIL, HEADERS, READ, ask, placed, replayed
from gateway.v1.responses import bad, good, json
from projections.access import Access, Key, document
from schemas.types.access import IssueKey, RevokeKey, RotateKey

router = APIRouter(tags=["keys"])
KEY: dict[str, Any] = {
    "id": "kq2zr4m7x3ab5cde",
    "name": "nightly build",
    "status": "active",
    "scopes": ["sessions:read", "sessions:write"],
    "expires_at": None,
    "rotation": 1,
    "overlap_until": None,
    "used_at": None,
    "issued_by": "anonymous",
    "position": "0:12",
    "created_at": "2026-01-31T12:00:00.000000Z",
    "updated_at": "2026-01-31T12:00:00.000000Z",
}
SECRET = {"secret": "soma_kq2zr4m7x3ab5cde_… (61 characters)"}
LATER = {"id": KEY["id"], "position": "0:12", "idempotency_key": "8e03978e-40d5-43dd-bc93-6894a57f9324", "detail": DETAIL}
ACCEPTED = good(202, "Recorded; what became of it is not known yet", LATER, HEADERS)
ACCEPTED[202]["model"] = KeyAccepted
WRITE = (*names.WRITE, Declined)
Id = Annotated[str, Path(max_length=200, description="The key's id.", examples=["kq2zr4m7x3ab5cde"])]


@router.post(
    "/keys",
    dependencies=[needs("key.issue")],
    status_code=201,
    summary="Issue a key",
    response_model=KeyWithSecret,
    responses=good(201, "The key, with its secret", KEY | SECRET, HEADERS) | ACCEPTED | bad(*WRITE, Exceeds),
)
async def issue(body: NewKey, asked: Asking, gateway: Gateway) -> Response:
    """Make a key for a program. Its secret is shown here and never again, except to its issuer who repeats this request.

    With the same `Idempotency-Key` and body the same secret is shown for 24 hours. Nothing of it is kept but a keyed hash.
    """
    _within(asked.principal, frozenset(body.scopes), body.expires_at)
    pepper, wish = _pepper(gateway), _wish(gateway, asked, "POST /v1/keys")
    id = pepper.key(wish)
    secret = pepper.secret(id, wish)
    scopes = tuple(sorted(set(body.scopes)))
    command = IssueKey(
        key=id, name=body.name, hash=pepper.hash(secret), pepper=pepper.name, scopes=scopes, expires_at=body.expires_at
    )  # fmt: skip
    return await _write(gateway, asked, id, command, wish, body, secret)


@router.get(
    "/keys",
    dependencies=[needs("key.list")],
    summary="List keys",
    response_model=KeyList,
    responses=good(200, "A page, by id", {"keys": [KEY], "next_cursor": None}) | bad(Malformed, Invalid, NotYet),
)
async def keys(
    gateway: Gateway,
    caller: Caller,
    fresh: Fresh,
    inactive: Annotated[bool, Query(description="Also those that are revoked, or have expired.")] = False,
    cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="How many at most.")] = 50,
) -> Response:
    """The tenant's keys, and when each was used last."""
    if cursor is not None and not re.fullmatch(ID, cursor):
        raise Malformed("This cursor is none that a list gave: begin without one.")
    known, now = await _known(gateway, fresh), datetime.now(UTC)
    shown = [key for key in known.all(caller.tenant) if (inactive or key.status(now) == "active") and key.id > (cursor or "")]
    shown.sort(key=lambda key: key.id)
    page, more = shown[:limit], len(shown) > limit
    listed = {"keys": [document(key, now) for key in page], "next_cursor": page[-1].id if more else None}
    return json(listed, headers=fresh.prefer.applied())


@router.get(
    "/keys/{id}",
    dependencies=[needs("key.read")],
    summary="Read a key",
    response_model=Shape,
    responses=good(200, "The key", KEY, READ) | bad(Malformed, NotFound, Invalid, NotYet),
)
async def read(id: Id, gateway: Gateway, caller: Caller, fresh: Fresh) -> Response:
    """What the key may do, and how it stands. With `position` the answer holds at least what that command did."""
    key = _found(await _known(gateway, fresh), caller, id)
    return json(document(key, datetime.now(UTC)), headers=placed(key.position) | fresh.prefer.applied())


@router.post(
    "/keys/{id}/rotate",
    dependencies=[needs("key.rotate")],
    summary="Rotate a key",
    response_model=KeyWithSecret,
    responses=good(200, "The key, with its new secret", KEY | {"rotation": 2} | SECRET, HEADERS)
    | ACCEPTED
    | bad(*WRITE, NotFound, Exceeds),
)
async def rotate(id: Id, body: Rotation, asked: Asking, gateway: Gateway) -> Response:
    """Give the key another secret; those before it go on to be good for `overlap_seconds`. It is shown here, as when a key is issued."""
    key = _found(await gateway.access.fresh(None, 0, lenient=True), asked.principal, id)
    _within(asked.principal, frozenset(key.state.scopes), key.state.expires_at)
    pepper, wish = _pepper(gateway), _wish(gateway, asked, f"POST /v1/keys/{id}/rotate")
    secret = pepper.secret(id, wish)
    command = RotateKey(hash=pepper.hash(secret), pepper=pepper.name, overlap_seconds=body.overlap_seconds)
    return await _write(gateway, asked, id, command, wish, body, secret)


@router.delete(
    "/keys/{id}",
    dependencies=[needs("key.revoke")],
    summary="Revoke a key",
    response_model=Shape,
    responses=good(200, "The key, revoked", KEY | {"status": "revoked"}, HEADERS) | ACCEPTED | bad(*WRITE, NotFound),
)
async def revoke(
    id: Id,
    asked: Asking,
    gateway: Gateway,
    reason: Annotated[str | None, Query(max_length=512, description="For the record.", examples=["leaked"])] = None,
) -> Response:
    """It is worth nothing from now on, in any gateway within a second, and for good. Streams that were begun with it end."""
    wish = _wish(gateway, asked, f"DELETE /v1/keys/{id}")
    return await _write(gateway, asked, _id(id), RevokeKey(reason=reason), wish, Revocation(reason=reason), None)


def _id(id: str) -> str:
    """An id that a key can have. Raises NotFound: nothing is put on record of any other."""
    if not re.fullmatch(ID, id):
        raise NotFound(f"There is no key {id!r}.")
    return id


def _found(known: Access, caller: Principal, id: str) -> Key:
    if key := known.find(caller.tenant, _id(id)):
        return key
    raise NotFound(f"There is no key {id!r}.")


def _within(caller: Principal, scopes: frozenset[str], expires_at: datetime | None) -> None:
    """A key must not make one, nor take the secret of one, that may do more than itself, or for longer. Raises Exceeds."""
    if caller.kind != "key":
        return
    if "*" not in caller.scopes and (more := sorted(scopes - caller.scopes)):
        raise Exceeds(f"The key that asks does not have {', '.join(more)}.")
    if caller.expires_at and (expires_at is None or expires_at > caller.expires_at):
        raise Exceeds("The key that asks expires earlier.")


def _pepper(gateway: Parts) -> Pepper:
    if gateway.keys.pepper is None:
        raise CannotVerify("This gateway has no SOMA_KEYS_PEPPER, and can make no key: nothing was sent.")
    return gateway.keys.pepper


def _wish(gateway: Parts, asked: Asked, route: str) -> Wish:
    return Wish(asked.principal.tenant, asked.principal.actor, route, asked.key or gateway.identity.key())


async def _write(
    gateway: Parts, asked: Asked, id: str, command: Any, wish: Wish, body: BaseModel, secret: str | None
) -> Response:  # fmt: skip
    # An Idempotency-Key is its actor's own: another one who uses the same asks for something else.
    route = f"{wish.route} by {wish.actor}"
    outcome = await gateway.access.write(ask(gateway, asked._replace(key=wish.key), id, command, route, body))
    headers = {"Location": f"/v1/keys/{id}", "Cache-Control": "no-store"} | asked.prefer.applied()
    if isinstance(outcome, Written):
        headers |= placed(outcome.known.position) | replayed(outcome)
        shown = {"secret": _recorded(gateway, outcome.known, secret)} if secret else {}
        return json(document(outcome.known, datetime.now(UTC)) | shown, 201 if isinstance(command, IssueKey) else 200, headers)
    position = str(outcome.position)
    answer = {"id": id, "position": position, "idempotency_key": wish.key, "detail": DETAIL}
    return json(answer, 202, headers | {"Soma-Position": position})


def _recorded(gateway: Parts, key: Key, secret: str) -> str | None:
    """The secret, if it is the one that was recorded: gateways with unlike peppers make unlike ones."""
    hash = _pepper(gateway).hash(secret)
    return secret if any(hmac.compare_digest(each.hash, hash) for each in key.secrets(key.updated_at)) else None


async def _known(gateway: Parts, fresh: Freshness) -> Access:
    return await gateway.access.fresh(fresh.position, fresh.prefer.seconds(READ_SECONDS), lenient=fresh.prefer.lenient)
