"""The API's description (OpenAPI 3.1): what FastAPI cannot know of it."""

import json
from typing import Any

from fastapi import FastAPI

from gateway.auth import is_public

PROBLEM = {
    "title": "Problem",
    "description": "RFC 9457. `code` is for programs, `detail` and `advice` are for people. Some kinds add members.",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "advice"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "Explains the kind, on this server."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable name of the kind."},
        "detail": {"type": "string", "description": "What happened this time."},
        "advice": {"type": "string", "description": "What to do next."},
        "errors": {
            "type": "array",
            "description": "For `invalid`: the fields.",
            "items": {"type": "object", "properties": {"field": {"type": "string"}, "problem": {"type": "string"}}},
        },
        "session": {
            "description": "For what a session refused: the state that it is in.",
            "anyOf": [{"$ref": "#/components/schemas/Overview"}, {"type": "null"}],
        },
        "decision": {
            "type": "object",
            "description": "For `forbidden`: which decision it was.",
            "properties": {name: {"type": "string"} for name in ("id", "action", "rule", "version")},
        },
        "refusal": {"type": "string", "description": "The recorded reason of a refusal."},
        "outcome": {"type": "string", "description": "For `outcome_unknown`: `unknown`."},
        "idempotency_key": {"type": "string", "description": "For `outcome_unknown`: the key to retry with."},
        "session_id": {"type": "string", "description": "For `outcome_unknown`: the session, if it comes to be."},
    },
}
SIGN_IN = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "RFC 6750: a token of the identity provider, or one signed with the gateway's secret (docs/security.md).",
    }
}
ABOUT: dict[str, Any] = {
    "title": "SomaAgentHub",
    "summary": "Sessions with models, on a log that can be replayed, audited and proved.",
    "description": (
        "Every change is a command on a Kafka log, and everything that is shown comes from the events that followed. "
        "A write answers with its position; a read with that position holds at least what the write did. "
        "Every POST takes an `Idempotency-Key`. Problems are documents by RFC 9457 that say what to do next."
    ),
    "version": "1.0.0",
    "openapi_tags": [
        {"name": "sessions", "description": "A session is a conversation with a model."},
        {"name": "tools", "description": "What models may call. A session keeps to the version that it began with."},
        {"name": "tool calls", "description": "The ledger: what was asked for, allowed by whom, run how often, ended how."},
        {"name": "audit", "description": "What the gate decided, about whom and why."},
        {"name": "agents", "description": "Terms under a name, that sessions begin with."},
        {"name": "openai", "description": "For clients of OpenAI's API: the same sessions behind its routes."},
        {"name": "keys", "description": "By which programs sign in. A secret is shown once."},
        {"name": "budget", "description": "What all sessions of a tenant may use."},
        {"name": "relations", "description": "Who may see and change what is another's."},
        {"name": "policies", "description": "What decides who may do what: versions, tried on what was decided, activated."},
        {"name": "usage", "description": "What a tenant used, and what it cost."},
        {"name": "models", "description": "What sessions can be started with."},
        {"name": "health", "description": "For those who operate the platform."},
        {"name": "problems", "description": "What can go wrong."},
    ],
}


def complete(app: FastAPI) -> None:
    """Add the problem document, to which every route refers."""
    describe = app.openapi

    def described() -> dict[str, Any]:
        document = describe()
        document["components"]["schemas"]["Problem"] = PROBLEM
        document["components"]["securitySchemes"] = SIGN_IN
        _gate(document["paths"])
        _unpack(document["paths"])
        for path in document["paths"].values():
            for operation in path.values():
                _without_default(operation["responses"])
        for body in _bodies(document):
            body["example"] = _example(document, body["schema"])
        return document

    app.openapi = described  # type: ignore[method-assign]


def _gate(paths: dict[str, Any]) -> None:
    """Say which operations need a credential: all but those that everybody may use."""
    for path, item in paths.items():
        for method, operation in item.items():
            operation["security"] = [] if is_public(method.upper(), path.replace("{code}", "busy")) else [{"bearer": []}]


def _without_default(responses: dict[str, Any]) -> None:
    """FastAPI adds an answer 422 of its own to what takes parameters: nothing here ever gives that one."""
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]


def _bodies(document: dict[str, Any]) -> list[dict[str, Any]]:
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    return [operation["requestBody"]["content"]["application/json"] for operation in operations if "requestBody" in operation]


def _example(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A body made of the examples of its fields."""
    name = schema.get("$ref") or next(branch["$ref"] for branch in schema["anyOf"] if "$ref" in branch)
    fields = document["components"]["schemas"][name.rpartition("/")[2]].get("properties", {})
    return {field: about["examples"][0] for field, about in fields.items()}


def _unpack(node: Any) -> None:
    """Put examples that are JSON as text in their place as JSON."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key == "example" and isinstance(value, str) and value.startswith("{"):
            node[key] = json.loads(value)
        elif isinstance(value, dict | list):
            _unpack(value)
