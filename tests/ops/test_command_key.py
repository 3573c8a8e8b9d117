"""The keys that commands are signed with: found, kept to their owner, and never shown."""

import stat
from pathlib import Path

import pytest

from ops import command_key
from ops.command_key import BadKey
from ops.settings import Settings

HEX = "ab" * 32


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    # when
    command_key.make(tmp_path)
    first = (tmp_path / command_key.FILE).read_text()
    command_key.make(tmp_path)
    # then
    assert (tmp_path / command_key.FILE).read_text() == first
    assert stat.S_IMODE((tmp_path / command_key.FILE).stat().st_mode) == 0o600
    assert len(command_key.load(Settings(soma_data_dir=tmp_path))) == 1


def test_without_a_key_there_is_none(tmp_path: Path) -> None:
    assert len(command_key.load(Settings(soma_data_dir=tmp_path))) == 0


def test_the_variable_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command_key.make(tmp_path)
    monkeypatch.setenv("SOMA_COMMAND_KEY", f"{HEX}, {'cd' * 32}")
    assert len(command_key.load(Settings(soma_data_dir=tmp_path))) == 2


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    command_key.make(tmp_path)
    (tmp_path / command_key.FILE).chmod(0o644)
    with pytest.raises(BadKey, match="chmod 600"):
        command_key.load(Settings(soma_data_dir=tmp_path))


@pytest.mark.parametrize("text", ["short", "zz" * 32, "abcd"])
def test_a_key_that_cannot_be_used_is_refused_and_not_shown(text: str, tmp_path: Path) -> None:
    settings = Settings(soma_command_key=(text,), soma_data_dir=tmp_path)
    with pytest.raises(BadKey) as refused:
        command_key.load(settings)
    assert text not in str(refused.value)
    assert text not in repr(settings)
