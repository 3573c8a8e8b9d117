"""Decisions that Kafka has not got yet, on this gateway's own disk: a file of JSON lines, for its owner alone.

It is read from its beginning by whoever has it next, also after a crash: what was sent already is sent again, and told by its number.
"""

import fcntl
import logging
import os
import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import msgspec
from msgspec import Struct

from schemas.types.audit import Decision

log = logging.getLogger("soma.gateway")
NAME = "audit-{}.spool"
CHUNK = 1 << 20


class Batch(Struct, frozen=True):
    """Decisions about one tenant's requests: the `number`-th batch of its source for that tenant."""

    source: str
    number: int
    tenant: str
    decisions: tuple[Decision, ...]


class Spool:
    """One file of the directory, which no other process has. Every method blocks, and raises OSError.

    `waiting`: bytes that are to be sent yet. `full`: as many as there may be; what was let in before that is taken all the same.
    """

    def __init__(self, directory: Path, limit: int) -> None:
        self._directory, self._limit = directory, limit
        self._file = -1
        self._end = self._sent = 0
        self._lock = threading.Lock()  # one who was cancelled may still be at work in a thread

    @property
    def waiting(self) -> int:
        return self._end - self._sent

    @property
    def full(self) -> bool:
        return self._end >= self._limit

    def _open(self) -> None:
        """Take what this process, or one that died, has left here."""
        if self._file >= 0:
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = next(file for number in count() if (file := _claimed(self._path(number))) is not None)
        self._end = self._whole()
        for path in sorted(self._directory.glob(NAME.format("*"))):
            self._adopt(path)

    def append(self, batches: Sequence[Batch]) -> None:
        """Durable when it returns (fsync)."""
        with self._lock:
            self._open()
            self._write(b"".join(msgspec.json.encode(batch) + b"\n" for batch in batches))

    def read(self) -> tuple[list[Batch], int]:
        """Some of what waits, the oldest first, and where that ends: for `sent`."""
        text = os.pread(self._file, CHUNK, self._sent)
        while b"\n" not in text and self._sent + len(text) < self._end:
            text += os.pread(self._file, CHUNK, self._sent + len(text))
        text = text[: text.rfind(b"\n") + 1]
        return [batch for line in text.splitlines() if (batch := _read(line))], self._sent + len(text)

    def sent(self, end: int) -> None:
        """All before this place is in Kafka. Once that is everything the file is empty again."""
        with self._lock:
            self._sent = end
            if self._sent == self._end:
                os.ftruncate(self._file, 0)
                self._end = self._sent = 0

    def close(self) -> None:
        """Leave it to the next one."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _path(self, number: int) -> Path:
        return self._directory / NAME.format(number)

    def _write(self, text: bytes) -> None:
        written = os.pwrite(self._file, text, self._end)
        if written != len(text):
            raise OSError(f"{self._directory}: {written} of {len(text)} bytes were written")
        os.fsync(self._file)
        self._end += len(text)

    def _whole(self) -> int:
        """The length of what was written whole: the last line may be half of one, of which nobody was told that it is safe."""
        size = os.fstat(self._file).st_size
        end = os.pread(self._file, size, 0).rfind(b"\n") + 1
        os.ftruncate(self._file, end)
        return end

    def _adopt(self, path: Path) -> None:
        """Take over the file of a process that is gone."""
        if (file := _claimed(path)) is None:
            return
        try:
            text = os.pread(file, os.fstat(file).st_size, 0)
            self._write(text[: text.rfind(b"\n") + 1])
            path.unlink()
        finally:
            os.close(file)


def _claimed(path: Path) -> int | None:
    """The file, opened and locked; None where another process, or this one, has it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _read(line: bytes) -> Batch | None:
    try:
        return msgspec.json.decode(line, type=Batch)
    except msgspec.DecodeError as error:
        log.error("a line of the audit's spool cannot be read, and its decisions are lost: %s", error)
        return None
