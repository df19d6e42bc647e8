"""Assembles the server: settings in, objects built, routes included, app out. Nothing imports this file."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from config.loader import ConfigurationError, load
from config.settings import ServerSettings, Settings
from config.version import VERSION

if TYPE_CHECKING:
    from fastapi import FastAPI

    from engines.host import EngineHost, EngineParts

logger = logging.getLogger("server")

NAME = "Chatterbox TTS Extended Plus"
PROJECT = Path(__file__).resolve().parent
HEAVY_AT_ONCE = 2  # uploads that are listened to, deletions of many files: what would hold up short work in its threads
PING_S = 20.0  # between the signs of life of a WebSocket; a client that shows none for so long is gone
DESCRIPTION = """\
Speech from text on your own machine: cloned voices, several formats, an outputs library.

Every failure has one body (`ErrorReply`) with a stable `error_code`; every answer carries `X-Request-ID`.
"""
TAGS = [
    {"name": "speech", "description": "Text to speech."},
    {"name": "voice conversion", "description": "A recording in another voice."},
    {"name": "concatenation", "description": "Generated files, uploads and silences in a row."},
    {"name": "voices", "description": "The recordings whose voices can be spoken with."},
    {"name": "recordings", "description": "Recordings to convert."},
    {"name": "outputs", "description": "The generated files."},
    {"name": "openai", "description": "OpenAI's speech API, for its clients. Every failure has OpenAI's envelope."},
    {"name": "housekeeping", "description": "What is used, and making room."},
    {"name": "system", "description": "Health, configuration."},
]


def create_app(settings: Settings, engine: EngineHost | None = None) -> FastAPI:
    """The whole server. `engine` takes the place of the one that the settings name; it may be loading already."""
    # The web framework takes a second to import, which a fault in the settings should not wait for.
    from fastapi import FastAPI
    from starlette.middleware.cors import CORSMiddleware

    from concatenation import ConcatenationPlanner
    from conversion import ConversionPlanner
    from core_engine import CoreEngine
    from engines.host import EngineHost
    from management.cleanup import Cleanup
    from management.libraries import Libraries
    from monitoring import health
    from monitoring.metrics import Metrics
    from monitoring.middleware import RequestContext
    from monitoring.recent_errors import RecentErrors
    from planning import Planner
    from routes import (
        backup,
        concatenation,
        conversion,
        documentation,
        errors,
        housekeeping,
        outputs,
        speech,
        system,
        uploads,
        vc_inputs,
        voices,
    )
    from routes.openai import addresses, names
    from routes.responses import AUDIO_HEADERS
    from security.body_limit import BodyLimit
    from security.fetch import Fetcher

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        host = engine or EngineHost(engine_parts(settings))
        libraries = await asyncio.to_thread(Libraries, settings.storage, data_dir(settings))
        planner = Planner(settings.speech, settings.api, libraries.voices)
        conversions = ConversionPlanner(
            planner, settings.conversion, libraries.recordings, longest_s=settings.storage.longest_audio_h * 3600
        )
        core = CoreEngine(
            planner,
            conversions,
            ConcatenationPlanner(settings.concatenation, libraries.outputs),
            settings.speech,
            settings.conversion,
            host,
            libraries.outputs,
            libraries,
            app.state.metrics,
        )
        heavy = ThreadPoolExecutor(HEAVY_AT_ONCE, thread_name_prefix="heavy")
        cleanup = Cleanup(libraries, settings.cleanup)
        app.state.host, app.state.libraries, app.state.core, app.state.heavy = host, libraries, core, heavy
        fetcher = Fetcher(settings.fetch, min_free_bytes=settings.storage.min_free_mb * 1_000_000)
        app.state.cleanup, app.state.fetcher = cleanup, fetcher
        await host.start()
        beside = (core.warm_up, libraries.open, health.warm_up)
        warming_up = [asyncio.create_task(asyncio.to_thread(work)) for work in beside]
        for task in warming_up:
            task.add_done_callback(log_failure)
        cleanup.start()
        warning = asyncio.create_task(names.warn_of_lost_names(host, libraries, settings.openai.voices))
        warning.add_done_callback(log_failure)
        try:
            yield
        finally:
            warning.cancel()
            await asyncio.gather(warning, *warming_up, return_exceptions=True)
            await cleanup.close()
            await host.close()
            core.close()
            fetcher.close()
            heavy.shutdown(wait=False, cancel_futures=True)
            await asyncio.to_thread(libraries.close)

    app = FastAPI(
        title=NAME,
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
    for part in (
        speech,
        conversion,
        concatenation,
        backup,
        voices,
        vc_inputs,
        outputs,
        housekeeping,
        system,
        documentation,
    ):
        app.include_router(part.router)
    addresses.include(app)
    documentation.mount_assets(app)
    app.add_middleware(BodyLimit, max_bytes=settings.api.max_body_kb * 1024, uploads=uploads.body_limits(settings.api))
    app.add_middleware(addresses.Aliases)
    app.add_middleware(
        CORSMiddleware,
        allow_origin_regex=settings.server.cors_origin_regex.pattern,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["X-Request-ID", "Content-Disposition", "Retry-After", "OpenAI-Processing-Ms", *AUDIO_HEADERS],
    )
    app.add_middleware(
        RequestContext,
        metrics=app.state.metrics,
        access_log=settings.logging.access,
        internal_error=errors.internal_error,
        stopping=errors.stopping,
    )
    return app


def log_failure(task: asyncio.Task[None]) -> None:
    """What fails beside the requests fails aloud."""
    if not task.cancelled() and (error := task.exception()):
        logger.error("not all is ready", exc_info=error)


def engine_parts(settings: Settings) -> EngineParts:
    """What of the settings the engine process is started with; a relative folder starts at the project."""
    from engines.host import EngineParts

    return EngineParts(
        settings.engine,
        settings.chatterbox.model_copy(update={"weights": from_project(settings.chatterbox.weights)}),
        settings.validation.model_copy(update={"weights": from_project(settings.validation.weights)}),
        settings.speech.whisper_model_name,
        data_dir(settings) / "cache",
    )


def from_project(folder: Path | None) -> Path | None:
    return folder and PROJECT / folder


def data_dir(settings: Settings) -> Path:
    """The folder that holds the libraries; a relative one starts at the project, wherever the server was started."""
    return (PROJECT / settings.storage.data_dir).resolve()


def from_here(path: str) -> str:
    """A folder named on the command line starts where the command was given, not at the project."""
    if not path:
        raise argparse.ArgumentTypeError("the name of the folder is empty")
    return str(Path(path).absolute())


def settings_from(arguments: Sequence[str]) -> Settings:
    """The settings in force for these command-line arguments. Raises ConfigurationError."""
    parser = argparse.ArgumentParser(prog="main_api.py", description=f"{NAME}: a speech server")
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", type=int, help="TCP port")
    parser.add_argument("--engine", help="auto, chatterbox or embedded")
    parser.add_argument("--model", help="auto, english, turbo, nano or multilingual: the variant of Chatterbox")
    parser.add_argument("--weights", help="folder with Chatterbox's files", type=from_here)
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:1 or mps")
    parser.add_argument("--data-dir", help="folder that holds voices/, vc_inputs/, outputs/ and more", type=from_here)
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
            ("chatterbox", "model"): given.model,
            ("chatterbox", "weights"): given.weights,
            ("chatterbox", "device"): given.device,
            ("storage", "data_dir"): given.data_dir,
        },
    )


def make_data_folders(settings: Settings) -> None:
    """Raise OSError now, rather than at the first request, if a folder cannot be made or written."""
    from management.index import LIBRARIES

    for name in LIBRARIES:
        folder = data_dir(settings) / name
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def listen(settings: ServerSettings) -> socket.socket:
    """The socket to serve on, taken before anything is loaded: clients that come early wait in its queue.

    Raises OSError that names the address if it is another's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio sends small answers at once (TCP_NODELAY) only on sockets that are TCP by name, which create_server's
    # are not: every answer then took 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":  # elsewhere it would let two servers share the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{settings.host}:{settings.port}") from error
    return listener


async def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve until a signal. The engine loads in its process while this one still imports the web framework."""
    from engines.host import EngineHost

    engine = EngineHost(engine_parts(settings), reread=lambda: engine_parts(settings_from(sys.argv[1:])))
    await engine.start()
    try:
        app = await asyncio.to_thread(create_app, settings, engine)
        import uvicorn

        host, port = listener.getsockname()[:2]
        logger.info("serving on http://%s:%d (Ctrl-C stops it)", f"[{host}]" if ":" in host else host, port)
        config = uvicorn.Config(
            app,
            http="h11",
            ws="websockets-sansio",
            ws_max_size=settings.api.max_body_kb * 1024,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            ws_per_message_deflate=False,  # audio is compressed already, and texts are short
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=settings.server.shutdown_grace_s,
        )
        await uvicorn.Server(config).serve(sockets=[listener])
    finally:
        await engine.close()


def main() -> None:
    try:
        settings = settings_from(sys.argv[1:])
    except ConfigurationError as error:
        sys.exit(f"The server was not started, because of its configuration:\n{error}")
    try:
        make_data_folders(settings)
        listener = listen(settings.server)
    except OSError as error:
        sys.exit(f"The server was not started: {error.filename or 'the address'}: {error.strerror}")
    from monitoring import logs

    logs.configure(settings.logging)
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(settings, listener))


if __name__ == "__main__":
    main()
