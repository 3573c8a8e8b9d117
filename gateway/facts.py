"""What the policies saw of a request, kept beside their decision, so that the same question can be put to other policies later.

Most of a question is in the record anyway (who, what, on what, from where); the rest of it are its facts. They are kept whole or not at
all.
"""

from typing import Any

import msgspec
from msgspec import Struct

from gateway.policy import Question
from projections.audit import Entry

MOST = 8 << 10
"""Bytes that are kept of them."""
TEXT = 256
SECRETS = "soma_"
"""Begins the secrets of API keys: one that was put into an address by mistake is not put on record."""
RECORDED = {"method", "path", "remote"}


class Facts(Struct, frozen=True, omit_defaults=True):
    """`own`: what the action itself adds to the request."""

    scopes: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    claims: dict[str, Any] = {}
    path: str = ""
    own: dict[str, Any] = {}


def recordable(text: str) -> str:
    """As much of it as goes on record."""
    return "(a secret)" if SECRETS in text else text[:TEXT]


def of(question: Question) -> str | None:
    """As JSON. None where the record would not hold what was asked, for its length or for what must not be in it."""
    who, request = question.principal, question.request
    own = {name: value for name, value in request.items() if name not in RECORDED}
    facts = Facts(tuple(sorted(who.scopes)), tuple(sorted(who.roles)), who.claims, str(request.get("path", "")), own)
    text = msgspec.json.encode(facts).decode()
    cut = any(recordable(each) != each for each in (who.actor, question.resource["id"] or ""))
    return None if cut or SECRETS in text or len(text.encode()) > MOST else text


def document(entry: Entry) -> dict[str, Any] | None:
    """The input document that the decision was made about, as `Question.document` gave it; None where the record does not hold it."""
    said = entry.decision
    if said.facts is None:
        return None
    facts = msgspec.json.decode(said.facts, type=Facts)
    who = {"tenant": entry.tenant, "actor": said.actor, "kind": said.kind}
    return {
        "principal": who | {"scopes": list(facts.scopes), "roles": list(facts.roles), "claims": facts.claims},
        "action": said.action,
        "resource": {"kind": said.resource, "id": said.resource_id, "tenant": entry.tenant},
        "request": {"method": said.method, "path": facts.path, "remote": said.remote} | facts.own,
    }
