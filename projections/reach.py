"""Who may do what by relations, asked of the read model: one recursive query finds whatever a caller counts as.

    user:ada ──member──► group:reviewers ──member──► group:staff          as: viewer of session:…
    user:ada ──admin───► tenant:acme ◄──parent── tenant:blue

A subject with `#admin` stands for the admins of a tenant, one without for its members, who the admins are too.
"""

from uuid import UUID

from msgspec import Struct
from sqlalchemy import (
    ARRAY,
    CTE,
    ColumnElement,
    Select,
    Text,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import array

from projections.tables import relations, sessions
from projections.text import storable

HOLDS = {
    "viewer": frozenset({"viewer", "editor", "approver", "owner"}),
    "editor": frozenset({"editor", "owner"}),
    "approver": frozenset({"approver", "owner"}),
    "owner": frozenset({"owner"}),
    "admin": frozenset({"admin", "owner"}),
}
"""By the relation that is needed: those by which one has it, as ops/openfga/model.fga says it too."""
GAINED = ("member", "admin", "parent")
"""The relations by which one becomes another subject."""


class Given(Struct, frozen=True):
    """A caller, by what a sign-in proves: `who` (`user:ada`), who is a member of the tenant; perhaps its `admin`."""

    tenant: str
    who: str
    admin: bool = False

    @property
    def subjects(self) -> list[str]:
        """What the caller counts as before any relation is looked at."""
        own = f"tenant:{self.tenant}"
        return [storable(self.who), storable(own), *([storable(f"{own}#admin")] if self.admin else [])]


class Thing(Struct, frozen=True):
    """What is asked about: a kind and an id, or a name. `owner` is that of what has no row here, as tools have none."""

    kind: str
    id: str
    owner: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


def roles(given: Given, thing: Thing) -> Select[tuple[str]]:
    """The relations that the caller was given to the thing; `owner` for its owner and for admins. None to a session that is not there."""
    mine = _mine(given)
    subjects = select(mine.c.subject)
    held = select(relations.c.relation).where(_held(given), relations.c.object == storable(str(thing)), relations.c.subject.in_(subjects))
    above = [storable(f"{name}#admin") for name in (f"tenant:{given.tenant}", str(thing))]
    admin = select(literal("owner")).where(exists(subjects.where(mine.c.subject.in_(above))))
    if thing.kind != "session":
        own = select(literal("owner")).where(literal(thing.owner == given.who))
        return select(union_all(held, admin, own).subquery().c[0]).distinct()
    there = and_(sessions.c.id == UUID(thing.id), sessions.c.tenant == storable(given.tenant))
    own = select(literal("owner")).where(there, sessions.c.owner == storable(given.who))
    return select(union_all(held, admin.where(exists().where(there)), own).subquery().c[0]).distinct()


def holding(given: Given, relation: str) -> ColumnElement[bool]:
    """Whether the caller has the relation to the session of a row of `sessions`."""
    mine = _mine(given)
    subjects = select(mine.c.subject)
    bonds = and_(relations.c.object.startswith("session:"), relations.c.relation.in_(HOLDS[relation]))
    shared = select(relations.c.object).where(_held(given), bonds, relations.c.subject.in_(subjects)).scalar_subquery()
    return or_(
        sessions.c.owner == storable(given.who),
        func.concat("session:", cast(sessions.c.id, Text)).in_(shared),
        exists(subjects.where(mine.c.subject == storable(f"tenant:{given.tenant}#admin"))),
    )


def _mine(given: Given) -> CTE:
    """All subjects that the caller counts as. However groups are nested, each is found once: a circle of them ends."""
    mine = select(func.unnest(cast(given.subjects, ARRAY(Text))).label("subject")).cte("mine", recursive=True)
    joined = relations.c.object
    gained = case((relations.c.relation == "member", array([joined])), else_=array([joined, joined + "#admin"]))
    further = select(func.unnest(gained)).where(_held(given), relations.c.subject == mine.c.subject, relations.c.relation.in_(GAINED))
    return mine.union(further)


def _held(given: Given) -> ColumnElement[bool]:
    return and_(relations.c.tenant == storable(given.tenant), relations.c.held)
