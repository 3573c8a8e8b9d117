"""The API describes itself, wholly."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from gateway import document, problems
from gateway.app import create_app
from gateway.v1 import (
    access_shapes,
    agent_shapes,
    audit_shapes,
    budget_shapes,
    call_shapes,
    named_shapes,
    openai_shapes,
    policy_shapes,
    relation_shapes,
    shapes,
    tool_shapes,
    usage_shapes,
)
from gateway.versions import Deprecation, include
from ops.settings import Settings

SHAPES = (
    shapes,
    named_shapes,
    tool_shapes,
    agent_shapes,
    call_shapes,
    openai_shapes,
    relation_shapes,
    access_shapes,
    audit_shapes,
    budget_shapes,
    policy_shapes,
    relation_shapes,
    usage_shapes,
)
BODIES = ("NewSession", "NewMessage", "Cancellation", "NewTool", "Http", "Mcp", "Python", "NewAgent", "NewCompletion", "NewResponse")
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def operations(description: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, item in description["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def test_every_operation_has_a_summary_a_description_and_a_tag(description: dict[str, Any]) -> None:
    assert [name for name, operation in operations(description) if not all(map(operation.get, ("summary", "description", "tags")))] == []


def test_every_answer_has_an_example(description: dict[str, Any]) -> None:
    without = [
        f"{name} {status} {media_type}"
        for name, operation in operations(description)
        for status, answer in operation["responses"].items()
        for media_type, content in answer.get("content", {}).items()
        if not content.get("example") and not content.get("examples")
    ]
    assert without == []


def test_every_parameter_is_described_and_every_field_of_a_body_has_an_example(description: dict[str, Any]) -> None:
    parameters = [parameter for _, operation in operations(description) for parameter in operation.get("parameters", [])]
    assert [parameter["name"] for parameter in parameters if not parameter.get("description")] == []
    for name in (
        "NewSession",
        "Fork",
        "Execution",
        "NewMessage",
        "Cancellation",
        "NewTool",
        "NewAgent",
        "NewCompletion",
        "NewResponse",
        "Http",
        "Mcp",
        "Python",
        "NewKey",
        "Rotation",
        "NewPolicy",
        "Activating",
    ):
        for field, schema in description["components"]["schemas"][name]["properties"].items():
            assert schema.get("examples") and schema.get("description"), f"{name}.{field}"


def test_every_error_is_a_problem_document_and_every_write_can_meet_the_common_ones(description: dict[str, Any]) -> None:
    for name, operation in operations(description):
        errors = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        for status, answer in errors.items():
            if not (name.endswith("health") and status == "503"):
                openai = ["application/json"] if operation["tags"] == ["openai"] else []
                # who is kept out before the route is looked for meets our form of it there too
                assert list(answer["content"]) in (openai or [problems.MEDIA_TYPE], [*openai, problems.MEDIA_TYPE]), f"{name} {status}"
        if name.startswith(("POST", "PUT", "DELETE")):
            assert errors.keys() >= {"400", "413", "415", "422", "429", "500", "503"}, name
        if "{session_id}" in name or "{name}" in name or "{id}" in name:
            assert "404" in errors, name


def test_every_kind_of_problem_is_described_somewhere(description: dict[str, Any]) -> None:
    described = {
        code
        for _, operation in operations(description)
        for answer in operation["responses"].values()
        for content in answer.get("content", {}).values()
        for code in content.get("examples", {})
    }
    never = {problems.MethodNotAllowed.code}
    assert {kind.code for kind in problems.kinds()} - described == never


def test_examples_are_what_their_schemas_say(description: dict[str, Any]) -> None:
    for _, operation in operations(description):
        for answer in operation["responses"].values():
            if (content := answer.get("content", {}).get("application/json")) and "example" in content:
                name = content["schema"]["$ref"].rpartition("/")[2]
                model = next(getattr(module, name) for module in SHAPES if hasattr(module, name))
                assert model.model_validate(content["example"]).model_dump(mode="json").keys() == content["example"].keys()


def test_the_page_about_the_api_is_up_to_date_and_tells_of_every_operation(description: dict[str, Any]) -> None:
    page = document.generate()
    assert document.PAGE.read_text() == page, "run `soma schemas generate`"
    assert [name for name, _ in operations(description) if name not in page] == []


OLD = Deprecation(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC), "https://docs.example/moving-to-v2")


def sample(prefix: str) -> APIRouter:
    router = APIRouter(prefix=prefix)

    @router.get("/thing")
    async def thing() -> str:
        return prefix

    return router


@pytest.fixture
def two_versions() -> FastAPI:
    app = FastAPI()
    include(app, sample("/v1"), OLD)
    include(app, sample("/v2"))
    return app


async def test_a_deprecated_version_says_so_in_every_answer(two_versions: FastAPI) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(two_versions), base_url="http://test") as client:
        old = [await client.get("/v1/thing"), await client.get("/v1/nothing")]
        new = [await client.get("/v2/thing"), await client.get("/v2/nothing"), await client.get("/v10/thing")]
    for answer in old:
        assert answer.headers["deprecation"] == "@1767225600"
        assert answer.headers["sunset"] == "Fri, 01 Jan 2027 00:00:00 GMT"
        assert answer.headers["link"] == '<https://docs.example/moving-to-v2>; rel="deprecation"; type="text/html"'
    assert [name for answer in new for name in ("deprecation", "sunset", "link") if name in answer.headers] == []


def test_a_deprecated_version_is_marked_in_the_description(two_versions: FastAPI) -> None:
    paths = two_versions.openapi()["paths"]
    assert paths["/v1/thing"]["get"]["deprecated"] is True
    assert "deprecated" not in paths["/v2/thing"]["get"]
