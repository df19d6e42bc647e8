"""What the settings say of Chatterbox, as plain values: the engine process starts without pydantic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChatterboxOptions:
    """The members of ChatterboxSettings, and where prepared voices are kept; see there for their meaning."""

    model: str = "auto"
    weights: str | None = None
    offline: bool = False
    device: str = "auto"
    t3_precision: str = "auto"
    s3gen_precision: str = "auto"
    cuda_graphs: bool = True
    flow_steps: int = 10
    batch: int = 0
    threads: int = 0
    unload_after_s: float = 900.0
    memory_limit_mb: int = 0
    voice_disk_mb: int = 512
    voice_folder: str | None = None
    hub_timeout_s: float = 8.0
