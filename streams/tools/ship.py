"""Registers the tools that are shipped, through the API as anybody would: `python -m streams.tools.ship http://127.0.0.1:8010`.

`soma up` does so at each start, so that a first run has tools. One that is there stays as it is, whoever defined or retired it.
"""

import json
import os
import sys
from typing import Any

import httpx
import msgspec

from schemas.types.tool import Definition
from streams.tools.shipped import shipped

SECONDS = 20.0


def ship(url: str) -> list[str]:
    """The names of those that were registered now, for the tenant of SOMA_TOKEN where callers sign in. Raises httpx.HTTPError."""
    registered = []
    token = os.environ.get("SOMA_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=url, headers=headers, timeout=SECONDS) as client:
        for definition in shipped():
            found = client.get(f"/v1/tools/{definition.name}")
            if found.status_code == httpx.codes.NOT_FOUND:
                client.post("/v1/tools", json=body(definition)).raise_for_status()
                registered.append(definition.name)
            else:
                found.raise_for_status()
    return registered


def body(definition: Definition) -> dict[str, Any]:
    """What POST /v1/tools takes: schemas as JSON, and nothing that is not given."""
    plain: dict[str, Any] = {name: value for name, value in msgspec.to_builtins(definition).items() if value is not None}
    return plain | {name: json.loads(plain[name]) for name in ("parameters", "result", "approval_when") if name in plain}


if __name__ == "__main__":
    print(*ship(sys.argv[1]))
