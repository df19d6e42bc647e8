"""What the server says of itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from api_models.replies import SuccessReply


class RootReply(SuccessReply):
    name: str
    version: str
    links: dict[str, str]


class LivenessReply(SuccessReply):
    status: Literal["alive"] = "alive"


class ReadinessReply(SuccessReply):
    status: Literal["ready"] = "ready"
    engine: str


class HealthReply(SuccessReply):
    status: Literal["healthy", "degraded", "starting"]
    engine: str | None = Field(description="the engine that speaks; null until it is loaded")
    model: str | None
    device: str | None
    models_loaded: dict[str, bool]
    models: list[dict[str, Any]] = Field(description="the engine's models, and whether each is in memory now")
    loading: dict[str, Any] | None = Field(description="while starting: what is done, bytes, seconds left")
    version: str
    uptime_seconds: float
    metrics: dict[str, Any]
    system_info: dict[str, Any]
    resource_status: dict[str, Any]
    warnings: list[str]
    error_summary: dict[str, Any]


class ConfigReply(SuccessReply):
    tts_defaults: dict[str, Any]
    vc_defaults: dict[str, Any]
    concat_defaults: dict[str, Any]
    supported_formats: list[str]
    api_limits: dict[str, Any]
    engine: dict[str, Any] = Field(description="what the loaded engine speaks and heeds")
