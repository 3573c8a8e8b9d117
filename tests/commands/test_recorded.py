"""What releases recorded is decided as it was then, or it is on the list of what may differ (`soma replay-diff`)."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from fastavro import parse_schema

from ops import replay_diff
from ops.cli_diff import accepted_in
from ops.history import Entry, read, write
from ops.replay_diff import HERE, ROOMS, CannotCompare, compare, tree
from schemas.codec import Codec
from schemas.contract import bundle
from schemas.types.session import CancelSession, CloseSession, RecordReply, SessionCommand, SessionEvent
from tests.history import History

RECORDED = Path(__file__).parent / "recorded"
HISTORIES = sorted(RECORDED.glob("*.jsonl.gz"))


@pytest.mark.parametrize("kept", HISTORIES, ids=[path.name for path in HISTORIES])
def test_what_a_release_recorded_is_decided_as_it_was_then(kept: Path) -> None:
    report = compare(kept, HERE, accepted_in(RECORDED / "accepted.yaml"))
    assert report.decided > 50
    assert report.wrong == [], "run `soma replay-diff --against . --history FILE` to see them"


def test_the_kept_histories_hold_what_can_go_otherwise() -> None:
    bodies = [body for path in HISTORIES for entry in read(path) for body in (event["body"] for event in entry.events)]
    assert {
        *("ToolCallRequested", "ToolCallStarted", "ToolCallFinished", "ToolCallApproved"),
        *("SessionCancelled", "SessionClosed", "Refused", "TurnStopped", "ToolRegistered"),
    } <= {body["type"] for body in bodies}
    assert {"ok", "denied", "invalid", "budget"} <= {body.get("outcome") for body in bodies}


class Kept(History):
    """A history that keeps its commands too."""

    def __init__(self) -> None:
        super().__init__(Codec(SessionEvent, 1, {1: parse_schema(bundle("soma.session.SessionEvent"))}))
        self.entries: list[Entry] = []

    def send(self, id: str, body: object, **more: object) -> list[SessionEvent]:
        events: list[SessionEvent] = super().send(id, body, **more)  # type: ignore[arg-type]
        meta = events[0].meta
        about = {"id": meta.command_id, "aggregate_id": id, "tenant": meta.tenant, "actor": meta.actor, "time": meta.time}
        command = msgspec.to_builtins(msgspec.convert({"meta": about, "body": msgspec.to_builtins(body)}, SessionCommand))
        self.entries.append(Entry("session", 0, command, [msgspec.to_builtins(event) for event in events]))
        return events


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Two turns, a cancel, a refusal, and a late reply, as a file."""
    kept = Kept()
    kept.session(turns=2, close=True)
    cancelled = kept.start()
    kept.send(cancelled, CancelSession(reason="enough"))
    kept.send(cancelled, CloseSession())
    kept.send(cancelled, RecordReply(request=3, attempt="a", content="late", finish_reason="stop"))
    path = tmp_path / "history.jsonl.gz"
    write(kept.entries, path)
    return path


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Path]:
    """A copy of the code, to be altered."""
    copy = tmp_path / "other"
    for room in ROOMS:
        shutil.copytree(HERE / room, copy / room, ignore=shutil.ignore_patterns("__pycache__", "static"))
    yield copy


def altered(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_same_code_decides_the_same(history: Path) -> None:
    report = compare(history, HERE, {})
    assert (report.decided, report.folded, report.passed_over, report.differences) == (9, 0, 0, [])


def test_each_command_that_another_version_decides_otherwise_is_shown_and_can_be_accepted(history: Path, other: Path) -> None:
    # given a version in which a closed session is said to have expired
    altered(other / "commands" / "session.py", "return [SessionClosed()]", "return [SessionExpired()]")
    # when
    [difference] = compare(history, other, {}).differences
    # then
    assert (difference.command, difference.what) == ("CloseSession", "decision")
    assert (difference.recorded, difference.other) == ([{"type": "SessionClosed"}], [{"type": "SessionExpired"}])
    # and who accepts it says why
    report = compare(history, other, {difference.id: "closing is rare"})
    assert (report.wrong, report.differences[0].accepted) == ([], "closing is rare")


def test_versions_are_named_by_refs_of_the_repository(history: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a repository with a release, and a branch on which a closed session is said to have expired
    git(other, "init", "--quiet")
    commit(other, "A release")
    git(other, "tag", "v0.1.0")
    git(other, "checkout", "--quiet", "-b", "expires")
    altered(other / "commands" / "session.py", "return [SessionClosed()]", "return [SessionExpired()]")
    commit(other, "Another way")
    # and the code that is compared with them stands in a working tree of it that nobody has committed
    altered(other / "commands" / "session.py", "return [SessionExpired()]", "return [SessionCancelled()]")
    monkeypatch.setattr(replay_diff, "HERE", other)
    for name in ("v0.1.0", "expires", "HEAD", "HEAD~1"):
        with tree(name) as found:
            differences = compare(history, found, {}).differences
        # then each is decided by the code of that ref
        assert [each.other for each in differences] == ([[{"type": "SessionExpired"}]] if name in ("expires", "HEAD") else [])


def git(repository: Path, *arguments: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, "-C", str(repository), *arguments], check=True, capture_output=True)  # noqa: S607


def commit(repository: Path, message: str) -> None:
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", message)


def test_a_version_that_cannot_fold_the_record_says_so(history: Path, other: Path) -> None:
    altered(other / "commands" / "situation.py", "case MessagePosted(), Idle(talk):", "case MessagePosted(), Ended(talk):")
    report = compare(history, other, {})
    # then every record of both sessions, from the first on, names the event that does not fold
    assert [difference.what for difference in report.differences] == 9 * ["fold"]
    for difference in report.differences:
        assert difference.other.startswith(f"after this record nothing of {difference.aggregate_id} can be folded: ")
        assert "ValueError: MessagePosted cannot follow Idle" in difference.other


def test_what_retention_removed_is_compared_by_its_states(history: Path, other: Path, tmp_path: Path) -> None:
    # given a history without its commands, and a version that folds otherwise
    gone = tmp_path / "gone.jsonl.gz"
    write((msgspec.structs.replace(entry, command=None) for entry in read(history)), gone)
    altered(other / "commands" / "talk.py", "messages=talk.messages + 1,", "messages=talk.messages + 2,")
    # then
    assert compare(gone, HERE, {}).folded == 9
    report = compare(gone, other, {})
    assert (report.decided, {difference.what for difference in report.differences}) == (0, {"state"})


def test_what_is_no_version_and_what_is_no_history_is_explained(history: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotCompare, match="no ref"), tree("no-such-ref"):
        pass
    (tmp_path / "commands").mkdir()
    with pytest.raises(CannotCompare, match="cannot be run"):
        compare(history, tmp_path, {})
    (tmp_path / "text").write_text("text")
    with pytest.raises(ValueError, match="no history"):
        list(read(tmp_path / "text"))
