"""docs/SomaAgent01_API.md: the API's description for people, written from the one for programs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway import problems
from gateway.app import create_app
from gateway.openapi import ABOUT
from ops.settings import Settings

PAGE = Path(__file__).parent.parent / "docs" / "SomaAgent01_API.md"
HEADER = """\
<!-- Generated from the routes by `soma schemas generate`: change gateway/v1/ instead of this page. -->
# SomaAgentHub's API

{description}

The same for programs is at `/openapi.json`, and at `/docs` to try it out. `docs/versioning.md` says how long a version stays.
"""


def generate() -> str:
    """The page. The same routes always give the same text."""
    description = create_app(Settings.model_construct()).openapi()
    operations = [
        (f"{method.upper()} {path}", operation) for path, item in description["paths"].items() for method, operation in item.items()
    ]
    parts = [HEADER.format(description=description["info"]["description"])]
    for tag in ABOUT["openapi_tags"]:
        parts.append(f"## {tag['name'].capitalize()}\n\n{tag['description']}\n")
        parts += [_operation(name, operation) for name, operation in operations if operation["tags"] == [tag["name"]]]
    parts.append(_problems())
    parts.append("## Shapes\n")
    schemas = description["components"]["schemas"]
    parts += [_schema(name, schema) for name, schema in sorted(schemas.items()) if "properties" in schema]
    return "\n".join(parts)


def stale() -> list[str]:
    """The page's path, where it differs from what the routes say."""
    return [] if PAGE.exists() and PAGE.read_text() == generate() else [f"docs/{PAGE.name}"]


def write() -> None:
    """Bring the page up to date."""
    PAGE.write_text(generate())


def _operation(name: str, operation: dict[str, Any]) -> str:
    lines = [f"### `{name}`", "", f"**{operation['summary']}.** {operation['description']}", ""]
    if parameters := operation.get("parameters"):
        lines += _table(("parameter", "in", "what it says"), ((f"`{p['name']}`", p["in"], p.get("description", "")) for p in parameters))
    if body := operation.get("requestBody"):
        lines += [f"Body: {_type(body['content']['application/json']['schema'])}", ""]
        lines += _example("application/json", body["content"]["application/json"].get("example"))
    responses = operation["responses"].items()
    lines += _table(("answer", "when", "content"), ((status, answer["description"], _content(answer)) for status, answer in responses))
    for answer in (answer for status, answer in responses if status < "300"):
        for media_type, content in answer.get("content", {}).items():
            lines += _example(media_type, content.get("example"))
    return "\n".join(lines)


def _content(answer: dict[str, Any]) -> str:
    said = list[str]()
    for media_type, content in answer.get("content", {}).items():
        codes = [f"`{code}`" for code in content.get("examples", {})]
        said += codes or [_type(content["schema"]) if media_type == "application/json" else f"`{media_type}`"]
    return ", ".join(dict.fromkeys(said))  # a code can come in two shapes


def _example(media_type: str, example: Any) -> list[str]:
    if isinstance(example, str):
        return ["```text", example.rstrip(), "```", ""]
    return ["```json", json.dumps(example, indent=2), "```", ""] if example and "json" in media_type else []


def _problems() -> str:
    rows = ((f"`{kind.code}`", str(kind.status), kind.title, kind.advice) for kind in problems.kinds())
    return "\n".join(_table(("code", "status", "what it means", "what to do"), rows))


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = (
        (f"`{field}`" + ("" if field in required else " (optional)"), _type(about), about.get("description", ""))
        for field, about in schema["properties"].items()
    )
    described = " ".join(schema.get("description", "").split())
    return "\n".join([f"### {name}", "", described, "", *_table(("field", "type", "what it says"), rows)])


def _type(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if ref := schema.get("$ref"):
        name = ref.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if union := schema.get("anyOf"):
        return " or ".join(_type(branch) for branch in union)
    if values := schema.get("enum"):
        return " or ".join(f"`{value}`" for value in values)
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type", "anything"))


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> list[str]:
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return [_row(head), _row(["---"] * len(head)), *map(_row, cells), ""]


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"
