"""Data keys: what holds wherever they are, in files or in a real OpenBao; and what holds for each alone."""

import asyncio
import re
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ops import seal, seal_file
from ops.seal import BadSeal, Erased, Keys, KeysDown, Seals
from ops.seal_file import FileKeys
from ops.seal_vault import VaultKeys
from ops.settings import Settings
from schemas.types.common import Sealed
from schemas.types.session import MessagePosted
from tests.gateway.bao import ROOT, Bao, running

PAGE = (Path(__file__).parents[2] / "docs" / "erasure.md").read_text()
HERE = "019ab3c2-7e1d-7cc0-9f6a-3b1de5a1c400"


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    with running(tmp_path_factory.mktemp("bao")) as bao:
        bao.client.sys.enable_secrets_engine("transit", path="sealing")
        yield bao


@pytest.fixture
def local(tmp_path: Path) -> Settings:
    settings = Settings(soma_data_dir=tmp_path, soma_seal="local")
    seal_file.make(settings)
    return settings


@pytest.fixture(params=["local", "vault"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "local":
        found: Settings = request.getfixturevalue("local")
        return found
    bao: Bao = request.getfixturevalue("bao")
    return Settings(soma_data_dir=tmp_path, soma_seal="vault", soma_seal_transit="sealing", vault_addr=bao.url, vault_token=ROOT)


@pytest.fixture
def keys(settings: Settings) -> Keys:
    return _keys(settings)


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> str:
    """Another one in each test: the servers are shared."""
    return str(request.node.name)


def test_a_subject_keeps_its_key_in_every_process(keys: Keys, settings: Settings, subject: str) -> None:
    id = keys.newest("acme", subject)
    secret = keys.secret(id)
    # then
    other = _keys(settings)
    assert (other.newest("acme", subject), other.secret(id)) == (id, secret)
    assert len(secret) == 32


def test_another_tenant_s_subject_of_the_same_name_has_another_key_and_no_id_tells_of_either(keys: Keys, subject: str) -> None:
    ids = {keys.newest(tenant, name) for tenant, name in (("acme", subject), ("acme2", subject), ("acme", subject + "x"))}
    assert len(ids) == 3
    assert len({keys.secret(id) for id in ids}) == 3
    assert not [id for id in ids if "acme" in id or subject[:8] in id]


def test_what_is_destroyed_is_gone_for_every_process_and_the_next_key_is_another(keys: Keys, settings: Settings, subject: str) -> None:
    former = keys.newest("acme", subject)
    secret, other = keys.secret(former), keys.newest("acme", subject + "x")
    # when
    assert keys.destroy("acme", subject) == (former,)
    # then
    for each in (keys, _keys(settings)):
        with pytest.raises(Erased):
            each.secret(former)
    now = keys.newest("acme", subject)
    assert now != former and keys.secret(now) != secret
    assert keys.secret(other)
    # when it is destroyed again
    assert now in keys.destroy("acme", subject)
    for id in (former, now):
        with pytest.raises(Erased):
            keys.secret(id)


def test_where_there_was_no_key_nothing_is_destroyed(keys: Keys, subject: str) -> None:
    assert keys.destroy("acme", subject) == ()


@pytest.mark.parametrize("id", ["0" * 32 + ".1", "none", "../seal.key", "a/../../b.1", "names/1", ".1", "a.-1", "names", ""])
def test_an_id_that_was_never_made_opens_nothing(keys: Keys, id: str) -> None:
    with pytest.raises(Erased):
        keys.secret(id)


def test_gateways_that_meet_a_subject_at_once_give_it_one_key(settings: Settings, subject: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: _keys(settings).newest("acme", subject), range(8)))
    assert len(set(ids)) == 1


async def test_a_process_forgets_a_key_soon_after_it_was_destroyed(keys: Keys, subject: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "KEPT_SECONDS", 0.2)
    seals = Seals(keys)
    id = await seals.of("acme", subject)
    said = await seals.sealed(MessagePosted(content="hello"), id, HERE)
    assert isinstance(said.content, Sealed)
    assert await seals.opened(said, HERE) == MessagePosted(content="hello")
    # when another process destroys it
    keys.destroy("acme", subject)
    # then
    async with asyncio.timeout(10):
        while await seals.opened(said, HERE) != said:
            await asyncio.sleep(0.05)
    with pytest.raises(Erased):
        await seals.sealed(MessagePosted(content="hello"), id, HERE)


async def test_without_sealing_text_stays_as_it_is_and_nothing_is_opened() -> None:
    seals, said = Seals(), MessagePosted(content=Sealed(key_id="k.1", ciphertext=b"x"))
    assert (seals.on, await seals.of("acme", "ada")) == (False, None)
    assert await seals.sealed(MessagePosted(content="hello"), None, HERE) == MessagePosted(content="hello")
    assert await seals.opened(said, HERE) == said


async def test_text_of_another_session_is_not_opened(keys: Keys, subject: str) -> None:
    """Whoever can write to the log cannot have a text shown in a session that its author may not read."""
    seals = Seals(keys)
    said = await seals.sealed(MessagePosted(content="hello"), await seals.of("acme", subject), HERE)
    assert await seals.opened(said, HERE.replace("400", "401")) == said


def test_another_master_key_wraps_the_same_keys_and_a_backup_of_an_erased_one_is_worthless_then(local: Settings, tmp_path: Path) -> None:
    # given a backup of the keys, and of a master key, from before an erasure
    keys = FileKeys.load(local)
    kept, erased = keys.newest("acme", "ada"), keys.newest("acme", "bob")
    secret, backup = keys.secret(kept), (tmp_path / "seal" / erased.replace(".", "/")).read_bytes()
    keys.destroy("acme", "bob")
    former = (tmp_path / "seal.key").read_text()
    # when
    assert keys.rotate() == 2
    # then
    assert (tmp_path / "seal.key").read_text() not in former
    assert (keys.secret(kept), keys.newest("acme", "ada")) == (secret, kept)
    (tmp_path / "seal" / erased.replace(".", "/")).write_bytes(backup)
    with pytest.raises(KeysDown, match="another master key"):
        keys.secret(erased)


def test_a_rotation_that_was_stopped_half_way_loses_nothing(local: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = FileKeys.load(local)
    ids = [keys.newest("acme", name) for name in "abc"]
    secrets = [keys.secret(id) for id in ids]
    # given
    wrap, wrapped = FileKeys._wrap, list[str]()

    def dying(self: FileKeys, id: str, secret: bytes) -> bytes:
        wrapped.append(id)
        if len(wrapped) > 2:
            raise KeyboardInterrupt
        return wrap(self, id, secret)

    monkeypatch.setattr(FileKeys, "_wrap", dying)
    with pytest.raises(KeyboardInterrupt):
        keys.rotate()
    monkeypatch.undo()
    assert [keys.secret(id) for id in ids] == secrets
    # when
    keys.rotate()
    # then
    assert [keys.secret(id) for id in ids] == secrets
    assert len((tmp_path / "seal.key").read_text().split()) == 1


def test_only_the_owner_reads_keys(local: Settings, tmp_path: Path) -> None:
    FileKeys.load(local).newest("acme", "ada")
    assert [oct(path.stat().st_mode & 0o077) for path in (tmp_path / "seal").rglob("*") if path.name != "lock"] == ["0o0"] * 3
    assert stat.S_IMODE((tmp_path / "seal.key").stat().st_mode) == 0o600


def test_a_master_key_that_is_missing_open_to_others_or_none_is_told_of_without_showing_it(local: Settings, tmp_path: Path) -> None:
    path = tmp_path / "seal.key"
    path.chmod(0o644)
    with pytest.raises(BadSeal, match="chmod 600"):
        seal.load(local)
    path.write_text("0123456789")
    path.chmod(0o600)
    with pytest.raises(BadSeal) as caught:
        seal.load(local)
    assert "0123456789" not in str(caught.value)
    path.unlink()
    with pytest.raises(BadSeal, match="no master key"):
        seal.load(local)
    with pytest.raises(BadSeal, match="VAULT_ADDR"):
        seal.load(Settings(soma_data_dir=tmp_path, soma_seal="vault"))


async def test_a_vault_that_is_gone_or_silent_is_no_erasure(tmp_path: Path) -> None:
    with running(tmp_path) as bao:
        bao.client.sys.enable_secrets_engine("transit")
        keys = VaultKeys.load(Settings(soma_data_dir=tmp_path, soma_seal="vault", vault_addr=bao.url, vault_token=ROOT))
        id = keys.newest("acme", "ada")
        # when
        bao.freeze()
        with pytest.raises(KeysDown):
            keys.secret(id)
        # then callers are told, however many there are
        seals = Seals(keys)
        async with asyncio.timeout(30):
            told = await asyncio.gather(*[seals.key(id) for _ in range(200)], return_exceptions=True)
        assert {type(each) for each in told} == {KeysDown}
        # and its return is noticed
        bao.thaw()
        async with asyncio.timeout(30):
            assert await seals.key_at_last(id)
        bao.kill()
        with pytest.raises(KeysDown):
            keys.secret(id)


def test_who_erases_needs_more_of_vault_than_who_seals_as_the_page_says(bao: Bao, subject: str, tmp_path: Path) -> None:
    sealing, erasing = re.findall(r"```hcl\n(.*?)```", PAGE, re.DOTALL)
    # given
    for name, policy in (("sealing", sealing), ("erasing", sealing + erasing)):
        bao.client.sys.create_or_update_policy(name, policy)
    tokens = {name: bao.client.auth.token.create(policies=[name])["auth"]["client_token"] for name in ("sealing", "erasing")}
    process, operator = (
        VaultKeys.load(
            Settings(soma_data_dir=tmp_path, soma_seal="vault", soma_seal_transit="sealing", vault_addr=bao.url, vault_token=tokens[name])
        )
        for name in ("sealing", "erasing")
    )
    id = process.newest("acme", subject)
    assert process.secret(id)
    # when
    with pytest.raises(KeysDown, match="Forbidden"):
        process.destroy("acme", subject)
    # then
    assert process.secret(id)
    assert operator.destroy("acme", subject) == (id,)
    with pytest.raises(Erased):
        process.secret(id)


def _keys(settings: Settings) -> Keys:
    found = seal.keys(settings)
    assert found, "sealing is on"
    return found
