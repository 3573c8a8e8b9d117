"""What an event says about relations, as tuples of OpenFGA."""

from collections.abc import Iterable, Iterator
from typing import Any

from ops import fga
from ops.fga import Tuple
from projections.text import subject
from schemas.types.agent import AgentPublished
from schemas.types.common import EventMeta
from schemas.types.relation import Related, Unrelated
from schemas.types.session import SessionStarted
from schemas.types.tool import ToolRegistered

Change = tuple[Tuple, bool]
"""A tuple, and whether it holds from now on."""


def changes(event: Any) -> Iterator[Change]:
    """The tuples that a valid event of any noun adds and removes: none where it has no version, or tells of nothing new."""
    meta, body = event.meta, event.body
    if meta.version is None:
        return
    match body:
        case SessionStarted():
            yield from _owned(meta, f"session:{meta.aggregate_id}")
        case ToolRegistered(version=1):
            yield from _owned(meta, f"tool:{body.definition.name}")
        case AgentPublished(version=1):
            yield from _owned(meta, f"agent:{body.definition.name}")
        case Related() | Unrelated():
            if meta.version == 1 and body.object.startswith("group:"):
                yield _within(meta, body.object), True
            yield _given(meta, body), isinstance(body, Related)


def net(changes: Iterable[Change]) -> dict[Tuple, bool]:
    """What all of them come to: one that is undone by a later one is left out, for a server takes each tuple once a transaction."""
    left = dict[Tuple, bool]()
    for each, holds in changes:
        if left.get(each, holds) != holds:
            del left[each]
        else:
            left[each] = holds
    return left


def _owned(meta: EventMeta, name: str) -> Iterator[Change]:
    yield _within(meta, name), True
    yield Tuple(fga.named(meta.tenant, subject(meta.actor)), "owner", fga.named(meta.tenant, name)), True


def _within(meta: EventMeta, name: str) -> Tuple:
    return Tuple(fga.named(meta.tenant, f"tenant:{meta.tenant}"), "tenant", fga.named(meta.tenant, name))


def _given(meta: EventMeta, body: Related | Unrelated) -> Tuple:
    return Tuple(fga.subject(meta.tenant, body.subject, body.relation), body.relation, fga.named(meta.tenant, body.object))
