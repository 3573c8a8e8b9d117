"""Whether today's schemas read everything that was ever written (BACKWARD_TRANSITIVE)."""

import json

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse

from schemas.contract import Schema, kept, subjects


def reads(reader: Schema, writer: Schema) -> str | None:
    """Why a reader with one schema cannot read what was written with the other; None when it can (Avro 1.12, schema resolution)."""
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(reader=parse(json.dumps(reader)), writer=parse(json.dumps(writer)))
    if result.compatibility is SchemaCompatibilityType.compatible:
        return None
    return f"{', '.join(sorted(result.messages))} at {', '.join(sorted(result.locations))}"


def broken() -> list[str]:
    """A line for each kept version that a schema of the contract cannot read."""
    return [
        f"{subject}: today's schema does not read version {path.stem}: {why}"
        for subject, schema in subjects().items()
        for path in kept(subject)
        if (why := reads(schema, json.loads(path.read_text())))
    ]
