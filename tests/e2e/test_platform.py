"""The whole platform through its door: what a caller, an operator and a downstream team see."""

import json
import os
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
import yaml

from tests.e2e.collector import Collector
from tests.e2e.conftest import Platform

pytestmark = pytest.mark.timeout(300)


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.1)


@pytest.fixture
def client(platform: Platform) -> httpx.Client:
    return httpx.Client(base_url=platform.url, timeout=40)


def test_a_conversation_and_every_view_of_it(client: httpx.Client, platform: Platform, tmp_path: Path) -> None:
    # given a session with a first answer, and a second message
    created = client.post("/v1/sessions", json={"model": "echo", "input": "hello", "metadata": {"team": "a"}})
    assert created.status_code == 201
    session = created.json()
    again = client.post(f"/v1/sessions/{session['id']}/messages", json={"input": "again"})
    assert [m["content"] for m in again.json()["messages"]] == ["hello", "echo: hello", "again", "echo: again"]
    # then a GET that waits for that position shows the same
    read = client.get(f"/v1/sessions/{session['id']}", params={"position": again.json()["position"]}).json()
    assert read == again.json()
    # and an earlier moment shows what was then
    assert len(client.get(f"/v1/sessions/{session['id']}", params={"as_of": 3}).json()["messages"]) == 1
    # and the log tells the same story to an operator
    shown = platform.soma("show", session["id"], "--json")
    types = [json.loads(line)["event"]["body"]["type"] for line in shown.stdout.splitlines()]
    turn = ["MessagePosted", "ReplyRequested", "ReplyRecorded"]
    assert types == ["SessionStarted", *turn, *turn]
    assert "echo: again" in platform.soma("show", session["id"]).stdout
    early = platform.soma("show", session["id"], "--json", "--as-of", "4").stdout.splitlines()
    assert len(early) == 4
    # and to an analyst
    parquet = tmp_path / "session.parquet"
    assert platform.soma("export", str(parquet), "--session", session["id"]).returncode == 0
    assert pq.read_table(parquet).column("type").to_pylist() == types


def test_a_first_start_that_goes_well_frightens_nobody(platform: Platform) -> None:
    """What libraries once said of a cluster that was well, before anything had happened."""
    started = platform.log.read_text().partition("everything is well")[0]

    assert "Group Coordinator Request failed" not in started
    assert "Missing sensor state" not in started


def test_events_are_filtered_and_a_wrong_place_is_wrong_use(client: httpx.Client, platform: Platform) -> None:
    started = client.post("/v1/sessions", json={"model": "echo"}).json()
    session = started["id"]
    found = platform.soma("events", "--session", session, "--type", "SessionStarted", "--since", started["created_at"], "--json")
    assert [json.loads(line)["event"]["meta"]["aggregate_id"] for line in found.stdout.splitlines()] == [session]
    assert platform.soma("events", "--session", session, "--type", "SessionClosed", "--json").stdout == ""
    client.post(f"/v1/sessions/{session}/messages", json={"input": "hello"}).raise_for_status()
    ending = platform.soma("events", "--session", session, "--last", "2", "--json").stdout.splitlines()
    assert [json.loads(line)["event"]["body"]["type"] for line in ending] == ["ReplyRequested", "ReplyRecorded"]
    assert platform.soma("events", "--from", "nonsense").returncode == 2
    # and a name that no event has is wrong use, not an empty answer
    mistyped = platform.soma("events", "--type", "SessionStared")
    assert (mistyped.returncode, "SessionStarted" in mistyped.stderr) == (2, True)
    assert platform.soma("export", "record.jsonl", "--type", "SessionStared").returncode == 2
    unnamed = platform.soma("show", "nonsense")
    assert (unnamed.returncode, "is a UUID" in " ".join(unnamed.stderr.split())) == (2, True)
    assert platform.soma("show", str(uuid.uuid4())).returncode == 1


def test_one_trace_leads_from_the_request_to_the_row(client: httpx.Client, collector: Collector) -> None:
    # given a caller with a trace of its own
    trace_id, parent = uuid.uuid4().hex, "00f067aa0ba902b7"
    headers = {"traceparent": f"00-{trace_id}-{parent}-01"}
    assert client.post("/v1/sessions", json={"model": "echo", "input": "trace me"}, headers=headers).status_code == 201
    # then gateway, worker, model call and projector have their spans in it
    wanted = {("soma-worker", "decide session"), ("soma-worker", "model call")}
    until(lambda: wanted <= {(s.service, s.name) for s in collector.spans(trace_id)})
    until(lambda: {"soma-gateway", "soma-worker", "soma-projector"} <= {s.service for s in collector.spans(trace_id)})
    # and each span hangs on another one of the trace, or on the caller's
    spans = collector.spans(trace_id)
    assert {s.parent_id for s in spans} <= {s.span_id for s in spans} | {parent}


def test_the_read_model_and_the_chain_are_proved(client: httpx.Client, platform: Platform) -> None:
    client.post("/v1/sessions", json={"model": "echo", "input": "prove me"})
    verified = platform.soma("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    proved = platform.soma("verify", "--chain")
    assert proved.returncode == 0, proved.stdout + proved.stderr
    rebuilt = platform.soma("rebuild")
    assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
    assert platform.soma("verify").returncode == 0


def test_a_tool_from_its_file_to_its_retirement(client: httpx.Client, platform: Platform, tmp_path: Path) -> None:
    # given a definition in a file
    file = tmp_path / "adder.yaml"
    file.write_text("name: adder\ndescription: Adds.\nparameters: {type: object}\npython: {entry_point: adder}\n")
    # when it is registered
    registered = platform.soma("tools", "register", str(file), "--json")
    assert registered.returncode == 0, registered.stderr
    assert json.loads(registered.stdout)["version"] == 1
    # then it is listed and shown
    assert platform.soma("tools", "list").stdout.split()[:3] == ["adder", "v1", "offered"]
    assert "adder" in platform.soma("tools", "show", "adder").stdout
    # and retired, and restored
    assert platform.soma("tools", "retire", "adder", "--reason", "unsafe").stdout == "adder: version 1, retired\n"
    assert "adder" not in [each["name"] for each in json.loads(platform.soma("tools", "list", "--json").stdout)["tools"]]
    assert "retired" in platform.soma("tools", "list", "--retired").stdout
    assert platform.soma("tools", "restore", "adder").returncode == 0
    # and what cannot be is explained
    file.write_text("name: No Name\n")
    wrong = platform.soma("tools", "register", str(file))
    assert (wrong.returncode, "body.name" in wrong.stderr) == (1, True)
    assert platform.soma("tools", "show", "none").returncode == 1
    # and all of it outlives the processes that knew it
    for name in ("worker", "gateway"):
        os.kill(_child(platform, name), signal.SIGKILL)
    until(lambda: _healthy(platform), 90)
    assert client.get("/v1/tools/adder").json()["status"] == "offered"
    again = client.post("/v1/tools", json=yaml.safe_load("{name: adder, description: Adds two., parameters: {}, python: {entry_point: a}}"))
    assert (again.status_code, again.json()["version"]) == (201, 2), again.text


def test_an_agent_from_its_file_to_its_retirement(client: httpx.Client, platform: Platform, tmp_path: Path) -> None:
    # given terms in a file
    file = tmp_path / "clerk.yaml"
    file.write_text("model: echo\ninstructions: Be exact.\ntools: [calculator]\nlimits: {calls: 3}\n")
    # when they are published, and once more
    published = [platform.soma("agents", "put", "clerk", str(file), *more) for more in ((), ("--json",))]
    # then that is one version
    assert (published[0].stdout, json.loads(published[1].stdout)["newest"]) == ("clerk: version 1, offered\n", 1)
    listed = {line.split()[0]: line.split()[1:4] for line in platform.soma("agents", "list").stdout.splitlines()}
    assert listed["clerk"] == ["v1", "offered", "echo"]
    # and sessions begin with it, and keep to it
    old = client.post("/v1/sessions", json={"agent": "clerk", "input": '/calculator {"expression": "6*7"}'}).json()
    assert (old["agent"], old["messages"][-1]["content"]) == ("clerk@1", "echo: 42")
    file.write_text("model: echo\ninstructions: Be brief.\n")
    assert platform.soma("agents", "put", "clerk", str(file)).stdout == "clerk: version 2, offered\n"
    assert "Be exact." in platform.soma("agents", "show", "clerk", "--version", "1").stdout
    assert "Be brief." in platform.soma("agents", "show", "clerk").stdout
    # and it is retired, and restored
    assert platform.soma("agents", "retire", "clerk", "--reason", "gone").stdout == "clerk: version 2, retired\n"
    assert "clerk" not in [each["name"] for each in json.loads(platform.soma("agents", "list", "--json").stdout)["agents"]]
    assert "retired" in platform.soma("agents", "list", "--retired").stdout
    assert client.post("/v1/sessions", json={"agent": "clerk"}).status_code == 422
    assert client.post(f"/v1/sessions/{old['id']}/messages", json={"input": '/calculator {"expression": "1+1"}'}).status_code == 200
    assert platform.soma("agents", "restore", "clerk").returncode == 0
    # and what cannot be is explained
    file.write_text("model: echo\ntools: [unheard-of]\n")
    wrong = platform.soma("agents", "put", "clerk", str(file))
    assert (wrong.returncode, "unheard-of" in wrong.stderr) == (1, True)
    assert platform.soma("agents", "show", "none").returncode == 1


def test_processes_that_are_killed_come_back_and_the_caller_goes_on(client: httpx.Client, platform: Platform) -> None:
    session = client.post("/v1/sessions", json={"model": "echo", "input": "before"}).json()
    # when worker, projector and gateway are killed
    for name in ("worker", "projector", "gateway"):
        os.kill(_child(platform, name), signal.SIGKILL)
    until(lambda: _healthy(platform), 90)
    until(lambda: _projected(client), 90)
    # then the conversation goes on where it was
    after = client.post(f"/v1/sessions/{session['id']}/messages", json={"input": "after"})
    assert after.status_code == 200, after.text
    assert [m["content"] for m in after.json()["messages"]] == ["before", "echo: before", "after", "echo: after"]


def _healthy(platform: Platform) -> bool:
    try:
        return httpx.get(f"{platform.url}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _projected(client: httpx.Client) -> bool:
    """Whether what is written comes to the read model. Health does not tell that a projector is away which has nothing to do."""
    started = client.post("/v1/sessions", json={"model": "echo"})
    if not started.is_success:
        return False
    session = started.json()
    return client.get(f"/v1/sessions/{session['id']}", params={"position": session["position"]}).status_code == 200


def _child(platform: Platform, name: str) -> int:
    """The process id of a part of this platform, and of no other."""
    for line in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = line.read_text().rpartition(")")[2].split()
            command = (line.parent / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(fields[1]) == platform.process.pid and name.encode() in command:
            return int(line.parent.name)
    raise AssertionError(f"{name} does not run")
