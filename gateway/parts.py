"""What a gateway is made of, for its routes."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from gateway.audit import Audit
from gateway.backtest import Backtests
from gateway.budgets import Budgets
from gateway.credentials import SignIn
from gateway.editions import Editions
from gateway.health import Health
from gateway.identity import Identity
from gateway.keys import Keys
from gateway.models import Models
from gateway.named import Named
from gateway.policy import Policy
from gateway.rates import Rates
from gateway.reader import Reader
from gateway.relations import Relations
from gateway.stream import Streams
from gateway.turn import Turns
from gateway.unshared import Unshared
from gateway.watch import Watch
from gateway.writer import Writer
from ops.artifacts import Artifacts
from ops.settings import Settings
from projections.access import Key
from projections.agent import Agent
from projections.policy import Shelf
from projections.tool import Tool


@dataclass(frozen=True)
class Parts:
    """Built once a process, by gateway/assembly.py."""

    settings: Settings
    policy: Policy
    policies: Named[Shelf]
    editions: Editions
    backtests: Backtests
    relations: Relations
    audit: Audit
    sign_in: SignIn
    rates: Rates
    models: Models
    identity: Identity
    writer: Writer
    reader: Reader
    streams: Streams
    turns: Turns
    tools: Named[Tool]
    agents: Named[Agent]
    access: Named[Key]
    keys: Keys
    watch: Watch
    unshared: Unshared
    artifacts: Artifacts
    budgets: Budgets
    health: Health


async def parts(request: Request) -> Parts:
    """The parts of the gateway that serves this request."""
    found: Parts = request.app.state.parts
    return found


Gateway = Annotated[Parts, Depends(parts)]
