"""Generated from schemas/avro/relation/ by `soma schemas generate`: change those files instead of this one."""

from msgspec import Struct

from schemas.types.common import CommandMeta, CommandsLost, EventMeta, RecordVoided, Refused



class Relate(Struct, frozen=True, kw_only=True, tag=True):
    """Let the subject have a relation to the object."""

    object: str
    relation: str
    subject: str


class Related(Struct, frozen=True, kw_only=True, tag=True):
    """The subject has the relation from now on."""

    object: str
    relation: str
    subject: str


class Unrelate(Struct, frozen=True, kw_only=True, tag=True):
    """Take a relation back."""

    object: str
    relation: str
    subject: str


class RelationCommand(Struct, frozen=True, kw_only=True):
    """Value of soma.relation.commands."""

    meta: CommandMeta
    body: Relate | Unrelate


class Unrelated(Struct, frozen=True, kw_only=True, tag=True):
    """The subject has the relation no more."""

    object: str
    relation: str
    subject: str


class RelationEvent(Struct, frozen=True, kw_only=True):
    """Value of soma.relation.events."""

    meta: EventMeta
    body: Related | Unrelated | Refused | CommandsLost | RecordVoided
