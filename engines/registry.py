"""Which engine speaks: decided in the engine process, so that looking for weights never holds up the server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engines.base import SpeechEngine
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


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine to load, and what a person should know about the choice."""

    make: Callable[[], SpeechEngine]
    notices: tuple[str, ...] = ()


def choose(wish: Wish) -> Choice:
    """The engine that the settings name; for `auto` Chatterbox if it can be had, else the fallback, said aloud.

    Raises ModelUnavailable if the settings leave no engine.
    """
    if wish.name == "embedded":
        return Choice(_embedded)
    problem = weights.why_unavailable(wish.chatterbox)
    if problem is None:
        return Choice(lambda: _chatterbox(wish.chatterbox))
    if wish.name == "chatterbox" or wish.fallback == "none":
        raise ModelUnavailable(f"Chatterbox cannot speak here: {problem}", retry_after_s=10)
    notice = f"the embedded engine speaks in place of Chatterbox: {problem}"
    logger.warning("engine fallback to=embedded reason=%s", problem)
    return Choice(_embedded, (notice,))


def _embedded() -> SpeechEngine:
    from engines.embedded.engine import EmbeddedEngine

    return EmbeddedEngine()


def _chatterbox(wish: ChatterboxOptions) -> SpeechEngine:
    from engines.chatterbox.engine import ChatterboxEngine

    return ChatterboxEngine(wish)
