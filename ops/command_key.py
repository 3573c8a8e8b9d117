"""Where the keys come from that commands are signed and proved with: SOMA_COMMAND_KEY, else a file in the data directory."""

from pathlib import Path

from ops.own_file import make_secret, secret_in
from ops.settings import Settings
from schemas.signing import MIN_KEY_BYTES, Keys

FILE = "command.key"


class BadKey(ValueError):
    """A key that cannot be used. Says where it stands, and nothing of it."""


def load(settings: Settings) -> Keys:
    """The keys, of which there are none where neither place has one: then commands are not signed. Raises BadKey."""
    if settings.soma_command_key:
        return _keys("SOMA_COMMAND_KEY", settings.soma_command_key)
    path = settings.soma_data_dir / FILE
    try:
        text = secret_in(path)
    except ValueError as error:
        raise BadKey(str(error)) from error
    return Keys() if text is None else _keys(str(path), text.split())


def make(data_dir: Path) -> None:
    """A key of this data directory's own, where it has none yet: readable by its owner alone."""
    make_secret(data_dir / FILE)


def _keys(where: str, texts: list[str] | tuple[str, ...]) -> Keys:
    try:
        return Keys([bytes.fromhex(text) for text in texts])
    except ValueError:  # its text may show the key
        raise BadKey(f"{where}: a key is at least {2 * MIN_KEY_BYTES} hexadecimal digits, as `openssl rand -hex 32` writes them.") from None
