"""Proofs of commands: who does not hold a key of the platform cannot make one, alter one, or send one elsewhere (HMAC, RFC 2104).

A proof lies in the command (`meta.proof`) and is made over all the bytes around it, as they lie in the log, and the topic's name. So
nothing in a command can be another, whatever schema it was written with, and nobody has to agree on a second, canonical form.
"""

import hmac
import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from schemas.codec import Codec

KEY_ID_BYTES = 8
PROOF_BYTES = KEY_ID_BYTES + sha256().digest_size
"""A proof: which key it was made with, then HMAC-SHA-256."""
MIN_KEY_BYTES = 32
_ABOUT = b"soma command 1"


class Keys:
    """The first of them signs, and each is accepted. Without any nothing is signed, and no proof is asked for."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        """Raises ValueError for a key of less than 32 bytes."""
        if any(len(key) < MIN_KEY_BYTES for key in keys):
            raise ValueError(f"a key has at least {MIN_KEY_BYTES} bytes")
        self._keys = {_key_id(key): key for key in keys}

    def __len__(self) -> int:
        return len(self._keys)

    def sign(self, topic: str, codec: Codec[Any], command: Any) -> bytes:
        """The value of a command's record, with its proof."""
        if not self._keys:
            return codec.encode(command)
        place = secrets.token_bytes(PROOF_BYTES)  # nothing else in the command is these bytes, so its place is where they are
        before, _, after = codec.encode(replace(command, meta=replace(command.meta, proof=place))).partition(place)
        id, key = next(iter(self._keys.items()))
        return b"".join((before, id, _mac(key, topic, before, after), after))

    def prove(self, topic: str, command: Any, value: bytes) -> bool:
        """Whether this value, which was read as this command, was signed for this topic."""
        if not self._keys:
            return True
        proof: bytes = command.meta.proof or b""
        key = self._keys.get(proof[:KEY_ID_BYTES])
        if key is None or len(proof) != PROOF_BYTES:
            return False
        before, _, after = value.partition(proof)
        return hmac.compare_digest(proof[KEY_ID_BYTES:], _mac(key, topic, before, after))


def _key_id(key: bytes) -> bytes:
    """Tells keys apart, and nothing about them."""
    return hmac.digest(key, b"soma key id", "sha256")[:KEY_ID_BYTES]


def _mac(key: bytes, topic: str, before: bytes, after: bytes) -> bytes:
    """Each part is preceded by its length, so that no byte can move from one into the next."""
    parts = (_ABOUT, topic.encode(), before, after)
    return hmac.digest(key, b"".join(len(part).to_bytes(4, "big") + part for part in parts), "sha256")
