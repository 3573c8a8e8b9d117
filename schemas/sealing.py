"""Text of people, models and tools, sealed: AES-256-GCM under a data key, which a tenant and one of its subjects have for themselves.

The markers of the contract say which fields are such text (`"sealed": true`), and which hold the digest of one beside them
(`"digest_of": "arguments"`): what is sealed follows them, and a Sealed tells of itself. A digest of sealed text is keyed too
(BLAKE2b with a key, RFC 7693 §2.9), so that whoever guesses a text cannot find out by its digest that the guess was right.
"""

import functools
import hmac
import secrets
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct
from msgspec.structs import replace

from schemas.contract import sources
from schemas.types.common import Digest, Sealed

KEY_BYTES = 32
NONCE_BYTES = 12
"""Random: a key seals at most 2**32 texts before two of them could meet (NIST SP 800-38D §8.3)."""
T = TypeVar("T")


class Unopenable(ValueError):
    """The ciphertext is none of this key and this place: altered, or moved here from elsewhere."""


class Key:
    """A data key at hand. Text and digests each have a key of their own, made from it."""

    def __init__(self, id: str, secret: bytes) -> None:
        self.id = id
        self._text = AESGCM(hmac.digest(secret, b"soma seal text 1", "sha256"))
        self._digests = hmac.digest(secret, b"soma seal digest 1", "sha256")

    def seal(self, data: bytes, about: str) -> bytes:
        """Nonce, ciphertext and tag: 28 bytes longer. `about` says what it belongs to, and is needed to open it."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._text.encrypt(nonce, data, self._place(about))

    def open(self, ciphertext: bytes, about: str) -> bytes:
        """Raises Unopenable."""
        try:
            return self._text.decrypt(ciphertext[:NONCE_BYTES], ciphertext[NONCE_BYTES:], self._place(about))
        except (InvalidTag, ValueError) as error:
            raise Unopenable(f"a ciphertext of {about} is none of key {self.id}") from error

    def digest(self, data: bytes) -> Digest:
        """Of the length of any other digest."""
        return blake2b(data, digest_size=16, key=self._digests).digest()

    def _place(self, about: str) -> bytes:
        return f"{self.id}\0{about}".encode()


class Marks(NamedTuple):
    """What the contract says of a record's fields: names of texts, and of digests with the text that each is of."""

    texts: frozenset[str]
    digests: tuple[tuple[str, str], ...]


@functools.cache
def marks(kind: type[Struct]) -> Marks:
    """Those of a generated type; of any other there are none."""
    schema = sources().get(f"{kind.__module__.replace('schemas.types', 'soma')}.{kind.__name__}", {})
    fields = schema.get("fields", [])
    digests = tuple((field["name"], field["digest_of"]) for field in fields if "digest_of" in field)
    return Marks(frozenset(field["name"] for field in fields if field.get("sealed")), digests)


def holds_text(record: Any) -> bool:
    """Whether a marked text is in it that is not sealed, also in the records within it."""
    if isinstance(record, tuple):
        return any(map(holds_text, record))
    if not isinstance(record, Struct) or isinstance(record, Sealed):
        return False
    texts = marks(type(record)).texts
    return any(isinstance(getattr(record, name), str) for name in texts) or any(map(holds_text, _fields(record)))


def sealed(record: T, key: Key, about: str) -> T:
    """With every marked text sealed, and every digest of one keyed, also in the records within it."""

    def within(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(within, value))
        return _changed(value, change(value)) if isinstance(value, Struct) and not isinstance(value, Sealed) else value

    def change(value: Struct) -> Callable[[str, Any], Any]:
        texts, digests = marks(type(value))
        of = {name: getattr(value, text) for name, text in digests}

        def one(name: str, old: Any) -> Any:
            if name in texts and isinstance(old, str):
                return Sealed(key_id=key.id, ciphertext=key.seal(old.encode(), about))
            return key.digest(text.encode()) if isinstance(text := of.get(name), str) else within(old)

        return one

    result: T = within(record)
    return result


def opened(value: T, open: Callable[[Sealed], str | Sealed]) -> T:
    """With every Sealed in it, however deep, replaced by what `open` makes of it."""

    def one(_: str, old: Any) -> Any:
        match old:
            case Sealed():
                return open(old)
            case tuple():
                return tuple(one("", each) for each in old)
            case Struct():
                return _changed(old, one)
            case _:
                return old

    result: T = one("", value)
    return result


def key_ids(value: Any) -> frozenset[str]:
    """The keys that something in it is sealed with."""
    return frozenset(_key_ids(value))


def _key_ids(value: Any) -> Iterator[str]:
    if isinstance(value, Sealed):
        yield value.key_id
    elif isinstance(value, tuple | Struct):
        for each in value if isinstance(value, tuple) else _fields(value):
            yield from _key_ids(each)


def _fields(record: Struct) -> Iterator[Any]:
    return (getattr(record, name) for name in record.__struct_fields__)


def _changed(record: Any, change: Callable[[str, Any], Any]) -> Any:
    """The record itself where nothing changes."""
    pairs = ((name, getattr(record, name)) for name in record.__struct_fields__)
    changes = {name: new for name, old in pairs if (new := change(name, old)) is not old}
    return replace(record, **changes) if changes else record
