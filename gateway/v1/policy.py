"""The policies of the platform: publish, look, try on what was decided, activate."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from gateway.auth import Caller
from gateway.bundle import Unusable
from gateway.engine import EngineDown
from gateway.named import Written
from gateway.needs import Facts, needs
from gateway.parts import Gateway, Parts
from gateway.positions import place
from gateway.problems import Declined, Invalid, Malformed, NotFound, NotYet, PolicyDown
from gateway.reader import READ_SECONDS
from gateway.v1.asking import Asked, Asking, Fresh, zoned
from gateway.v1.names import DETAIL, HEADERS, READ, WRITE, ask, placed, replayed
from gateway.v1.policy_shapes import POLICY, REPORT, SHELF, Activating, Backtest, Checked, NewPolicy, PolicyAccepted, PolicyText, Shelf
from gateway.v1.policy_shapes import Policy as Shape
from gateway.v1.responses import bad, good, json
from ops import rego
from projections.policy import NAME, SHIPPED, Edition, document, overview
from projections.text import rfc3339
from schemas.types.policy import ActivatePolicy, PublishPolicy

router = APIRouter(tags=["policies"])
DAY = timedelta(days=1)
MOST = 5_000
ACCEPTED = good(202, "Recorded; what became of it is not known yet", {"position": "0:12", "detail": DETAIL}, HEADERS)
ACCEPTED[202]["model"] = PolicyAccepted
UNCHANGED = good(200, "The version: this is what the newest one says already", POLICY, HEADERS)
UNCHANGED[200]["model"] = Shape
Version = Annotated[str, Path(max_length=64, description="A version's number, or `shipped`.", examples=["3"])]


async def platform(caller: Caller, gateway: Gateway) -> Facts:
    """Whether it is the caller's tenant whose policies decide, for the policies."""
    return {"operator": caller.tenant == gateway.settings.soma_policy_tenant}


@router.post(
    "/policies",
    dependencies=[needs("policy.publish", platform)],
    status_code=201,
    summary="Publish policies",
    response_model=Shape,
    responses=good(201, "The new version", POLICY, HEADERS) | UNCHANGED | ACCEPTED | bad(*WRITE, Declined),
)
async def publish(body: NewPolicy, asked: Asking, gateway: Gateway) -> Response:
    """Put a version of the policies on record. They have to compile, and decide nothing before the version is activated.

    422 says which file, line and column the compiler does not take.
    """
    await _check(gateway, body)
    command = PublishPolicy(bundle=body.bundle(), note=body.note)
    return await _write(gateway, asked, command, "POST /v1/policies", body)


@router.post(
    "/policies/check",
    dependencies=[needs("policy.check", platform)],
    summary="Check policies",
    response_model=Checked,
    responses=good(200, "They can be published", {"digest": POLICY["digest"]}) | bad(*WRITE),
)
async def check(body: PolicyText, asked: Asking, gateway: Gateway) -> Response:
    """Whether these could be published. Nothing is put on record but this decision."""
    return json({"digest": await _check(gateway, body)})


@router.get(
    "/policies",
    dependencies=[needs("policy.list", platform)],
    summary="List versions of the policies",
    response_model=Shelf,
    responses=good(200, "All versions, the newest first", SHELF, READ) | bad(Malformed, Invalid, NotYet),
)
async def policies(gateway: Gateway, caller: Caller, fresh: Fresh) -> Response:
    """Every version that was published, those that are shipped, which of them decides, and who let it."""
    known = await gateway.policies.fresh(fresh.position, fresh.prefer.seconds(READ_SECONDS), lenient=fresh.prefer.lenient)
    return json(overview(known.find(caller.tenant, NAME)), headers=fresh.prefer.applied())


@router.get(
    "/policies/{policy}",
    dependencies=[needs("policy.read", platform)],
    summary="Read a version of the policies",
    response_model=Shape,
    responses=good(200, "The version", POLICY, READ) | bad(Malformed, NotFound, Invalid, NotYet),
)
async def read(policy: Version, gateway: Gateway, caller: Caller, fresh: Fresh) -> Response:
    """What it says, and whether it decides."""
    known = await gateway.policies.fresh(fresh.position, fresh.prefer.seconds(READ_SECONDS), lenient=fresh.prefer.lenient)
    shelf, edition = known.find(caller.tenant, NAME), _edition(gateway, caller.tenant, policy)
    shown = document(edition, shelf) if edition and shelf else overview(shelf)["versions"][-1] | _shipped(gateway)
    return json(shown, headers=fresh.prefer.applied())


@router.post(
    "/policies/{policy}/activate",
    dependencies=[needs("policy.activate", platform)],
    summary="Activate a version of the policies",
    response_model=Shelf,
    responses=good(200, "All versions", SHELF, HEADERS) | ACCEPTED | bad(*WRITE, NotFound, Declined),
)
async def activate(policy: Version, asked: Asking, gateway: Gateway, body: Activating | None = None) -> Response:
    """Let this version decide, in every gateway within a second: a new one, an earlier one, or `shipped`.

    What is done to policies is always decided by the shipped ones: so there is a way back from any version.
    """
    edition = _edition(gateway, asked.principal.tenant, policy)
    try:
        await gateway.editions.of(edition)
    except EngineDown as error:
        raise PolicyDown(f"It cannot be made ready: {error}") from error
    command = ActivatePolicy(version=edition.number if edition else None, reason=body.reason if body else None)
    return await _write(gateway, asked, command, f"POST /v1/policies/{policy}/activate", body)


@router.post(
    "/policies/{policy}/backtest",
    dependencies=[needs("policy.backtest", platform)],
    summary="Try a version of the policies",
    response_model=Backtest,
    responses=good(200, "What it would have decided otherwise", REPORT) | bad(*WRITE, NotFound),
)
async def backtest(
    policy: Version,
    asked: Asking,
    gateway: Gateway,
    since: Annotated[datetime | None, Query(description="Decisions made at this time or later; by default of the last day.")] = None,
    cursor: Annotated[str | None, Query(max_length=32, description="`next_cursor` of the answer before.", examples=["e2-17"])] = None,
    limit: Annotated[int, Query(ge=1, le=MOST, description="After so many decisions the answer is given.")] = 1_000,
) -> Response:
    """Ask this version what others were asked, in all tenants, as the audit has it: nothing changes for anybody.

    Decisions are tried from the oldest on, one partition of the audit after the other. `next_cursor` goes on from there.
    """
    edition, begin = _edition(gateway, asked.principal.tenant, policy), place(cursor) if cursor else None
    first = _moment(since)
    try:
        report = await gateway.backtests.run(await gateway.editions.of(edition), first, begin, limit)
    except EngineDown as error:
        raise PolicyDown(f"It cannot be made ready: {error}") from error
    return json({"version": policy, "since": rfc3339(first)} | report.document())


def _moment(since: datetime | None) -> datetime:
    """Raises Malformed, also for what no clock of Kafka's can say."""
    found = zoned("since", since) or datetime.now(UTC) - DAY
    if not datetime(1970, 1, 1, tzinfo=UTC) <= found <= datetime(9000, 1, 1, tzinfo=UTC):
        raise Malformed("since is no time at which anything was decided: name one after 1970.")
    return found


async def _check(gateway: Parts, body: PolicyText) -> str:
    """The digest. Raises Invalid with a list of what is wrong and where, PolicyDown."""
    try:
        return await gateway.editions.check(body.bundle())
    except Unusable as error:
        errors: list[dict[str, Any]] = [{"field": f"modules.{fault.place}", "problem": fault.problem} for fault in error.faults[:50]]
        raise Invalid("The policies cannot be used.", errors=errors) from error
    except EngineDown as error:
        raise PolicyDown(f"The policies cannot be tried: {error}") from error


def _edition(gateway: Parts, tenant: str, version: str) -> Edition | None:
    """The version of this name; None: the shipped policies. Raises NotFound, NothingSent."""
    if version == SHIPPED:
        return None
    shelf = gateway.policies.catalogue.find(tenant, NAME)
    if re.fullmatch("[1-9][0-9]{0,5}", version) and shelf and (edition := shelf.at(int(version))):
        return edition
    raise NotFound(f"There is no version {version!r} of the policies.")


def _shipped(gateway: Parts) -> dict[str, Any]:
    """What the shipped policies say; an OPA server was given its own."""
    if gateway.settings.opa_url:
        return {"modules": None, "data": None}
    found = rego.load(gateway.settings.soma_policy_dir)
    return {"digest": found.version, "modules": found.modules, "data": found.data}


async def _write(gateway: Parts, asked: Asked, command: PublishPolicy | ActivatePolicy, route: str, body: Any) -> Response:
    outcome = await gateway.policies.write(ask(gateway, asked, NAME, command, route, body))
    headers = {"Location": "/v1/policies"} | asked.prefer.applied()
    if not isinstance(outcome, Written):
        position = str(outcome.position)
        return json({"position": position, "detail": DETAIL}, 202, headers | {"Soma-Position": position})
    shelf = outcome.known
    headers |= placed(shelf.position) | replayed(outcome)
    if isinstance(command, ActivatePolicy):
        return json(overview(shelf), headers=headers)
    edition = shelf.editions[-1]
    return json(document(edition, shelf), 201 if outcome.changed else 200, headers | {"Location": f"/v1/policies/{edition.number}"})
