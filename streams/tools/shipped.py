"""The tools that come with the platform: `clock`, `calculator` and `http_get`."""

import ast
import json
import math
import operator
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from schemas.types.tool import Definition, Http, Python
from streams.tools.template import ANYWHERE

MAX_EXPRESSION = 1_000
MAX_EXPONENT = 1_000
MAX_BITS = 13_000
"""Of a whole number, so that a power of a power ends: about 3,900 digits, which Python still writes out."""
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "round": round,
    "min": min,
    "max": max,
    "floor": math.floor,
    "ceil": math.ceil,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "log10": math.log10,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
}
_NODES = (ast.Expr, ast.Constant, ast.UnaryOp, ast.BinOp, ast.Name, ast.Call)


def shipped() -> tuple[Definition, ...]:
    """Their definitions, ready to be registered."""
    return (_clock(), _calculator(), _http_get())


def clock(arguments: dict[str, Any], *, call_id: str) -> str:
    """The time now as RFC 3339, in the zone that was asked for or in UTC."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    name = arguments.get("zone")
    try:
        return datetime.now(ZoneInfo(name) if name else UTC).isoformat(timespec="seconds")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name} is not the name of a time zone: names look like Europe/Berlin") from None


def calculator(arguments: dict[str, Any], *, call_id: str) -> int | float:
    """The value of the expression. Raises ValueError with what is wrong."""
    from simpleeval import InvalidExpression

    expression = str(arguments["expression"])
    if len(expression) > MAX_EXPRESSION:
        raise ValueError(f"the expression is longer than {MAX_EXPRESSION} characters")
    try:
        value = _evaluator().eval(expression)
    except (InvalidExpression, SyntaxError, ArithmeticError, TypeError, RecursionError) as error:
        raise ValueError(f"the expression cannot be calculated: {error}") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("the expression's value is not a real number")
    if not math.isfinite(value):
        raise ValueError("the expression's value is too large")
    return value


def _evaluator() -> Any:
    """Numbers, + - * / // % **, parentheses and a few functions: no names, texts, attributes or comparisons."""
    from simpleeval import SimpleEval

    operators = {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: _product,
        ast.Div: operator.truediv,
        ast.FloorDiv: operator.floordiv,
        ast.Mod: operator.mod,
        ast.Pow: _power,
        ast.USub: operator.neg,
        ast.UAdd: operator.pos,
    }
    evaluator = SimpleEval(operators=operators, functions=_FUNCTIONS, names={"pi": math.pi, "e": math.e})
    evaluator.nodes = {kind: way for kind, way in evaluator.nodes.items() if kind in _NODES}
    return evaluator


def _product(left: Any, right: Any) -> Any:
    if not all(isinstance(factor, int | float) for factor in (left, right)):
        raise TypeError("only numbers can be multiplied")
    return _bounded(left * right)


def _power(base: Any, exponent: Any) -> Any:
    if not all(isinstance(part, int | float) for part in (base, exponent)):
        raise TypeError("only numbers have powers")
    if abs(exponent) > MAX_EXPONENT:
        raise ValueError(f"the exponent is larger than {MAX_EXPONENT}")
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > MAX_BITS:
        raise ValueError("the power has too many digits")
    return base**exponent


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ValueError("the number has too many digits")
    return value


def _object(required: str | None = None, **properties: dict[str, Any]) -> str:
    return json.dumps(
        {"type": "object", "properties": properties, "required": [required] if required else [], "additionalProperties": False}
    )


def _clock() -> Definition:
    zone = {"type": "string", "maxLength": 64, "description": "An IANA time zone, as Europe/Berlin; UTC when absent."}
    return Definition(
        name="clock",
        description="The date and time now, as RFC 3339.",
        parameters=_object(zone=zone),
        result=json.dumps({"type": "string"}),
        python=Python(entry_point="clock"),
        repeat="safe",
        timeout_seconds=10,
        attempts=3,
        approval="never",
    )


def _calculator() -> Definition:
    said = "Numbers, + - * / // % **, parentheses, pi, e, and abs, round, min, max, floor, ceil, sqrt, exp, log, log10, sin, cos, tan."
    return Definition(
        name="calculator",
        description="Calculates the value of an arithmetic expression.",
        parameters=_object("expression", expression={"type": "string", "maxLength": MAX_EXPRESSION, "description": said}),
        result=json.dumps({"type": "number"}),
        python=Python(entry_point="calculator"),
        repeat="safe",
        timeout_seconds=10,
        attempts=3,
        approval="never",
    )


def _http_get() -> Definition:
    return Definition(
        name="http_get",
        description="Reads the text at an address. Only hosts that the operator listed can be reached.",
        parameters=_object("url", url={"type": "string", "maxLength": 2048, "description": "Begins with https:// or http://."}),
        http=Http(method="GET", url=ANYWHERE),
        repeat="safe",
        timeout_seconds=30,
        attempts=3,
        approval="never",
    )
