"""Sealed text in the session's decider, which moves it and never looks inside; and what a model is told of it, once it is opened."""

from typing import Any

from commands import session
from commands.decision import Refusal
from commands.situation import Ended, seal_of
from schemas.chain import digest
from schemas.sealing import Key, holds_text, opened, sealed
from schemas.types.common import Sealed
from schemas.types.session import (
    CancelSession,
    DenyCall,
    Limits,
    MessagePosted,
    PostMessage,
    RecordFailure,
    RecordResult,
    ReplyFailed,
    ReplyRecorded,
    SessionStarted,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallReturned,
)
from streams.conversation import messages
from tests.commands.test_call import ASK_FIRST, asking, begin, open_calls, reply, result, start, wish
from tests.commands.test_session import NOON, Story

KEY, HERE = Key("name.1", b"k" * 32), "here"


def closed(body: Any) -> Any:
    return sealed(body, KEY, HERE)


def told(*bodies: Any) -> Any:
    """What these say, once they are opened."""
    return opened(bodies, lambda text: KEY.open(text.ciphertext, HERE).decode())


def sealing(*wishes: Any) -> Story:
    """A sealed session whose model asked for these calls."""
    return Story().given(closed(start(ASK_FIRST, seal=KEY.id)), closed(reply(3, *wishes)))


def test_no_event_of_a_sealed_session_holds_a_word_of_what_was_said() -> None:
    story = Story()
    events = story.when(closed(start(seal=KEY.id, instructions="be brief")))
    events += story.when(closed(reply(3, wish("add"), wish("nothing", "{}"), wish("add", problem='"x" is no number'))))
    [id, *_] = open_calls(story)
    events += [*story.when(begin(id)), *story.when(closed(result(id, content="42")))]
    events += story.when(closed(CancelSession(reason="enough")))
    # then only what we say ourselves is not sealed: that there is no such tool
    open_ones = [event for event in events if holds_text(event)]
    assert [(type(event), event.outcome) for event in open_ones] == [(ToolCallFinished, "refused")]


def test_which_key_a_session_has_is_known_for_its_life_and_after_it() -> None:
    story = Story()
    assert seal_of(story.state) is None
    [started, *_] = story.when(closed(start(seal=KEY.id)))
    assert (started.seal if isinstance(started, SessionStarted) else None, seal_of(story.state)) == (KEY.id, KEY.id)
    effect = session.outstanding(story.state)
    assert isinstance(effect, session.ModelCall) and effect.seal == KEY.id
    story.when(CancelSession())
    assert (type(story.state), seal_of(story.state)) == (Ended, KEY.id)


def test_a_sealed_note_is_the_denial_s_result_and_the_model_is_told_that_a_person_denied_the_call() -> None:
    story = sealing(wish("wipe"))
    [id] = open_calls(story)
    # when
    [finished, *_] = story.when(closed(DenyCall(call=id, note="not today")))
    # then
    assert isinstance(finished, ToolCallFinished) and isinstance(finished.content, Sealed)
    assert finished.digest == digest(finished.content.ciphertext)
    assert _result_of(finished) == "A person denied this call. not today"


def test_a_denial_without_a_note_and_one_that_is_not_sealed_tell_the_same_once() -> None:
    for note, said in ((None, "A person denied this call."), ("no", "A person denied this call. no")):
        story = asking(wish("wipe"))
        [id] = open_calls(story)
        [finished, *_] = story.when(DenyCall(call=id, note=note))
        assert _result_of(finished) == said


def test_what_is_wrong_with_arguments_stays_sealed() -> None:
    story = Story().given(closed(start(seal=KEY.id)))
    [_, _, finished, *_] = story.when(closed(reply(3, wish("add", problem='"ada" is no number'))))
    assert isinstance(finished, ToolCallFinished) and isinstance(finished.content, Sealed)
    assert finished.bytes == len(finished.content.ciphertext)
    assert told(finished)[0].content == '"ada" is no number'


def test_why_another_attempt_is_made_is_told_in_our_own_words() -> None:
    story = Story().given(closed(start(seal=KEY.id)), closed(reply(3, wish("add"))))
    [id] = open_calls(story)
    story.when(begin(id))
    answer: RecordResult = closed(result(id, outcome="error", content="ada is busy", retry=True))
    [returned, *_] = story.when(answer)
    assert isinstance(returned, ToolCallReturned) and not returned.reason.startswith("ada")


def test_a_message_that_is_not_sealed_does_not_come_into_a_session_that_is() -> None:
    story = Story().given(closed(start(seal=KEY.id, input=None)))
    refusal = story.when(PostMessage(input="hello"))
    assert isinstance(refusal, Refusal) and refusal.code == "unsealed"
    assert isinstance(story.when(closed(PostMessage(input="hello")))[0], MessagePosted)


def test_what_a_reply_cost_that_could_not_be_kept_is_charged_at_its_bound() -> None:
    story = Story().given(closed(start(seal=KEY.id, limits=Limits(tokens=10_000))))
    [failed, *_] = story.when(RecordFailure(request=3, attempt="a", code="erased", reason="gone"))
    assert isinstance(failed, ReplyFailed) and failed.usage is not None
    assert failed.usage.input_tokens > 0


def _result_of(finished: Any) -> str:
    """As a model is told it."""
    asked = closed(reply(3, wish("wipe"))).calls[0]
    before = (
        ReplyRecorded(request=3, attempt="a", content="", finish_reason="tool_calls"),
        ToolCallRequested(call=finished.call, model_id="m0", tool="wipe", version=1, arguments=asked.arguments, digest=b"", deadline=NOON),
    )
    return str(messages(told(*before, finished))[-1].content)
