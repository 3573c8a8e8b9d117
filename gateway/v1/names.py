"""The routes of everything that is called by a name: a list, a look at one, and writes, each in its noun's words."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Path, Query, Response
from pydantic import BaseModel

from gateway.ask import Ask
from gateway.auth import Principal
from gateway.named import Named, Written
from gateway.parts import Parts
from gateway.problems import Invalid, KeyReused, Malformed, NotFound, NotJson, OutcomeUnknown, TooLarge, TooMany, TooManyCommands, TooSlow
from gateway.reader import READ_SECONDS
from gateway.v1.asking import Asked, Freshness, digest_of
from gateway.v1.named_shapes import NAME, NamedAccepted
from gateway.v1.responses import Responses, good, json
from ops.follow import Catalogue
from projections.named import Known
from schemas.types.common import Position

V = TypeVar("V", bound=Known[Any, Any])
DETAIL = "The command is recorded for good; what became of it is not known yet."
READ = {
    "Soma-Position": "The last command that changed it.",
    "Preference-Applied": "The preferences that were honoured.",
}
HEADERS = READ | {
    "Location": "Where it is read.",
    "Idempotency-Replayed": "`true` where this is the answer to an earlier request with this key.",
}
ACCEPTED: Responses = good(
    202, "Recorded; what became of it is not known yet", {"name": "adder", "position": "0:12", "detail": DETAIL}, HEADERS
)
ACCEPTED[202]["model"] = NamedAccepted
WRITE = (Malformed, TooSlow, TooLarge, NotJson, Invalid, KeyReused, TooMany, TooManyCommands, OutcomeUnknown)
RetiredToo = Annotated[bool, Query(description="Also those that are retired.")]
NameCursor = Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
Version = Annotated[int | None, Query(ge=1, description="An earlier version of its definition.", examples=[1])]
Reason = Annotated[str | None, Query(max_length=512, description="For the record.", examples=["unsafe"])]
Name = Annotated[str, Path(max_length=200, description="Its name.", examples=["adder"])]


@dataclass(frozen=True)
class Names(Generic[V]):
    """A noun, e.g. `tool`: where it is kept, and how it is shown."""

    noun: str
    kept: Callable[[Parts], Named[V]]
    document: Callable[[V, int | None], dict[str, Any]]
    overview: Callable[[V], dict[str, Any]]

    async def page(self, gateway: Parts, caller: Principal, fresh: Freshness, *, retired: bool, cursor: str | None, limit: int) -> Response:
        """Those behind `cursor`, by name. Raises Malformed, NotYet."""
        if cursor is not None and not re.fullmatch(NAME, cursor):
            raise Malformed("This cursor is none that a list gave: begin without one.")
        known = await self._known(gateway, fresh)
        shown = [each for each in known.all(caller.tenant) if (retired or not each.retired) and each.definition.name > (cursor or "")]
        shown.sort(key=lambda each: each.definition.name)
        page, more = shown[:limit], len(shown) > limit
        listed = {f"{self.noun}s": list(map(self.overview, page)), "next_cursor": page[-1].definition.name if more else None}
        return json(listed, headers=fresh.prefer.applied())

    async def read(self, gateway: Parts, caller: Principal, fresh: Freshness, name: str, version: int | None) -> Response:
        """Raises NotFound, NotYet."""
        known = (await self._known(gateway, fresh)).find(caller.tenant, name)
        if known is None:
            raise NotFound(f"There is no {self.noun} {name!r}.")
        if version is not None and known.at(version) is None:
            raise NotFound(f"The {self.noun} is at version {known.version}: there is no version {version} yet.")
        return json(self.document(known, version), headers=placed(known.position) | fresh.prefer.applied())

    def named(self, name: str) -> str:
        """A name that one can have. Raises NotFound: nothing is put on record of any other."""
        if not re.fullmatch(NAME, name):
            raise NotFound(f"There is no {self.noun} {name!r}.")
        return name

    async def write(
        self, gateway: Parts, asked: Asked, name: str, command: Any, route: str, body: BaseModel | None, *, defines: bool = False
    ) -> Response:
        """`defines`: it may lead to a new version, which is answered with 201. Raises as `Named.write` does."""
        outcome = await self.kept(gateway).write(ask(gateway, asked, name, command, route, body))
        headers = {"Location": f"/v1/{self.noun}s/{name}"} | asked.prefer.applied()
        if isinstance(outcome, Written):
            headers |= placed(outcome.known.position) | replayed(outcome)
            return json(self.document(outcome.known, None), 201 if defines and outcome.changed else 200, headers)
        position = str(outcome.position)
        return json({"name": name, "position": position, "detail": DETAIL}, 202, headers | {"Soma-Position": position})

    async def _known(self, gateway: Parts, fresh: Freshness) -> Catalogue[V]:
        return await self.kept(gateway).fresh(fresh.position, fresh.prefer.seconds(READ_SECONDS), lenient=fresh.prefer.lenient)


def ask(gateway: Parts, asked: Asked, name: str, command: Any, route: str, body: BaseModel | None) -> Ask:
    """What the caller asks for, under its key or one of its own, for as long as it waits."""
    wait = asked.prefer.seconds(gateway.settings.gateway_wait_seconds)
    key, caller = asked.key or gateway.identity.key(), asked.principal
    return Ask(name, command, route, key, digest_of(body), caller.tenant, caller.actor, asked.policy, wait, asked.trace)


def replayed(written: Written[Any]) -> dict[str, str]:
    """The header that says so."""
    return {"Idempotency-Replayed": "true"} if written.replayed else {}


def placed(position: Position) -> dict[str, str]:
    """The header that names the last command that an answer holds."""
    return {"Soma-Position": f"{position.partition}:{position.offset}"}
