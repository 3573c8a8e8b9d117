"""What is shown of everything that tenants call by a name."""

from typing import Any

from commands.catalogue import Known
from projections.text import rfc3339

__all__ = ["Known", "standing"]


def standing(known: Known[Any, Any]) -> dict[str, Any]:
    """How it stands, ready for JSON."""
    return {
        "name": known.definition.name,
        "version": known.version,
        "status": "retired" if known.retired else "offered",
        "description": known.definition.description,
        "position": f"{known.position.partition}:{known.position.offset}",
        "created_at": rfc3339(known.created_at),
        "updated_at": rfc3339(known.updated_at),
    }
