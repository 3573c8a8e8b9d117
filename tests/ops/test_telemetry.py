"""Log lines: one a message, whatever somebody put into it."""

import logging
import sys

import pytest

from ops.telemetry import Lines

FORGED = "x\n2026-01-31 12:00:00,000 INFO soma.gateway: ada signed in"


@pytest.mark.parametrize(
    "text",
    [
        FORGED,
        FORGED.replace("\n", "\r\n"),
        FORGED.replace("\n", "\u2028"),
        "x\x85y",
        "x\x0by",
        "\x1b[2J\x1b]0;title\x07",
        "a\x00b",
        "\u202egnp",
    ],
    ids=ascii,
)
def test_a_message_is_one_line_in_which_nothing_moves_the_cursor(text: str) -> None:
    record = logging.LogRecord("soma.gateway", logging.INFO, "", 0, "no tool %s", (text,), None)
    said = Lines("%(levelname)s %(name)s: %(message)s").format(record)
    assert said.startswith("INFO soma.gateway: no tool ")
    assert said.isprintable()


def test_no_line_of_a_traceback_looks_like_one_of_the_log() -> None:
    # given an error whose message a caller wrote
    try:
        raise ValueError(FORGED + "\x1b[2J")
    except ValueError:
        record = logging.LogRecord("soma.gateway", logging.ERROR, "", 0, "a defect", (), sys.exc_info())
    # when
    first, *others = Lines("%(levelname)s %(name)s: %(message)s").format(record).splitlines()
    # then
    assert first == "ERROR soma.gateway: a defect"
    assert len(others) > 3
    assert all(line.startswith("  ") and line.isprintable() for line in others)
    assert "ada signed in" in others[-1]
