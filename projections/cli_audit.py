"""`soma audit verify` and `soma audit export`: the audit, from the log itself. Imports wait until a command runs."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from projections.cli import Json, checked_settings, explained, table


def verify(as_json: Json = False) -> None:
    """Prove that no decision on record is missing, changed or reordered; exit 1, and say where, if one is."""
    from projections.trail import Finding
    from projections.trail import verify as run

    settings = checked_settings()
    with explained():
        verified = run(settings)
    if as_json:
        typer.echo(json.dumps({"decisions": verified.decisions, "findings": [finding._asdict() for finding in verified.findings]}))
    else:
        if verified.findings:
            table(Finding._fields, [tuple(map(str, finding)) for finding in verified.findings])
        decisions, found = sum(verified.decisions.values()), len(verified.findings)
        typer.echo(f"{decisions} decisions of {len(verified.decisions)} tenants: {found or 'nothing'} wrong.")
    raise typer.Exit(1 if verified.findings else 0)


def export(
    tenant: Annotated[str | None, typer.Option(help="Only decisions about this tenant's requests.")] = None,
    output: Annotated[Path | None, typer.Option(dir_okay=False, help="The file to write; standard output without it.")] = None,
) -> None:
    """Write every decision on record as a line of JSON, in the order of the record."""
    from projections.audit import document
    from projections.trail import export as run

    settings = checked_settings()
    with explained(), output.open("w") if output else sys.stdout as out:
        for entry in run(settings, tenant):
            out.write(json.dumps({"tenant": entry.tenant, **document(entry)}, ensure_ascii=False) + "\n")
