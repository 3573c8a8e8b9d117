"""How times and texts are written, in documents and in rows."""

from datetime import UTC, datetime


def rfc3339(time: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def storable(text: str) -> str:
    """PostgreSQL's text cannot hold NUL: one from outside must not stop the projector."""
    return text.replace("\x00", "\ufffd")


def subject(actor: str) -> str:
    """How relations name whom records call so: `user:ada`, and `key:…` for a key, whose name begins with that."""
    return actor if actor.startswith("key:") else f"user:{actor}"
