"""`soma gateway`: the REST API, and the process that serves it."""

import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from gateway import answers, assembly, credentials, openapi, problems, v1, versions
from gateway.console.door import Door
from gateway.engine import usable
from gateway.layout import SETTLE
from gateway.middleware import Admission, BodyLimit, Measured
from gateway.pages import router as pages
from gateway.patience import Impatient
from gateway.v1 import health
from ops import command_key, kafka, models, pepper, seal, telemetry
from ops.seal import KeysDown
from ops.settings import Settings
from projections import database
from projections.queries import ReadModelDown

log = logging.getLogger("soma.gateway")
GRACE_SECONDS = 5


def create_app(settings: Settings, stop: Callable[[], None] = lambda: None, settle: timedelta = SETTLE) -> FastAPI:
    """The API. `stop` is called when the gateway must not go on (it has said why in the log and in /health)."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with assembly.running(settings, stop, settle) as app.state.parts:
            yield

    app = FastAPIOffline(  # /docs from our own files: a browser behind a closed network shows it, and nobody else learns of it
        **openapi.ABOUT,
        lifespan=lifespan,
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": "none"},  # its default sends the description to a foreign host
        telemetry={"metrics": False, "logs": False, "operation_spans": False},
    )
    app.add_middleware(BodyLimit, limit=settings.gateway_max_body_bytes, seconds=settings.gateway_body_seconds)
    app.add_middleware(Admission)
    app.add_middleware(Measured)
    app.add_middleware(Door, settings=settings)
    for kind in (problems.Problem, ReadModelDown, KeysDown, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answers.answer)
    versions.include(app, v1.router)
    for router in (health.router, health.numbers, pages):
        app.include_router(router)
    openapi.complete(app)
    return app


def run(settings: Settings) -> None:
    """`soma gateway`, until SIGINT or SIGTERM. Exit code 2 for settings that cannot be used, 1 where the record's rules cannot be kept."""
    telemetry.setup("gateway", settings)
    if wrong := _wrong(settings):
        print("The gateway cannot start:", *wrong, sep="\n  ", file=sys.stderr)
        raise SystemExit(2)
    failed = False

    def fail() -> None:
        nonlocal failed
        failed = server.should_exit = True

    def stop(*_: object) -> None:
        server.should_exit = True

    config = uvicorn.Config(
        create_app(settings, fail),
        host=settings.gateway_host,
        port=settings.gateway_port,
        loop="uvloop",
        http=Impatient,
        ws="none",
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)  # uvicorn raises what it was stopped by again at its end: that is a clean stop here
    server.run()
    if failed or not server.started:
        raise SystemExit(1)


def _wrong(settings: Settings) -> list[str]:
    """What is missing or wrong in the settings, all of it."""
    checks: list[Callable[[], object]] = [
        lambda: kafka.aiokafka(settings),
        lambda: kafka.registry(settings),
        lambda: database.url(settings),
        lambda: models.load(settings.soma_models_file),
        lambda: pepper.load(settings),
        lambda: usable(settings),
        lambda: command_key.load(settings),
        lambda: seal.load(settings),
    ]
    wrong = list[str]()
    for check in checks:
        try:
            check()
        except ValueError as error:
            wrong.append(str(error))
    return [*wrong, *credentials.wrong(settings)]
