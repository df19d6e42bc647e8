"""What endpoints ask for: the objects that the lifespan built, and the checks that several of them share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from typing import Annotated, ParamSpec, TypeVar

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect, HTTPConnection

from config.settings import Settings
from core_engine import CoreEngine
from engines.host import EngineHost
from management.libraries import Libraries
from management.outputs import Outputs
from management.vc_inputs import VcInputs
from management.voices import Voices
from monitoring.metrics import Metrics
from monitoring.recent_errors import RecentErrors
from resilience.errors import UnsupportedFormat
from utils.media_types import is_json

T = TypeVar("T")
P = ParamSpec("P")


def _settings(connection: HTTPConnection) -> Settings:
    return connection.app.state.settings


def _core(connection: HTTPConnection) -> CoreEngine:
    return connection.app.state.core


def _host(connection: HTTPConnection) -> EngineHost:
    return connection.app.state.host


def _libraries(connection: HTTPConnection) -> Libraries:
    return connection.app.state.libraries


def _voices(connection: HTTPConnection) -> Voices:
    return _libraries(connection).voices


def _vc_inputs(connection: HTTPConnection) -> VcInputs:
    return _libraries(connection).vc_inputs


def _outputs(connection: HTTPConnection) -> Outputs:
    return _libraries(connection).outputs


def _metrics(connection: HTTPConnection) -> Metrics:
    return connection.app.state.metrics


def _recent_errors(connection: HTTPConnection) -> RecentErrors:
    return connection.app.state.recent_errors


SettingsDep = Annotated[Settings, Depends(_settings)]
CoreDep = Annotated[CoreEngine, Depends(_core)]
HostDep = Annotated[EngineHost, Depends(_host)]
LibrariesDep = Annotated[Libraries, Depends(_libraries)]
VoicesDep = Annotated[Voices, Depends(_voices)]
VcInputsDep = Annotated[VcInputs, Depends(_vc_inputs)]
OutputsDep = Annotated[Outputs, Depends(_outputs)]
MetricsDep = Annotated[Metrics, Depends(_metrics)]
RecentErrorsDep = Annotated[RecentErrors, Depends(_recent_errors)]


def json_only(request: Request) -> None:
    """Raise UnsupportedFormat unless the body calls itself JSON; curl's `-d` alone says it is a form."""
    if not is_json(request.headers.get("content-type", "")):
        raise UnsupportedFormat("the body must be JSON: send it with the header Content-Type: application/json")


async def in_heavy_thread(request: Request, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a call that listens to audio or touches many files.

    There are few threads for such work, so that it never takes those that short calls need.
    """
    work = partial(copy_context().run, call, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(request.app.state.heavy, work)


async def unless_client_leaves(request: Request, work: Coroutine[None, None, T]) -> T:
    """The result of `work`, which is cancelled when the client hangs up first (ClientDisconnect then).

    The body must have been read: what comes after it can only be the news that the client is gone.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_departure(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
