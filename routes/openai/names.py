"""What names mean that clients of OpenAI's API call voices and models by."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping

from engines.base import EngineInfo, ModelInfo
from engines.host import EngineHost
from management.libraries import Libraries
from management.voices import Voices
from resilience.errors import AmbiguousVoice, InvalidPath, ModelNotFound, ModelUnavailable, VoiceNotFound

OPENAI_VOICES = (
    "alloy",
    "ash",
    "ballad",
    "coral",
    "echo",
    "fable",
    "nova",
    "onyx",
    "sage",
    "shimmer",
    "verse",
    "marin",
    "cedar",
)
LISTED = "GET /v1/audio/voices lists them all"
STARTED_AT = int(time.time())  # when this server began to have its models

READ_POLL_S = 0.2

logger = logging.getLogger(__name__)

# Models


def full_name(engine: EngineInfo, model: ModelInfo) -> str:
    """Such as `chatterbox-turbo`: the name that tells of the engine, too."""
    return f"{engine.name}-{model.name}"


def find_model(name: str, engine: EngineInfo, aliases: Mapping[str, str | None]) -> ModelInfo:
    """The model by its own name, with or without the engine's before it; the engine's default by the engine's name;
    or what an alias means. Raises ModelNotFound.
    """
    for wanted in (name, *([aliases[name]] if name in aliases else [])):
        if wanted in (None, engine.name):
            return engine.models[0]
        for model in engine.models:
            if wanted in (model.name, full_name(engine, model)):
                return model
    raise ModelNotFound(
        f"The model '{name}' does not exist; GET /v1/models lists those there are",
        field="model",
        kind="model_not_found",
    )


def model_names(engine: EngineInfo, aliases: Mapping[str, str | None]) -> Iterator[str]:
    """The names to list: each model by its full name, and the aliases that mean one of them."""
    known = {name for model in engine.models for name in (model.name, full_name(engine, model))}
    yield from (full_name(engine, model) for model in engine.models)
    yield from (alias for alias, meant in aliases.items() if meant is None or meant in known)


# Voices


def find_voice(name: str, model: ModelInfo, voices: Voices, mapped: Mapping[str, str], default: str | None) -> str:
    """The voice as a request for speech names it. In this order: the library's (see `Voices.spelled`), by path, name,
    alias or file name; the model's own; what the settings say that a name of OpenAI's means; one of the model's own
    for each of the other names of OpenAI's.

    Looks into the library: call it from a thread. Raises VoiceNotFound, AmbiguousVoice.
    """
    if found := _known(name, model, voices):
        return found
    if meant := mapped.get(name):
        if found := _known(meant, model, voices):
            return found
        raise VoiceNotFound(f"by the settings of this server {name} is the voice {meant}, which is not there; {LISTED}")
    stand_ins = [*dict.fromkeys([*([default] if default else []), *model.voices])]
    if name in OPENAI_VOICES and stand_ins:
        return stand_ins[OPENAI_VOICES.index(name) % len(stand_ins)]
    error = voices.not_found(name, [*model.voices, *mapped, *OPENAI_VOICES])
    raise VoiceNotFound(f"{error.message}; {LISTED}", detail=error.detail)


def names_beside_library(engine: EngineInfo | None, mapped: Iterable[str]) -> list[str]:
    """The names that mean a voice without the library: the engine's own, what the settings map, and OpenAI's."""
    own = [voice for model in engine.models for voice in model.voices] if engine else []
    return [*dict.fromkeys([*own, *mapped, *OPENAI_VOICES])]


def lost_names(model: ModelInfo, voices: Voices, mapped: Mapping[str, str]) -> list[str]:
    """The names that the settings map to what is no voice, or to several. Looks into the library, as `find_voice`."""
    return [name for name, meant in mapped.items() if name not in model.voices and not _speaks(meant, model, voices)]


async def warn_of_lost_names(host: EngineHost, libraries: Libraries, mapped: Mapping[str, str]) -> None:
    """Tell the log of `lost_names`, once the library was read and the engine is there."""
    if not mapped:
        return
    while not libraries.is_read:  # noqa: ASYNC110 - a thread knows
        await asyncio.sleep(READ_POLL_S)
    while host.info is None:
        try:
            await host.wait_until_ready()
        except ModelUnavailable as error:
            await asyncio.sleep(error.retry_after_s)
    for name in await asyncio.to_thread(lost_names, host.info.models[0], libraries.voices, mapped):
        logger.warning("openai.voices maps %s to %s, which is no voice", name, mapped[name])


def _speaks(name: str, model: ModelInfo, voices: Voices) -> bool:
    try:
        return _known(name, model, voices) is not None
    except AmbiguousVoice:
        return False


def _known(name: str, model: ModelInfo, voices: Voices) -> str | None:
    try:
        recording = voices.find(name, field="voice")
    except InvalidPath:  # what cannot be a name of a file is the name of no voice
        recording = None
    if recording:
        return recording.relative
    return name if name in model.voices else None
