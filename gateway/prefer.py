"""What a caller would rather have (RFC 7240): how long to wait, and whether an older state will do."""

import re
from collections.abc import Iterable
from typing import NamedTuple

_PREFERENCE = re.compile(r"""\s*([!#$%&'*+.^_`|~\w-]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?[^,]*(?:,|$)""", re.ASCII)


class Prefer(NamedTuple):
    """`wait` is in seconds; None where the caller left it to the server."""

    wait: int | None = None
    respond_async: bool = False
    lenient: bool = False

    def seconds(self, limit: float) -> float:
        """How long to wait: what was asked for, at most `limit`. Asynchronous without a time means not at all."""
        if self.wait is not None:
            return min(self.wait, limit)
        return 0 if self.respond_async else limit

    def applied(self) -> dict[str, str]:
        """The header that says which preferences were honoured (§3)."""
        honoured = ["respond-async"] if self.respond_async else []
        honoured += [f"wait={self.wait}"] if self.wait is not None else []
        honoured += ["handling=lenient"] if self.lenient else []
        return {"Preference-Applied": ", ".join(honoured)} if honoured else {}


def parse(headers: Iterable[str]) -> Prefer:
    """The preferences of all Prefer headers. As §2 asks, the first of a name counts, and unknown or unusable ones are passed over."""
    found: dict[str, str] = {}
    for match in _PREFERENCE.finditer(", ".join(headers)):
        found.setdefault(match[1].lower(), match[2] or match[3] or "")
    wait = found.get("wait", "")
    return Prefer(
        wait=int(wait) if re.fullmatch(r"[0-9]{1,9}", wait) else None,
        respond_async="respond-async" in found,
        lenient=found.get("handling", "").lower() == "lenient",
    )
