"""Java archives of the embedded services: fetched once into a shared cache and used only if they equal the lock.

`python -m ops.embedded.maven` resolves the coordinates anew and rewrites the lock files beside this module.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jgo.config import GlobalSettings
from jgo.env import LockedDependency, LockFile
from jgo.env._lockfile import compute_sha256
from jgo.maven import Artifact, Dependency, MavenContext, PythonResolver
from requests import RequestException
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from ops.embedded.errors import FetchFailed

LOCKS = Path(__file__).parent

# "!" keeps jgo from treating each entry's own dependencyManagement as ours: log4j's would bring an older kafka-clients.
KAFKA = [
    "org.apache.kafka:kafka_2.13:4.3.1!",
    "org.apache.kafka:kafka-tools:4.3.1!",
    "org.apache.kafka:connect-mirror:4.3.1!",
    "org.apache.kafka:connect-runtime:4.3.1!",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5!",
]
REGISTRY = ("io.apicurio", "apicurio-registry-app", "3.3.3")


def cache_dir() -> Path:
    """XDG Base Directory Specification: what can be fetched again, shared by every data directory and by the tests."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "somaagenthub"


def fetch(lock_name: str) -> list[Path]:
    """The archives of one lock file, each with the sha256 sum that the lock names; fetched where the cache lacks them.

    Raises FetchFailed. Safe to call from several processes at once.
    """
    locked = LockFile.load(LOCKS / lock_name).dependencies
    with exclusive(cache_dir() / f"{lock_name}.flock"), _progress(lock_name) as progress:
        context = _context(progress)
        return [_verified(context, dependency) for dependency in locked]


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """One process at a time in the block; another waits for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _verified(context: MavenContext, locked: LockedDependency) -> Path:
    artifact = (
        context.project(locked.groupId, locked.artifactId).at_version(locked.version).artifact(locked.classifier or "", locked.packaging)
    )
    found = ""
    for _ in range(2):  # a cached file that differs (a download that was cut short) is fetched again once
        path = _resolved(artifact)
        found = compute_sha256(path)
        if found == locked.sha256:
            return path
        path.unlink()
    raise FetchFailed(
        f"{artifact.filename} has sha256 {found}, but the lock says {locked.sha256}. It was not used. "
        "The mirror serves something else than was reviewed: check it, then start again."
    )


def _resolved(artifact: Artifact) -> Path:
    try:
        return artifact.resolve()
    except (RequestException, RuntimeError, OSError) as error:
        if artifact.cached_path:
            artifact.cached_path.unlink(missing_ok=True)
        raise FetchFailed(
            f"{artifact.filename} could not be fetched ({type(error).__name__}: {error}). Check the network, or name a mirror under "
            "[repositories] in ~/.config/jgo.conf, and start again; what is already fetched is kept."
        ) from error


def _context(progress: Progress | None = None) -> MavenContext:
    configured = MavenContext().remote_repos | GlobalSettings.load().repositories

    @contextmanager
    def on_download(name: str, size: int) -> Iterator[Callable[[int], None]]:
        assert progress is not None
        progress.start()
        task = progress.add_task(name, total=size)
        yield lambda count: progress.advance(task, count)
        progress.remove_task(task)

    resolver = PythonResolver(progress_callback=on_download if progress else None)
    return MavenContext(resolver=resolver, repo_cache=cache_dir() / "maven", remote_repos=configured, timeout=30)


@contextmanager
def _progress(lock_name: str) -> Iterator[Progress]:
    """A bar for the download under way, shown from the first one on."""
    description = TextColumn(f"Fetching {lock_name.removesuffix('.lock')}: {{task.description}}")
    bar = Progress(description, BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=Console(stderr=True), transient=True)
    try:
        yield bar
    finally:
        if bar.live.is_started:
            bar.stop()


def _kafka(context: MavenContext) -> list[Dependency]:
    given, transitive = context.resolver.resolve([context.create_dependency(coordinate) for coordinate in KAFKA])
    return given + [dependency for dependency in transitive if dependency.scope in ("compile", "runtime")]


def _registry(context: MavenContext) -> list[Dependency]:
    group, name, version = REGISTRY
    return [Dependency(context.project(group, name).at_version(version).artifact("all", "tar.gz"))]


def relock() -> None:
    context = _context()
    for name, dependencies in {"kafka.lock": _kafka(context), "registry.lock": _registry(context)}.items():
        lock = LockFile.from_resolved_dependencies(dependencies)
        lock.save(LOCKS / name)
        print(f"{name}: {len(lock.dependencies)} archives")


if __name__ == "__main__":
    relock()
