"""The secret of an API key: how it is made, how it is written, and what is kept of it (decision 9).

    soma_<key>_<proof><check>      16, 32 and 7 characters of base32 (RFC 4648 §6), in lower case

`key` is the key's id, `proof` has 160 bits, and `check` is the CRC-32 of all before it: by it a scanner tells a secret from a text that
looks like one, and a gateway a typing error, without asking anybody.
"""

import base64
import hmac
import re
import zlib
from typing import NamedTuple

PREFIX = "soma_"
FORM = re.compile(r"soma_([a-z2-7]{16})_[a-z2-7]{32}([a-z2-7]{7})")
ID = r"^[a-z2-7]{16}$"


class Wish(NamedTuple):
    """Whose request makes a secret: `key` is its Idempotency-Key. The same wish makes the same secret, in any gateway, at any time."""

    tenant: str
    actor: str
    route: str
    key: str


class Pepper:
    """Makes and hashes secrets. Everything is HMAC-SHA-256 (RFC 2104) under the pepper, each use with a label of its own."""

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper
        self.name = self._mac("name").hex()[:16]

    def key(self, wish: Wish) -> str:
        """The id of the key that this wish issues."""
        return _base32(self._mac("key", *wish))[:16]

    def secret(self, key: str, wish: Wish) -> str:
        """The secret that this wish gives to the key. Nobody can tell it without both the pepper and the Idempotency-Key."""
        body = f"{PREFIX}{key}_{_base32(self._mac('secret', key, *wish)[:20])}"
        return body + _check(body)

    def hash(self, secret: str) -> bytes:
        """What is recorded of a secret: 32 bytes, from which it cannot be found, nor tried without the pepper."""
        return self._mac("hash", secret)

    def _mac(self, *parts: str) -> bytes:
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in (text.encode() for text in parts))
        return hmac.digest(self._pepper, framed, "sha256")


def key_of(credential: str) -> str | None:
    """The id of the key whose secret this could be; None for what is not written as one, or was mistyped."""
    match = FORM.fullmatch(credential)
    return match[1] if match and _check(credential[:-7]) == match[2] else None


def _check(text: str) -> str:
    return _base32(zlib.crc32(text.encode()).to_bytes(4, "big"))


def _base32(value: bytes) -> str:
    return base64.b32encode(value).decode().rstrip("=").lower()
