"""What the server says of itself: `/`, health and configuration."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from fastapi import APIRouter, Request

from api_models.system import ConfigReply, HealthReply, LivenessReply, ReadinessReply, RootReply
from config.version import VERSION
from monitoring.health import resource_status, system_info
from resilience import errors
from routes.deps import HostDep, MetricsDep, OutputsDep, RecentErrorsDep, SettingsDep
from routes.errors import documented
from utils.audio.formats import FORMATS

STATUS_OF_STATE = {"starting": "starting", "ready": "healthy"}

router = APIRouter(tags=["system"])


@router.get("/", summary="Name, version, links", responses=documented())
async def root(request: Request) -> RootReply:
    links = {"docs": "/docs", "redoc": "/redoc", "openapi": "/openapi.json", "health": "/api/v1/health"}
    return RootReply(message=f"{request.app.title} is running", name=request.app.title, version=VERSION, links=links)


@router.get("/api/v1/health", summary="How the server is", responses=documented())
async def health(
    host: HostDep, metrics: MetricsDep, recent_errors: RecentErrorsDep, outputs: OutputsDep
) -> HealthReply:
    """Always 200: `status` tells whether speech can be had, `warnings` what a person should know."""
    info = host.info
    models = info.models if info else ()
    status = STATUS_OF_STATE.get(host.state, "degraded")
    return HealthReply.model_validate(
        {
            "message": f"the server is {status}",
            "status": status,
            "engine": info.name if info else None,
            "model": info.models[0].name if info else None,
            "device": info.device if info else None,
            "models_loaded": {
                "tts": host.is_ready and bool(models),
                "vc": host.is_ready and any(model.converts for model in models if model.name in host.status.loaded),
            },
            "models": [
                {
                    "name": model.name,
                    "loaded": model.name in host.status.loaded,
                    "problem": host.status.problems.get(model.name),
                }
                for model in models
            ],
            "loading": asdict(host.progress) if host.progress else None,
            "version": VERSION,
            "uptime_seconds": round(metrics.uptime_s, 3),
            "metrics": {
                **metrics.snapshot(),
                "requests_in_line": host.requests_in_line,
                "engine_restarts": host.restarts,
            },
            "system_info": system_info(),
            "resource_status": await asyncio.to_thread(resource_status, outputs.store.root),
            "warnings": [
                *([host.problem] if host.problem else []),
                *host.notices,
                *host.status.problems.values(),
            ],
            "error_summary": recent_errors.summary(),
        }
    )


@router.get("/api/v1/health/live", summary="Is the process alive", responses=documented())
async def live() -> LivenessReply:
    return LivenessReply(message="alive")


@router.get("/api/v1/health/ready", summary="Can it speak", responses=documented(errors.ModelUnavailable))
async def ready(host: HostDep) -> ReadinessReply:
    """503 until the engine is loaded, while it restarts, and when it cannot be had."""
    if not host.is_ready or host.info is None:
        raise errors.NotReady(host.trouble, retry_after_s=5)
    return ReadinessReply(message="ready to speak", engine=host.info.name)


@router.get("/api/v1/config", summary="Defaults and limits in force", responses=documented())
async def configuration(settings: SettingsDep, host: HostDep) -> ConfigReply:
    info = host.info
    return ConfigReply(
        message="what is reported is what is applied",
        tts_defaults=settings.speech.model_dump(mode="json"),
        vc_defaults=settings.conversion.model_dump(mode="json"),
        concat_defaults=settings.concatenation.model_dump(mode="json"),
        supported_formats=list(FORMATS),
        api_limits={
            **settings.api.model_dump(mode="json"),
            "max_waiting": settings.engine.max_waiting,
            "request_timeout_s": settings.engine.request_timeout_s,
        },
        engine={
            "name": info.name,
            "voices": info.models[0].voices,  # these four are the default model's
            "languages": info.models[0].languages,
            "heeds": sorted(info.models[0].takes),
            "sample_rate": info.models[0].sample_rate,
            "models": [{**asdict(model), "takes": sorted(model.takes)} for model in info.models],
            "transcriber": info.transcriber,
        }
        if info
        else {},
    )
