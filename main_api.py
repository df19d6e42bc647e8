"""Assembles the server: settings in, objects built, routes included, app out. Nothing imports this file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from config.loader import ConfigurationError, load
from config.settings import Settings
from config.version import VERSION
from core_engine import CoreEngine
from engines.host import EngineHost
from management.outputs import Outputs
from management.voices import Voices
from monitoring import logs
from monitoring.metrics import Metrics
from monitoring.middleware import RequestContext
from monitoring.recent_errors import RecentErrors
from routes import documentation, errors, outputs, speech, system
from routes.responses import AUDIO_HEADERS
from security.body_limit import BodyLimit

PROJECT = Path(__file__).resolve().parent
DESCRIPTION = """\
Speech from text on your own machine: cloned voices, several formats, an outputs library.

Every failure has one body (`ErrorReply`) with a stable `error_code`; every answer carries `X-Request-ID`.
"""
TAGS = [
    {"name": "speech", "description": "Text to speech."},
    {"name": "outputs", "description": "The generated files."},
    {"name": "system", "description": "Health, configuration."},
]


def create_app(settings: Settings, engine: EngineHost | None = None) -> FastAPI:
    """The whole server. `engine` takes the place of the one that the settings name."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        data_dir = (PROJECT / settings.storage.data_dir).resolve()
        host = engine or EngineHost(settings.engine)
        library = Outputs(settings.storage, data_dir)
        app.state.host, app.state.outputs = host, library
        app.state.core = CoreEngine(settings.speech, settings.api, host, Voices(data_dir), library, app.state.metrics)
        await host.start()
        try:
            yield
        finally:
            await host.close()
            library.close()

    app = FastAPI(
        title=system.NAME,
        version=VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.metrics = Metrics()
    app.state.recent_errors = RecentErrors()
    errors.install(app)
    for router in (speech.router, outputs.router, system.router, documentation.router):
        app.include_router(router)
    documentation.mount_assets(app)
    app.add_middleware(BodyLimit, max_bytes=settings.api.max_body_kb * 1024)
    app.add_middleware(
        CORSMiddleware,
        allow_origin_regex=settings.server.cors_origin_regex,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["X-Request-ID", "Content-Disposition", "Retry-After", *AUDIO_HEADERS],
    )
    app.add_middleware(
        RequestContext,
        metrics=app.state.metrics,
        access_log=settings.logging.access,
        internal_error=errors.internal_error,
    )
    return app


def settings_from(arguments: Sequence[str]) -> Settings:
    """The settings in force for these command-line arguments. Raises ConfigurationError."""
    parser = argparse.ArgumentParser(prog="main_api.py", description=f"{system.NAME}: a speech server")
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", type=int, help="TCP port")
    parser.add_argument("--engine", help="auto, chatterbox or embedded")
    parser.add_argument(
        "--data-dir", help="folder that holds voices/ and outputs/", type=lambda path: str(Path(path).absolute())
    )
    parser.add_argument("--config", type=Path, help="settings file, instead of config.yaml beside this file")
    given = parser.parse_args(arguments)
    shipped = PROJECT / "config.yaml"
    return load(
        given.config or (shipped if shipped.exists() else None),
        os.environ,
        {
            ("server", "host"): given.host,
            ("server", "port"): given.port,
            ("engine", "name"): given.engine,
            ("storage", "data_dir"): given.data_dir,
        },
    )


def main() -> None:
    import uvicorn

    try:
        settings = settings_from(sys.argv[1:])
    except ConfigurationError as error:
        sys.exit(f"The server was not started, because of its configuration:\n{error}")
    logs.configure(settings.logging)
    uvicorn.run(
        create_app(settings),
        host=settings.server.host,
        port=settings.server.port,
        http="h11",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.server.shutdown_grace_s,
    )


if __name__ == "__main__":
    main()
