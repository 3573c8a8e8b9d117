"""The policies of the gate: each version that was published stays, and one of them decides, or those that are shipped with the platform.

Publishing changes nothing for anybody: a version can be looked at, and tried on recorded decisions, before it is activated. What a version
says is looked at by whoever publishes it; here it is only kept within bounds.
"""

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from commands.decision import Refusal
from schemas.chain import digest
from schemas.ids import named_id
from schemas.types.common import CommandMeta
from schemas.types.policy import ActivatePolicy, Bundle, PolicyActivated, PolicyCommand, PolicyEvent, PolicyPublished, PublishPolicy

NAME = "platform"
"""Of a tenant's policies; those of the tenant that runs the platform decide."""
MAX_VERSIONS = 200
MAX_MODULES = 50
MAX_BYTES = 128 << 10
"""Of a version in UTF-8, names and data included."""

Body = PolicyPublished | PolicyActivated


class ByShipped(Struct, frozen=True, tag=True):
    """The shipped policies decide. `digests`: of what was published, version by version."""

    digests: tuple[str, ...] = ()


class ByVersion(Struct, frozen=True, tag=True):
    """This version decides."""

    digests: tuple[str, ...]
    version: int


State = ByShipped | ByVersion
initial: State = ByShipped()
Decision = list[Body] | Refusal


def active(state: State) -> int | None:
    """The version that decides; None for the shipped policies."""
    return state.version if isinstance(state, ByVersion) else None


def fingerprint(bundle: Bundle) -> str:
    """Changes with any byte of it; 48 bits in hexadecimal."""
    return digest(msgspec.json.encode(bundle)).hex()[:12]


def decide(state: State, command: PolicyCommand) -> Decision:
    """The events that the command leads to in this state (at least one), or why it is refused. Pure (rule 4)."""
    match command.body:
        case PublishPolicy() as body:
            return _publish(state, body, command.meta)
        case ActivatePolicy() as body:
            return _activate(state, body, command.meta)
    raise TypeError(f"{type(command.body).__name__} is no command of the policies")


def evolve(state: State, event: PolicyEvent) -> State:
    """The state after a versioned event. Total over what `decide` can have decided; raises ValueError on anything else."""
    match event.body:
        case PolicyPublished() as body if body.version == len(state.digests) + 1:
            digests = (*state.digests, body.digest)
            return ByVersion(digests, state.version) if isinstance(state, ByVersion) else ByShipped(digests)
        case PolicyActivated(version=None) if isinstance(state, ByVersion):
            return ByShipped(state.digests)
        case PolicyActivated(version=int() as version) if version in _versions(state) and version != active(state):
            return ByVersion(state.digests, version)
    kind, about = type(event.body).__name__, f"{event.meta.aggregate_id} v{event.meta.version}"
    raise ValueError(f"{kind} cannot follow {len(state.digests)} versions, of which {active(state) or 'none'} decides: {about}")


def _publish(state: State, body: PublishPolicy, meta: CommandMeta) -> Decision:
    found, latest = fingerprint(body.bundle), len(state.digests)
    if named_id(meta.tenant, "policy", NAME) != meta.aggregate_id:
        return Refusal("misnamed", "It is not the id of this tenant's policies.")
    if sum(map(len, _texts(body.bundle))) > MAX_BYTES or len(body.bundle.modules) > MAX_MODULES:
        return Refusal("too_large", f"Policies have at most {MAX_MODULES} modules, and {MAX_BYTES} bytes in all.")
    if latest and state.digests[-1] == found:
        return Refusal("unchanged", f"This is what version {latest} says.")
    if latest >= MAX_VERSIONS:
        return Refusal("full", f"There are {MAX_VERSIONS} versions: that is as many as are kept.")
    return [PolicyPublished(version=latest + 1, digest=found, bundle=body.bundle, note=body.note)]


def _activate(state: State, body: ActivatePolicy, meta: CommandMeta) -> Decision:
    if named_id(meta.tenant, "policy", NAME) != meta.aggregate_id:
        return Refusal("misnamed", "It is not the id of this tenant's policies.")
    if body.version is not None and body.version not in _versions(state):
        return Refusal("not_found", f"There is no version {body.version} of the policies.")
    if body.version == (former := active(state)):
        return Refusal("unchanged", "It decides already.")
    return [PolicyActivated(version=body.version, former=former, reason=body.reason)]


def _versions(state: State) -> range:
    return range(1, len(state.digests) + 1)


def _texts(bundle: Bundle) -> Iterator[bytes]:
    for module in bundle.modules:
        yield module.name.encode()
        yield module.text.encode()
    yield bundle.data.encode()
