"""The artifact store, over every kind of store that is used: one suite for files and for a real S3 server."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store
from pytest import FixtureRequest, MonkeyPatch, TempPathFactory

from ops.artifacts import Artifacts, StoreDown
from ops.embedded.process import free_port, tail
from ops.seal import Seals
from ops.settings import Settings
from schemas.chain import digest

if TYPE_CHECKING:
    from obstore.store import S3Config

KEY = {"AWS_ACCESS_KEY_ID": "soma", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_REGION": "eu-west-1", "AWS_ALLOW_HTTP": "true"}
IDENTITY = """{"identities": [{"name": "soma", "actions": ["Admin"],
  "credentials": [{"accessKey": "soma", "secretKey": "not-a-secret"}]}]}"""
LONGEST_START = 60.0


@pytest.fixture(scope="module")
def s3(tmp_path_factory: TempPathFactory) -> Iterator[str]:
    """The address of a SeaweedFS with a bucket `soma`, on loopback."""
    directory, ports = tmp_path_factory.mktemp("s3"), [free_port() for _ in range(8)]
    (directory / "identity.json").write_text(IDENTITY)
    names = [f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer") for kind in ("", ".grpc")]
    weed = str(Path(sys.executable).with_name("weed"))
    command = [weed, "server", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-master.volumeSizeLimitMB=64"]
    command += [f"-s3.config={directory}/identity.json", *(f"-{name}={port}" for name, port in zip(names, ports, strict=True))]
    log = directory / "weed.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=directory)
    try:
        _make_bucket(f"http://127.0.0.1:{ports[0]}", log)
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        process.kill()
        process.wait()


def _make_bucket(url: str, log: Path) -> None:
    """The first PUT of an object makes it, once the server is up."""
    config: S3Config = {"access_key_id": "soma", "secret_access_key": KEY["AWS_SECRET_ACCESS_KEY"], "region": KEY["AWS_REGION"]}
    deadline = time.monotonic() + LONGEST_START
    while True:
        try:
            S3Store("soma", endpoint=url, config=config, client_options={"allow_http": True}).put("ready", b"yes")
            return
        except BaseError as error:
            assert time.monotonic() < deadline, f"{error}\n{tail(log)}"
            time.sleep(0.2)


@pytest.fixture(params=["files", "s3"])
def artifacts(request: FixtureRequest, tmp_path: Path, monkeypatch: MonkeyPatch) -> Artifacts:
    if request.param == "files":
        return Artifacts(Settings(soma_data_dir=tmp_path), Seals())
    for name, value in {**KEY, "AWS_ENDPOINT": request.getfixturevalue("s3")}.items():
        monkeypatch.setenv(name, value)
    return Artifacts(Settings(soma_data_dir=tmp_path, soma_artifacts_url="s3://soma/results"), Seals())


async def read(artifacts: Artifacts, path: str) -> bytes:
    return b"".join([piece async for piece in await artifacts.read(path)])


@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
async def test_what_is_kept_is_read_back(artifacts: Artifacts, size: int) -> None:
    content = os.urandom(size)
    path = await artifacts.keep("acme", digest(content), content)
    assert path == f"acme/{digest(content).hex()[:2]}/{digest(content).hex()}"
    assert await artifacts.keep("acme", digest(content), content) == path, "the same is kept once"
    assert await read(artifacts, path) == content


async def test_what_is_not_there_is_said_before_the_first_piece(artifacts: Artifacts) -> None:
    with pytest.raises(FileNotFoundError):
        await artifacts.read("acme/00/00")


async def test_a_store_that_fails_is_named_and_keys_are_not(monkeypatch: MonkeyPatch) -> None:
    for name, value in {**KEY, "AWS_ENDPOINT": f"http://127.0.0.1:{free_port()}"}.items():
        monkeypatch.setenv(name, value)
    store = Artifacts(Settings(soma_artifacts_url="s3://soma/results"), Seals())
    with pytest.raises(StoreDown, match="s3://soma/results") as raised:
        await store.keep("acme", digest(b"x"), b"x")
    with pytest.raises(StoreDown):
        await store.read("acme/00/00")
    assert "not-a-secret" not in str(raised.value)
