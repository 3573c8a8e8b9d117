"""What a gateway is made of, for its routes."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from gateway.budgets import Budgets
from gateway.health import Health
from gateway.identity import Identity
from gateway.models import Models
from gateway.named import Named
from gateway.reader import Reader
from gateway.stream import Streams
from gateway.writer import Writer
from ops.settings import Settings
from projections.tool import Tool


@dataclass(frozen=True)
class Parts:
    """Built once a process, by gateway/app.py."""

    settings: Settings
    models: Models
    identity: Identity
    writer: Writer
    reader: Reader
    streams: Streams
    tools: Named[Tool]
    budgets: Budgets
    health: Health


async def parts(request: Request) -> Parts:
    """The parts of the gateway that serves this request."""
    found: Parts = request.app.state.parts
    return found


Gateway = Annotated[Parts, Depends(parts)]
