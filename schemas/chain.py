"""Rule 2: every record of an events partition names its predecessor, as git commits do.

A reader takes a record only if it continues the chain read so far; any other is *void*, for every reader alike.
So a second writer, a repeated delivery, a forged and an altered record are one case.
"""

import hashlib

import msgspec
from msgspec import Struct

from schemas.types.common import Digest, EventMeta

VOID_LIMIT = 10_000
"""So many void records in a row mean that valid ones have stopped: the reader stops too, instead of passing them for ever."""

IN_DOUBT = "Install a release that reads it; if it is garbage, `soma events void` takes it out of the chain, on record."


class ChainBroken(Exception):
    """The rest of a partition does not continue what was read of it; says where, and what to do."""


def digest(value: bytes) -> Digest:
    """BLAKE2b (RFC 7693) with 128 bits of a record's whole value, framing included."""
    return hashlib.blake2b(value, digest_size=16).digest()


class Head(Struct, frozen=True):
    """How far a chain has been read: the last valid record, the place after the last one looked at, and the void ones.

    `doubt` is the offset of an unreadable record, until a valid one follows.
    """

    sequence: int = 0
    digest: Digest = bytes(16)
    versions: int = 0
    next_offset: int = 0
    void: int = 0
    void_in_a_row: int = 0
    doubt: int | None = None

    def take(self, meta: EventMeta, value: bytes, offset: int) -> tuple["Head", bool]:
        """The head after the record at `offset`, and whether that record is valid.

        Raises ChainBroken where a record leaves out versions of the running count, where valid records have stopped,
        and where a record builds on one that cannot be read.
        """
        if meta.sequence == self.sequence + 1 and meta.previous == self.digest:
            versions = self.versions + (meta.version is not None)
            if meta.versions != versions:
                raise ChainBroken(f"offset {offset}: the record counts {meta.versions} versioned events where the chain holds {versions}")
            return Head(meta.sequence, digest(value), versions, offset + 1, self.void), True
        if self.doubt == offset - 1 and meta.sequence == self.sequence + 2:
            raise ChainBroken(f"offset {self.doubt}: the record cannot be read, and offset {offset} builds on it. {IN_DOUBT}")
        if self.void_in_a_row >= VOID_LIMIT:
            raise ChainBroken(
                f"offset {offset}: {VOID_LIMIT} records in a row do not continue sequence {self.sequence}. "
                "Run `soma verify --chain` to see where the chain ends, and find out who else writes to this topic."
            )
        return self._void(offset), False

    @classmethod
    def after(cls, meta: EventMeta, value: bytes, offset: int) -> "Head":
        """A head that takes a record's word for what came before it: to begin in the middle, where its successors must bear it out."""
        return cls(meta.sequence, digest(value), meta.versions, offset + 1)

    def pass_unreadable(self, offset: int) -> "Head":
        """The head after a record that nobody can read (rule 9). It was void if the next one continues the chain without it;
        until then it is in doubt, and who has to write must stop.
        """
        return msgspec.structs.replace(self._void(offset), doubt=offset if self.doubt is None else self.doubt)

    def _void(self, offset: int) -> "Head":
        return Head(self.sequence, self.digest, self.versions, offset + 1, self.void + 1, self.void_in_a_row + 1)
