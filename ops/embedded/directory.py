"""A data directory belongs to one running platform at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.embedded.errors import InUse


@contextmanager
def claimed(data_dir: Path) -> Iterator[Path]:
    """The directory, ours until the block ends or the process dies. Raises InUse."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise InUse(f"{data_dir} is in use by process {holder}. Stop that one, or set SOMA_DATA_DIR to another directory.") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield data_dir
