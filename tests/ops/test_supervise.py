"""Processes are started again when they end, unless their settings are wrong."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from ops import supervise
from ops.supervise import LONGEST_LINE, Supervised, WrongSettings, lines


class Said:
    """What a process said, to be awaited."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._more = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self._more.set()

    async def until(self, count: int, text: str) -> None:
        while sum(text in line for line in self.lines) < count:
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), 30)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `soma NAME` run NAME as a shell script."""

    async def start(script: str, env: Mapping[str, str]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec("/bin/sh", "-c", script, stdout=asyncio.subprocess.PIPE, env=env)

    monkeypatch.setattr(supervise, "start", start)
    monkeypatch.setattr(supervise, "FIRST_PAUSE", 0.01)


@pytest.mark.usefixtures("script")
async def test_a_process_that_ends_is_started_again_after_a_growing_pause(tmp_path: Path) -> None:
    said = Said()
    process = Supervised("echo working; exit 7", {}, tmp_path / "process.log", said)

    await process.start()
    await said.until(3, "working")
    await process.stop()

    ends = [line for line in said.lines if "ended with code 7" in line]
    assert ends[:2] == ["ended with code 7; it is started again in 0.01 s", "ended with code 7; it is started again in 0.02 s"]
    assert (tmp_path / "process.log").read_text().startswith("working\nworking\n")


@pytest.mark.usefixtures("script")
async def test_stopping_asks_the_process_to_end_and_lets_it_speak(tmp_path: Path) -> None:
    said = Said()
    process = Supervised("trap 'echo goodbye; exit 0' TERM; echo working; while :; do sleep 0.1; done", {}, tmp_path / "process.log", said)
    await process.start()
    await said.until(1, "working")

    await process.stop()

    assert said.lines == ["working", "goodbye"]
    assert process.pid is None


async def test_wrong_settings_end_everything_with_the_message_of_the_process(tmp_path: Path) -> None:
    said = Said()
    process = Supervised("worker", {**os.environ, "GATEWAY_PORT": "eighty"}, tmp_path / "worker.log", said)
    await process.start()

    with pytest.raises(WrongSettings, match="worker cannot run with these settings"):
        await process.failed()

    assert any("GATEWAY_PORT" in line for line in said.lines)


async def test_a_line_without_end_comes_in_pieces() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"short\n" + b"x" * (3 * LONGEST_LINE) + b"\nlast")
    reader.feed_eof()

    found = [line async for line in lines(reader)]

    assert found[0] == "short"
    assert found[-1] == "last"
    assert "".join(found[1:-1]) == "x" * (3 * LONGEST_LINE)
    assert max(map(len, found)) <= 3 * LONGEST_LINE
