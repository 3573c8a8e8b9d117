"""Long work over partitions, a process a core: each takes the next partition, tells how it goes, and hands back its result."""

import gc
import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from projections.reading import Chain
from projections.source import Step

T = TypeVar("T")
Watch = Callable[[Chain, int], None]
"""Told the partition, and how many more of its records are done."""


class CoreDied(RuntimeError):
    """A process ended in the middle of its work."""


def over_partitions(job: Callable[[Any, Chain, Step], T], argument: Any, sizes: Mapping[Chain, int], watch: Watch) -> dict[Chain, T]:
    """What `job(argument, chain, step)` gives for each partition of `sizes`, the largest first.

    `job` is a function of a module; its argument, results and exceptions go between processes. Raises what a job raises, and CoreDied.
    """
    context = multiprocessing.get_context("spawn")
    todo, news = context.SimpleQueue(), context.Queue()
    cores = min(os.cpu_count() or 1, len(sizes))
    for chain in [*sorted(sizes, key=lambda each: -sizes[each]), *[None] * cores]:
        todo.put(chain)
    processes: list[BaseProcess] = [context.Process(target=_core, args=(job, argument, todo, news), daemon=True) for _ in range(cores)]
    for process in processes:
        process.start()
    try:
        return _gather(processes, news, len(sizes), watch)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _gather(processes: list[BaseProcess], news: Any, partitions: int, watch: Watch) -> dict[Chain, Any]:
    results: dict[Chain, Any] = {}
    while len(results) < partitions:
        try:
            chain, outcome = news.get(timeout=1)
        except queue.Empty:
            if dead := [process.exitcode for process in processes if process.exitcode]:
                raise CoreDied(
                    f"A process ended with exit code {dead[0]} in the middle of its work: see above, and run it again."
                ) from None
            continue
        match outcome:
            case int():
                watch(chain, outcome)
            case Exception():
                raise outcome
            case (result,):
                results[chain] = result
    return results


def _core(job: Callable[[Any, Chain, Step], Any], argument: Any, todo: Any, news: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its children
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # states stay, and are no cycles: looking through them again and again costs a fifth of the time
    while (chain := todo.get()) is not None:
        _do(job, argument, chain, news)


def _do(job: Callable[[Any, Chain, Step], Any], argument: Any, chain: Chain, news: Any) -> None:
    try:
        news.put((chain, (job(argument, chain, lambda records: news.put((chain, records))),)))
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent raises it
        news.put((chain, error))
