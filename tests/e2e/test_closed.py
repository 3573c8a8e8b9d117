"""`soma up` with the gate closed by one variable: what docs/security.md tells a reader to type is typed here."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.collector import Collector
from tests.e2e.conftest import Platform, running
from tests.e2e.test_documents import ROOT, matches, shell

pytestmark = pytest.mark.timeout(300)
PAGE = (ROOT / "docs" / "security.md").read_text()
[STEPS] = re.findall(r"<!-- run by tests/e2e/test_closed.py[^>]*-->\n```console\n\$ (.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def closed(tmp_path: Path, collector: Collector) -> Iterator[Platform]:
    with running(tmp_path / "up", collector, GATEWAY_REQUIRE_AUTH="true") as platform:
        yield platform


def test_one_variable_closes_the_gate_and_the_audit_explains_who_was_kept_out(closed: Platform, tmp_path: Path) -> None:
    for step in STEPS.split("\n$ "):
        command, _, expected = step.partition("\n")
        printed = shell(command, closed, tmp_path)
        assert matches(expected, printed), f"$ {command}\nexpected:\n{expected}\nprinted:\n{printed}"
    # and whoever started it was told how to go on
    assert "keys bootstrap" in closed.log.read_text()
    assert "could not be registered" not in closed.log.read_text()
