"""What a row of `positions` holds: how far one events partition is applied, and by which code."""

from projections.noun import Row
from projections.nouns import NOUNS
from projections.reading import Chain, Progress
from schemas.chain import Head


def row(chain: Chain, progress: Progress) -> Row:
    """The row that this release writes."""
    head = progress.head
    return {
        "topic": chain.topic,
        "partition": chain.partition,
        "next_offset": head.next_offset,
        "sequence": head.sequence,
        "digest": head.digest,
        "versions": head.versions,
        "void": head.void,
        "void_in_a_row": head.void_in_a_row,
        "epoch": progress.epoch,
        "command_offset": progress.command_offset,
        "fold": NOUNS[chain.topic].fingerprint,
    }


def chain(row: Row) -> Chain:
    """The partition that a row is about."""
    return Chain(row["topic"], row["partition"])


def progress(row: Row) -> Progress:
    """How far it says that is."""
    head = Head(
        sequence=row["sequence"],
        digest=row["digest"],
        versions=row["versions"],
        next_offset=row["next_offset"],
        void=row["void"],
        void_in_a_row=row["void_in_a_row"],
    )
    return Progress(head, row["epoch"], row["command_offset"])


def ours(row: Row) -> bool:
    """Whether this release's code made the rows of that partition."""
    return bool(row["fold"] == NOUNS[row["topic"]].fingerprint)
