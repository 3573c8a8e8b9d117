"""Generated from schemas/avro/policy/ by `soma schemas generate`: change those files instead of this one."""

from msgspec import Struct

from schemas.types.common import CommandMeta, CommandsLost, EventMeta, RecordVoided, Refused



class ActivatePolicy(Struct, frozen=True, kw_only=True, tag=True):
    """Let this version decide from now on."""

    version: int | None = None
    reason: str | None = None


class Module(Struct, frozen=True, kw_only=True):
    """A Rego module."""

    name: str
    text: str


class Bundle(Struct, frozen=True, kw_only=True):
    """Policies as they are written: what decides, and what it decides by."""

    modules: tuple[Module, ...]
    data: str


class PolicyActivated(Struct, frozen=True, kw_only=True, tag=True):
    """This version decides from now on."""

    version: int | None = None
    former: int | None = None
    reason: str | None = None


class PublishPolicy(Struct, frozen=True, kw_only=True, tag=True):
    """Publish a version of the policies. It decides nothing before it is activated."""

    bundle: Bundle
    note: str | None = None


class PolicyCommand(Struct, frozen=True, kw_only=True):
    """Value of soma.policy.commands."""

    meta: CommandMeta
    body: PublishPolicy | ActivatePolicy


class PolicyPublished(Struct, frozen=True, kw_only=True, tag=True):
    """A version of the policies."""

    version: int
    digest: str
    bundle: Bundle
    note: str | None = None


class PolicyEvent(Struct, frozen=True, kw_only=True):
    """Value of soma.policy.events."""

    meta: EventMeta
    body: PolicyPublished | PolicyActivated | Refused | CommandsLost | RecordVoided
