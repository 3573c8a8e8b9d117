"""What sealing costs a POST: two gateways of one platform in turn, of which one seals."""

import statistics
from pathlib import Path
from typing import Any

from ops import seal_file
from ops.embedded.process import free_port
from ops.settings import Settings
from tests.bench.load import sessions
from tests.faults.cluster import Cluster

ROUNDS = 7


async def sealing(settings: Settings, directory: Path, count: int) -> dict[str, Any]:
    """Medians of `ROUNDS` rounds, each of `count` sessions one at a time at either gateway, and of the ratios within a round."""
    sealing = settings.model_copy(update={"soma_seal": "local", "gateway_port": free_port()})
    seal_file.make(sealing)
    rounds = list[tuple[float, float]]()
    async with Cluster(settings, directory) as plain, Cluster(sealing, directory / "sealing") as sealed:
        sealed.directory.mkdir()
        sealed.workers[0].keep()
        sealed.projector.keep()
        for each in (plain, sealed):
            each.gateway.keep()
            await each.healthy()
            await sessions(each.url, 4, 100)
        for _ in range(ROUNDS):
            rounds.append(((await sessions(plain.url, 1, count)).p50, (await sessions(sealed.url, 1, count)).p50))
    p50, p50_sealed = (statistics.median(times) for times in zip(*rounds, strict=True))
    return {"p50": p50, "p50_sealed": p50_sealed, "ratio": statistics.median(sealed / plain for plain, sealed in rounds)}
