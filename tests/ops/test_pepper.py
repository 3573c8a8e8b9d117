"""The server's own secret: made once, for its owner's eyes."""

from pathlib import Path

import pytest

from ops import pepper
from ops.settings import Settings


def test_it_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    settings = Settings(soma_data_dir=tmp_path)
    assert pepper.load(settings) is None
    pepper.make(tmp_path)
    made = pepper.load(settings)
    pepper.make(tmp_path)
    assert made
    assert len(made) == 64
    assert pepper.load(settings) == made
    assert (tmp_path / pepper.FILE).stat().st_mode & 0o777 == 0o600


def test_the_variable_comes_before_the_file(tmp_path: Path) -> None:
    pepper.make(tmp_path)
    assert pepper.load(Settings(soma_data_dir=tmp_path, soma_keys_pepper="x" * 32)) == b"x" * 32


def test_one_that_others_can_read_or_guess_is_refused_and_not_repeated(tmp_path: Path) -> None:
    pepper.make(tmp_path)
    (tmp_path / pepper.FILE).chmod(0o640)
    with pytest.raises(ValueError, match="can be read by others"):
        pepper.load(Settings(soma_data_dir=tmp_path))
    with pytest.raises(ValueError, match="fewer than 32 bytes") as error:
        pepper.load(Settings(soma_keys_pepper="correct horse"))
    assert "correct horse" not in str(error.value)


def test_settings_do_not_show_it() -> None:
    assert "x" * 32 not in repr(Settings(soma_keys_pepper="x" * 32))
