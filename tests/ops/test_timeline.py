"""What people are shown of an event."""

from ops import timeline
from schemas.types.common import Sealed, Usage
from schemas.types.session import MessagePosted, ToolCallFinished


def test_what_is_empty_is_left_out_and_what_is_long_is_cut() -> None:
    body = ToolCallFinished(
        call="c1",
        attempt=1,
        outcome="ok",
        content="x" * 200,
        digest=bytes(range(16)),
        bytes=9,
        usage=Usage(input_tokens=0, output_tokens=3),
    )
    assert timeline.what(body) == (
        f"call=c1  attempt=1  outcome=ok  content={'x' * 80}…  digest=00010203…  bytes=9  usage={{input_tokens=0 output_tokens=3}}"
    )


def test_what_somebody_wrote_is_shown_and_not_obeyed() -> None:
    assert timeline.what(MessagePosted(content="a\nb\x1b[31m[red]")) == "content=a\\nb\\x1b[31m[red]"
    assert timeline.what(MessagePosted(content=Sealed(key_id="k1", ciphertext=b"x"))) == "content=<sealed with k1>"
