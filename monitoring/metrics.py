"""Counts of what the server did since it started, for `/health`."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Metrics:
    """Written on the event loop only, so it needs no lock."""

    started_at: float = field(default_factory=time.monotonic)
    requests_by_status: Counter[int] = field(default_factory=Counter)
    requests_in_progress: int = 0
    generations: int = 0
    audio_s: float = 0.0
    generation_s: float = 0.0

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self.started_at

    def count_generation(self, audio_s: float, took_s: float) -> None:
        self.generations += 1
        self.audio_s += audio_s
        self.generation_s += took_s

    def snapshot(self) -> dict[str, Any]:
        return {
            "requests_total": sum(self.requests_by_status.values()),
            "requests_by_status": {str(status): count for status, count in sorted(self.requests_by_status.items())},
            "requests_in_progress": self.requests_in_progress,
            "generations_total": self.generations,
            "audio_seconds_total": round(self.audio_s, 3),
            "generation_seconds_total": round(self.generation_s, 3),
            "rtf": round(self.generation_s / self.audio_s, 4) if self.audio_s else None,
        }
