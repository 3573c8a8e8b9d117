"""What can go wrong for a caller, drawn once. Each is answered as a problem document (RFC 9457) that says what to do next.

Problem
├── Malformed             400  bytes, a position or a cursor that cannot be read
├── Unauthenticated       401  no credential, or one that proves nothing
├── Exceeds               403  a key that would give more than it has
├── Forbidden             403  the policies do not allow it, or a relation is lacking; `decision` names the one that was made
├── NotFound              404  no such session, tool, model or route; no such past of a session
├── MethodNotAllowed      405
├── Conflict                   refused by the session, whose state is in the document:
│   ├── Busy              409  the model has not answered yet
│   ├── Ended             409  the session is over
│   ├── Full              409  no room for another message
│   ├── OverBudget        409  the session's limits allow for no more
│   ├── Exists            409  the id is taken
│   ├── VersionConflict   409  it is not at the version of If-Match
│   └── Declined          409  any other refusal, also by a tool
├── SubjectErased         410  the key of the session's text was destroyed
├── NotEnabled            409  a part of the platform that is switched off
├── TooSlow               408  the body did not come in time
├── TooLarge              413  the body, or what it leads to
├── NotJson               415
├── Invalid               422  well-formed, but not what the route takes; `errors` lists the fields
├── UnknownModel          422
├── UnknownTool           422
├── UnknownAgent          422
├── KeyReused             422  the Idempotency-Key was used with another body
├── TooMany               429  too many writes wait in this gateway, of all or of one tenant, or too many of its sessions are at work
├── RateLimited           429  too many requests of a caller or a tenant within a minute, or failed sign-ins of an address
├── TooManyCommands       429  too many commands for one session or tool
├── NoReply               502  the turn ended without the model's answer
├── Rewritten             502  a reply differs from what was streamed of it
├── Unfinished            504  the turn takes longer than a caller is kept waiting
├── Internal              500  a defect here
└── Unavailable
    ├── NothingSent       503  Kafka is down or the gateway is starting: nothing was sent
    ├── CannotVerify      503  the keys that credentials are checked with cannot be had, or were perhaps revoked
    ├── PolicyDown        503  the policies cannot be asked: nothing was sent
    ├── RelationsDown     503  relations cannot be asked about: nothing was sent
    ├── AuditFull         503  Kafka is down for so long that decisions find no room here any more
    ├── OutcomeUnknown    503  sent, but not acknowledged in time: retry with the key it names (rule 12)
    ├── SealDown          503  the keys of sealed text cannot be had: nothing was sent, and text cannot be shown
    ├── ReadModelDown     503  reads have to wait, writes go on
    ├── ArtifactsDown     503  the artifact store fails: results that lie there have to wait
    └── NotYet            503  the read model has not come as far as asked
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from fastapi.responses import Response

MEDIA_TYPE = "application/problem+json"
_UNQUOTABLE = re.compile(r'[^\x20-\x7e]|["\\]')


class Problem(Exception):
    """`members` are added to the document, `headers` to the answer."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = ""
    title: ClassVar[str] = ""
    advice: ClassVar[str] = ""

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.detail, self.headers, self.members = detail, dict(headers or {}), members

    def document(self) -> dict[str, Any]:
        """RFC 9457 §3: `type` is an address of this server that explains the kind, `advice` says what to do next."""
        kind = {"type": f"/problems/{self.code}", "title": self.title, "status": self.status, "code": self.code}
        return {**kind, "detail": self.detail, "advice": self.advice, **self.members}

    def response(self) -> Response:
        return Response(msgspec.json.encode(self.document()), self.status, self.headers, MEDIA_TYPE)


class Malformed(Problem):
    status, code, title = 400, "malformed", "The request cannot be read"
    advice = "Correct what `detail` names and send it again."


class Unauthenticated(Problem):
    """RFC 6750 §3: the answer says by which scheme to sign in; `error` is left out where nobody tried to."""

    status, code, title = 401, "unauthenticated", "It is not known who asks"
    advice = "Send `Authorization: Bearer` with a token that is valid here."

    def __init__(self, detail: str, *, error: str | None = "invalid_token") -> None:
        super().__init__(detail, {"WWW-Authenticate": challenge(error, detail)})


class Exceeds(Problem):
    status, code, title = 403, "exceeds", "A key cannot give more than it has"
    advice = "Ask for fewer scopes or an earlier end, or sign in as somebody who may do more."


class Forbidden(Problem):
    status, code, title = 403, "forbidden", "The policies do not allow it"
    advice = "Ask whoever keeps the policies, and name the decision: `decision.id`."


class NotFound(Problem):
    status, code, title = 404, "not_found", "There is nothing here"
    advice = "Check the address and the id. After an asynchronous write, read with its `position`."


class MethodNotAllowed(Problem):
    status, code, title = 405, "method_not_allowed", "This address does not take this method"
    advice = "Use a method that the header Allow names."


class Conflict(Problem):
    status, advice = 409, "Look at `session` for the state it is in."


class Busy(Conflict):
    code, title = "busy", "The model has not answered yet"
    advice = "Wait for the reply (follow the session's events), or cancel the session."


class Ended(Conflict):
    code, title = "ended", "The session has ended"
    advice = "Start a new session."


class Full(Conflict):
    code, title = "full", "The session holds as many messages as it can"
    advice = "Start a new session."


class OverBudget(Conflict):
    code, title = "budget", "The session has used up what it may use"
    advice = "Start a new session, with larger `limits`."


class Exists(Conflict):
    code, title = "exists", "A session with this id was started before"
    advice = "Send another Idempotency-Key, or none."


class VersionConflict(Conflict):
    code, title = "version_conflict", "The session is not at the expected version"
    advice = "Read the session and decide again, with its ETag in If-Match."


class Declined(Conflict):
    code, title = "declined", "The command was refused"
    advice = "Read what it was sent to, and decide again."


class SubjectErased(Problem):
    status, code, title = 410, "erased", "What was said in the session is erased"
    advice = "Start a new session. This one can be read without its text, and cancelled without a reason."


class NotEnabled(Problem):
    status, code, title = 409, "not_enabled", "This part of the platform is switched off"
    advice = "Ask whoever runs the platform to switch on the setting that `detail` names, for its gateways."


class TooSlow(Problem):
    status, code, title = 408, "too_slow", "The body did not come in time"
    advice = "Send it again, in one go: nothing was done."


class TooLarge(Problem):
    status, code, title = 413, "too_large", "The request is too large"
    advice = "Send less."


class NotJson(Problem):
    status, code, title = 415, "not_json", "The body is not declared as JSON"
    advice = "Send `Content-Type: application/json`."


class Invalid(Problem):
    status, code, title = 422, "invalid", "The request is not what this route takes"
    advice = "Correct what `detail` names, or the fields that `errors` lists."


class UnknownTool(Problem):
    status, code, title = 422, "unknown_tool", "There is no tool of this name"
    advice = "Choose one that GET /v1/tools lists."


class UnknownModel(Problem):
    status, code, title = 422, "unknown_model", "There is no model of this name"
    advice = "Choose one that GET /v1/models lists."


class UnknownAgent(Problem):
    status, code, title = 422, "unknown_agent", "There is no agent of this name"
    advice = "Choose one that GET /v1/agents lists."


class KeyReused(Problem):
    status, code, title = 422, "key_reused", "The Idempotency-Key was used with another body"
    advice = "Use a new key for a new request; repeat a request with its key and its body unchanged."


class TooMany(Problem):
    status, code, title = 429, "too_many_requests", "Too much at once"
    advice = "Send it again after the time that Retry-After names: nothing was sent."


class RateLimited(Problem):
    status, code, title = 429, "rate_limited", "Too many requests"
    advice = "Send it again after the time that Retry-After names; the headers RateLimit and RateLimit-Policy say what is left."


class TooManyCommands(Problem):
    status, code, title = 429, "too_many_commands", "It took too many commands within 24 hours"
    advice = "Wait; a conversation can go on in a new session."


class NoReply(Problem):
    status, code, title = 502, "no_reply", "The turn ended without an answer"
    advice = "Read the session that `session_id` names for what happened; another request begins a new turn."


class Rewritten(Problem):
    status, code, title = 502, "rewritten", "The reply differs from what was streamed of it"
    advice = "Read the session that `session_id` names: its record has the reply that counts."


class Unfinished(Problem):
    status, code, title = 504, "unfinished", "The turn is not over yet"
    advice = "It goes on: follow the session that `session_id` names, or send the request again with the same Idempotency-Key."


class Internal(Problem):
    status, code, title = 500, "internal", "A defect in the gateway"
    advice = "Retry with the same Idempotency-Key; if it stays, report it with the time of the request."


class Unavailable(Problem):
    status, advice = 503, "Send it again after the time that Retry-After names."

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail, {"Retry-After": "1", **(headers or {})}, **members)


class NothingSent(Unavailable):
    code, title = "unavailable", "The platform cannot take it now: nothing was sent"


class CannotVerify(Unavailable):
    code, title = "cannot_verify", "Nobody can sign in now"


class PolicyDown(Unavailable):
    code, title = "policy_down", "The policies cannot be asked: nothing was sent"


class RelationsDown(Unavailable):
    code, title = "relations_down", "Relations cannot be asked about: nothing was sent"


class AuditFull(Unavailable):
    code, title = "audit_full", "Decisions cannot be put on record: nobody is let in"


class OutcomeUnknown(Unavailable):
    code, title = "outcome_unknown", "It was sent, and the outcome is unknown"
    advice = "Send the same request with the Idempotency-Key that `idempotency_key` names: it is done once, and you get its outcome."


class SealDown(Unavailable):
    code, title = "seal_down", "Sealed text can be neither written nor read now: nothing was sent"


class ReadModelDown(Unavailable):
    code, title = "read_model_down", "The read model does not answer"


class ArtifactsDown(Unavailable):
    code, title = "artifacts_down", "The artifact store does not answer"
    advice = "Send it again after the time that Retry-After names; what the model was shown of the result is in the call."


class NotYet(Unavailable):
    code, title = "not_yet", "The read model has not come that far"
    advice = "Send it again after the time that Retry-After names, or with `Prefer: handling=lenient` for the state there is."


def challenge(error: str | None, description: str) -> str:
    """The value of WWW-Authenticate (RFC 6750 §3). A description has no quotes: RFC 6749 §5.2 does not let it."""
    told = f', error="{error}", error_description="{_UNQUOTABLE.sub("", description)}"' if error else ""
    return f'Bearer realm="soma"{told}'


def kinds(kind: type[Problem] = Problem) -> Iterator[type[Problem]]:
    """Every kind that is answered, in the order of the tree."""
    for child in kind.__subclasses__():
        if child.__subclasses__():
            yield from kinds(child)
        else:
            yield child
