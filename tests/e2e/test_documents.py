"""What the documents tell a reader to type is typed here, and gives what they say."""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Platform

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"<!-- executed by [^>]*-->\n```(console|python)\n(.*?)```", re.DOTALL)
EXAMPLES = [(path, kind, text) for path in DOCUMENTS for kind, text in BLOCK.findall(path.read_text())]
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#]+)")


@pytest.mark.parametrize(("path", "text"), [(p, t) for p, kind, t in EXAMPLES if kind == "console"], ids=lambda v: getattr(v, "name", ""))
def test_commands_print_what_the_document_says(path: Path, text: str, platform: Platform, tmp_path: Path) -> None:
    for step in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = step.partition("\n")
        printed = shell(command, platform, tmp_path)
        assert matches(expected, printed), f"{path.name}: $ {command}\nexpected:\n{expected}\nprinted:\n{printed}"


@pytest.mark.parametrize(("path", "text"), [(p, t) for p, kind, t in EXAMPLES if kind == "python"], ids=lambda v: getattr(v, "name", ""))
def test_programs_run(path: Path, text: str, platform: Platform) -> None:
    environment = platform.environment | {
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{platform.environment['SOMA_KAFKA_PORT']}",
        "SCHEMA_REGISTRY_URL": f"http://127.0.0.1:{platform.environment['SOMA_REGISTRY_PORT']}/apis/ccompat/v7",
    }
    httpx.post(f"{platform.url}/v1/sessions", json={"model": "echo", "input": "hi"}, timeout=30).raise_for_status()
    ran = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, timeout=90, check=False, cwd="/")
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == 4, ran.stdout


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    assert [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()] == []


def shell(command: str, platform: Platform, directory: Path) -> str:
    """A line of a document is run as a reader would: by a shell, against this platform instead of localhost:8010."""
    line = command.replace("localhost:8010", f"127.0.0.1:{platform.environment['GATEWAY_PORT']}")
    environment = platform.environment | {"PATH": f"{Path(sys.executable).parent}:{platform.environment['PATH']}"}
    ran = subprocess.run(["/bin/bash", "-c", line], env=environment, capture_output=True, text=True, timeout=90, check=False, cwd=directory)
    return ran.stdout + ran.stderr


def matches(expected: str, printed: str) -> bool:
    """`...` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None
