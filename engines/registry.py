"""Which engine speaks: decided in the engine process, so that looking for weights never holds up the server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engines.base import EngineInfo, LoadProgress, SpeechEngine
from engines.chatterbox.files import weights
from engines.chatterbox.options import ChatterboxOptions
from resilience.errors import ModelUnavailable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """The settings that decide which engine speaks. Plain, so that the engine process starts without pydantic."""

    name: str
    fallback: str
    chatterbox: ChatterboxOptions = field(default_factory=ChatterboxOptions)

    @classmethod
    def from_head(cls, head: Mapping[str, Any]) -> Wish:
        return cls(head["name"], head["fallback"], ChatterboxOptions(**head["chatterbox"]))


def load(wish: Wish, on_progress: Callable[[LoadProgress], None]) -> tuple[SpeechEngine, EngineInfo, tuple[str, ...]]:
    """The engine that the settings name, ready to speak, and what a person should know about the choice.

    For `auto` Chatterbox if it can be had and loaded, else the fallback, said aloud. Raises ModelUnavailable if the
    settings leave no engine.
    """
    if wish.name != "embedded":
        try:
            return _loaded(_chatterbox(wish.chatterbox), on_progress, ())
        except ModelUnavailable as error:
            if wish.name == "chatterbox" or wish.fallback == "none":
                raise
            notice = f"the embedded engine speaks in place of Chatterbox: {error.message}"
            logger.warning("engine fallback to=embedded reason=%s", error.message)
            return _loaded(_embedded(), on_progress, (notice,))
    return _loaded(_embedded(), on_progress, ())


def _loaded(
    engine: SpeechEngine, on_progress: Callable[[LoadProgress], None], notices: tuple[str, ...]
) -> tuple[SpeechEngine, EngineInfo, tuple[str, ...]]:
    return engine, engine.load(on_progress), notices


def _embedded() -> SpeechEngine:
    from engines.embedded.engine import EmbeddedEngine

    return EmbeddedEngine()


def _chatterbox(options: ChatterboxOptions) -> SpeechEngine:
    """Looks for the weights before torch is imported. Raises ModelUnavailable."""
    if problem := weights.why_unavailable(options):
        raise ModelUnavailable(f"Chatterbox cannot speak here: {problem}", retry_after_s=10)
    from engines.chatterbox.engine import ChatterboxEngine

    return ChatterboxEngine(options)
