"""Records as `soma show` and `soma events` tell them."""

from datetime import UTC, datetime
from io import StringIO

import pytest
from fastavro import parse_schema
from msgspec import Struct
from rich.console import Console

from ops.cli_replay import timeline
from ops.replay import Recorded
from ops.telling import TEXT, what
from schemas.codec import Codec
from schemas.contract import bundle
from schemas.places import Place
from schemas.types.common import Sealed, Usage
from schemas.types.session import (
    Limits,
    MessagePosted,
    ReplyRecorded,
    SessionCancelled,
    SessionEvent,
    SessionStarted,
    Tool,
    ToolCallRequested,
)
from tests.history import History

ADD = Tool(name="add", version=3, repeat_safe=True, timeout_seconds=10, attempts=3, cost_micros=5, approval="never", tokens=20)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            SessionStarted(model="m", metadata={"team": "a"}, reply_seconds=30, idle_seconds=60, tools=(ADD, ADD), limits=Limits(calls=0)),
            "model=m  metadata=team=a  reply_seconds=30  idle_seconds=60  tools=add@3, add@3  limits=(calls 0)",
        ),
        (
            ToolCallRequested(
                call="c", model_id="m0", tool="add", version=3, arguments="{}", digest=b"\x01\xfe" * 8, approval=False, deadline=NOON
            ),
            f"call=c  model_id=m0  tool=add  version=3  arguments={{}}  digest={'01fe' * 8}  deadline=2026-01-31T12:00:00Z",
        ),
        (
            ReplyRecorded(request=3, attempt="a", content="", finish_reason="stop", usage=Usage(input_tokens=8, output_tokens=2)),
            "request=3  attempt=a  finish_reason=stop  usage=8 + 2 tokens, 0 millionths",
        ),
        (SessionCancelled(), ""),
        (MessagePosted(content=Sealed(key_id="k1", ciphertext=b"x")), "content=<sealed with k1>"),
        (MessagePosted(content="a\x1b[31m\nb" + "x" * 100), "content=" + "a\\x1b[31m\\nb" + "x" * (TEXT - 12) + "…"),
    ],
)
def test_a_body_is_told_without_what_goes_without_saying(body: Struct, told: str) -> None:
    assert what(body) == told


def test_what_people_wrote_is_no_markup_of_a_timeline() -> None:
    # given a message that looks like a markup that is closed before it is opened
    history = History(Codec(SessionEvent, 1, {1: parse_schema(bundle("soma.session.SessionEvent"))}))
    history.start("[/bold] and [red]red[/red]")
    recorded = [Recorded(Place(0, offset), event, b"", event.meta.time) for offset, event in enumerate(history.events)]
    # when
    console = Console(width=200, record=True, file=StringIO())
    console.print(timeline("s", recorded))
    # then
    assert "[/bold] and [red]red[/red]" in console.export_text()
