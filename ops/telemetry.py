"""Logs and traces of a process. `traceparent` travels in record headers, so that one trace spans all processes."""

import faulthandler
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from ops.settings import Settings

tracer = trace.get_tracer("soma")
_nowhere = trace.ProxyTracerProvider


def setup(process: str, settings: Settings) -> None:
    """Log lines to standard output; spans to OTEL_EXPORTER_OTLP_ENDPOINT when that is set."""
    faulthandler.enable()
    lines = logging.StreamHandler()
    lines.setFormatter(Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.soma_log_level, handlers=[lines], force=True)
    for chatty in ("httpx", "httpx2", "faust", "mode", "aiokafka", "sse_starlette"):  # the last one writes what it streams
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if settings.otel_exporter_otlp_endpoint:
        provider = TracerProvider(resource=Resource.create({"service.name": f"soma-{process}"}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)


class Lines(logging.Formatter):
    """One line a message, whatever is in it: what a caller wrote cannot look like another line, or move a terminal's cursor (CWE-117).

    A traceback's lines are indented, for the message of its error may be a caller's too.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging gives it
        return _shown(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - as above
        return "\n".join(f"  {_shown(line)}" for line in super().formatException(ei).splitlines())


def _shown(text: str) -> str:
    """With what is not printable as its escape."""
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def span(name: str, carrier: Mapping[str, str], **attributes: str | int) -> Iterator[dict[str, str]]:
    """A span under the W3C trace context of `carrier`; gives the context to hand on. Costs nothing while spans go nowhere."""
    if isinstance(trace.get_tracer_provider(), _nowhere):
        yield dict(carrier)
        return
    with tracer.start_as_current_span(name, context=propagate.extract(dict(carrier)), attributes=attributes):
        onward: dict[str, str] = {}
        propagate.inject(onward)
        yield onward or dict(carrier)
