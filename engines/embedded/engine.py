"""The engine that works anywhere: no weights, no GPU. eSpeak NG speaks, WORLD gives it the voice of a recording."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

from engines.base import (
    Cancellation,
    ChunkRequest,
    Conditionals,
    EngineInfo,
    EngineStatus,
    LoadProgress,
    ModelInfo,
    Sampling,
    VoicePrompt,
    WindowRequest,
)
from engines.embedded import SAMPLE_RATE
from engines.embedded.kana import KanaReader
from engines.embedded.voices import (
    NEUTRAL_CFG_WEIGHT,
    NEUTRAL_EXAGGERATION,
    OWN_VOICES,
    OwnVoice,
    nearest_voice,
    performance,
)
from resilience.errors import GenerationFailed, InvalidAudio, ModelUnavailable, UnreadableText
from utils.audio.waveform import Waveform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engines.embedded.world import Profile

PACKAGES = {
    "espeakng_loader": "espeakng-loader",
    "pyworld": "pyworld-prebuilt",
    "soxr": "soxr",
    "soundfile": "soundfile",
}
PIECE_S = 0.2
REFERENCE_LIMIT_S = 60.0  # how much of a recording is listened to; more hardly changes what is heard
INAUDIBLE = 0.002  # peak under which a piece holds no speech

# Spoken once for each reference, to know the usual colour of the voice that takes it on.
CALIBRATION_TEXT = "The five boxing wizards jump quickly, while many warm evenings pass over the harbour and its boats."


@dataclass(frozen=True, slots=True, eq=False)
class PreparedVoice:
    """A reference as this engine keeps it: whom to sound like, who speaks, and how that one sounds by itself."""

    target: Profile
    speaker: OwnVoice
    speaker_profile: Profile

    @property
    def size_bytes(self) -> int:
        return self.target.size_bytes + self.speaker_profile.size_bytes


class EmbeddedEngine:
    """`SpeechEngine` by eSpeak NG and WORLD, for any number of threads.

    What it keeps after `load` does not change how anything sounds: where eSpeak NG and its languages are, and the
    dictionary for Japanese once a text has needed it.
    """

    def __init__(self) -> None:
        self._kana = KanaReader()
        self._library_path = Path()
        self._data_path = Path()
        self._languages: Mapping[str, str] = MappingProxyType({})

    def load(self, on_progress: Callable[[LoadProgress], None]) -> EngineInfo:  # noqa: ARG002 - it is no work
        """Find the parts and the languages. Raises ModelUnavailable naming what is not installed and how to get it."""
        missing = [package for module, package in PACKAGES.items() if find_spec(module) is None]
        if missing:
            raise ModelUnavailable(
                f"the embedded engine lacks {', '.join(missing)}: install with `pip install {' '.join(missing)}`"
            )
        from engines.embedded.espeak import languages

        loader = import_module("espeakng_loader")
        self._library_path, self._data_path = Path(loader.get_library_path()), Path(loader.get_data_path())
        if not self._library_path.is_file() or not self._data_path.is_dir():
            raise ModelUnavailable(
                "the package espeakng-loader is damaged: mend with `pip install --force-reinstall espeakng-loader`"
            )
        self._languages = languages(self._data_path)
        model = ModelInfo(
            name="espeak-world",
            sample_rate=SAMPLE_RATE,
            voices=tuple(OWN_VOICES),
            languages=tuple(sorted(self._languages)),
            takes=frozenset({"exaggeration", "temperature", "cfg_weight"}),
            same_when_early=True,
            clones_voices=True,
            converts=True,
            watermarks=False,
            chunk_characters=2000,
            needs_listening=False,
        )
        return EngineInfo("embedded", "cpu", (model,), concurrency=min(8, max(2, os.cpu_count() or 2)))

    def status(self) -> EngineStatus:
        """Always well: espeak-ng is a process with a time limit, and WORLD has no way to hang."""
        return EngineStatus(loaded=("espeak-world",))

    def prepare(
        self,
        model: str,  # noqa: ARG002 - there is one
        voice: VoicePrompt,  # noqa: ARG002 - the recording says it all
        recording: BinaryIO,
        cancellation: Cancellation,
    ) -> PreparedVoice:
        """Listen to the first `REFERENCE_LIMIT_S`. Raises InvalidAudio if the recording holds no voice; Cancelled."""
        from engines.embedded.world import profile
        from utils.audio.decode import read_recording

        target = profile(read_recording(recording, REFERENCE_LIMIT_S, cancellation.check), cancellation.check)
        speaker = nearest_voice(target.fundamental_hz)
        neutral = Sampling(NEUTRAL_EXAGGERATION, temperature=0, cfg_weight=NEUTRAL_CFG_WEIGHT)
        pieces = self._utter(CALIBRATION_TEXT, "en", speaker, neutral, 0, cancellation)
        return PreparedVoice(target, speaker, profile(_joined(pieces), cancellation.check))

    def speak(
        self, chunk: ChunkRequest, conditionals: Conditionals | None, cancellation: Cancellation
    ) -> Iterator[Waveform]:
        """Yield the chunk in pieces of `PIECE_S`: as eSpeak NG makes them, or, with a reference, once it is converted.

        `chunk.language` is one of `ModelInfo.languages`. Raises GenerationFailed for another one, for an own voice
        that it does not have, and when text that has letters or digits comes out silent; Cancelled soon after the
        cancellation is set.
        """
        if conditionals is None:
            speaker = _own_voice(chunk.voice.name)
            pieces = self._utter(chunk.text, chunk.language, speaker, chunk.sampling, chunk.seed, cancellation)
        elif isinstance(conditionals, PreparedVoice):
            pieces = self._take_on(chunk, conditionals, cancellation)
        else:
            raise TypeError(f"{type(conditionals).__name__} was prepared by another engine")
        for samples in _audible(_pieces(pieces), chunk.text):
            cancellation.check()
            yield Waveform(samples, SAMPLE_RATE)

    def convert(
        self, window: WindowRequest, conditionals: Conditionals | None, cancellation: Cancellation
    ) -> Iterator[Waveform]:
        """Give the recording the voice of the reference; without one, of the own voice that is named.

        A window in which nobody speaks, a pause or music without a voice, stays as it is. Raises GenerationFailed for
        an own voice that it does not have, Cancelled.
        """
        from engines.embedded.world import profile, take_on
        from utils.audio.resample import resample

        source = resample(window.audio, SAMPLE_RATE)
        if conditionals is None:
            neutral = Sampling(NEUTRAL_EXAGGERATION, temperature=0, cfg_weight=NEUTRAL_CFG_WEIGHT)
            spoken = self._utter(
                CALIBRATION_TEXT, "en", _own_voice(window.voice.name), neutral, window.seed, cancellation
            )
            target = profile(_joined(spoken), cancellation.check)
        elif isinstance(conditionals, PreparedVoice):
            target = conditionals.target
        else:
            raise TypeError(f"{type(conditionals).__name__} was prepared by another engine")
        try:
            speaker = profile(source, cancellation.check)
        except InvalidAudio:
            yield source
        else:
            yield take_on(source, speaker, target, cancellation.check)

    def _utter(
        self, text: str, language: str, speaker: OwnVoice, sampling: Sampling, seed: int, cancellation: Cancellation
    ) -> Iterator[NDArray[np.float32]]:
        """The text as `speaker` says it, at `SAMPLE_RATE`, as it is made."""
        from engines.embedded import espeak
        from utils.audio.resample import stream_resampled

        voice = self._languages.get(language)
        if voice is None:
            raise GenerationFailed(f"the embedded engine does not speak the language {language!r}")
        utterance = espeak.stream_utterance(
            self._kana.kana_of(text) if voice == "ja" else text,
            voice,
            performance(speaker, sampling, seed),
            self._library_path,
            self._data_path,
            cancellation,
        )
        return stream_resampled(utterance, espeak.SAMPLE_RATE, SAMPLE_RATE)

    def _take_on(
        self, chunk: ChunkRequest, prepared: PreparedVoice, cancellation: Cancellation
    ) -> Iterator[NDArray[np.float32]]:
        from engines.embedded.world import take_on

        spoken = self._utter(chunk.text, chunk.language, prepared.speaker, chunk.sampling, chunk.seed, cancellation)
        yield take_on(_joined(spoken), prepared.speaker_profile, prepared.target, cancellation.check).samples


def _own_voice(name: str) -> OwnVoice:
    if name not in OWN_VOICES:
        raise GenerationFailed(f"the embedded engine has no voice {name!r}; its own are {', '.join(OWN_VOICES)}")
    return OWN_VOICES[name]


def _joined(pieces: Iterator[NDArray[np.float32]]) -> Waveform:
    import numpy as np

    return Waveform(np.concatenate([np.zeros(0, np.float32), *pieces]), SAMPLE_RATE)


def _pieces(parts: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """The same samples in pieces of `PIECE_S`, the last one shorter."""
    import numpy as np

    size = round(PIECE_S * SAMPLE_RATE)
    held = np.zeros(0, np.float32)
    for part in parts:
        held = np.concatenate([held, part])
        whole = len(held) // size * size
        yield from held[:whole].reshape(-1, size)
        held = held[whole:]
    if len(held):
        yield held


def _audible(pieces: Iterator[NDArray[np.float32]], text: str) -> Iterator[NDArray[np.float32]]:
    """The pieces, none before one that can be heard: a text that comes out silent fails before it has begun."""
    import numpy as np

    quiet: list[NDArray[np.float32]] = []
    for piece in pieces:
        if np.max(np.abs(piece)) < INAUDIBLE:
            quiet.append(piece)
        else:
            yield from quiet
            yield piece
            break
    else:
        if any(character.isalnum() for character in text):
            raise UnreadableText("the embedded engine made no sound of this text; its language may be another")
        yield from quiet
    yield from pieces
