"""An engine that is loaded once, and the ways the tests here ask it to speak."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import soundfile

from engines.base import Cancellation, ChunkRequest, Conditionals, Sampling, VoicePrompt
from engines.embedded.engine import EmbeddedEngine
from utils.audio.waveform import Waveform

SENTENCE = "The quick brown fox jumps over the lazy old dog."
NEUTRAL = Sampling(exaggeration=0.5, temperature=0.8, cfg_weight=0.5)

Speak = Callable[..., Waveform]


@pytest.fixture(scope="session")
def engine() -> EmbeddedEngine:
    engine = EmbeddedEngine()
    engine.load(lambda progress: None)
    return engine


@pytest.fixture(scope="session")
def speak(engine: EmbeddedEngine) -> Speak:
    def whole(
        text: str = SENTENCE,
        *,
        voice: str = "edgar",
        language: str = "en",
        sampling: Sampling = NEUTRAL,
        seed: int = 1,
        conditionals: Conditionals | None = None,
    ) -> Waveform:
        chunk = ChunkRequest(text, language, VoicePrompt(voice), sampling, seed)
        pieces = list(engine.speak(chunk, conditionals, Cancellation()))
        return Waveform(np.concatenate([piece.samples for piece in pieces]), pieces[0].sample_rate)

    return whole


def recording_of(waveform: Waveform) -> BytesIO:
    recording = BytesIO()
    soundfile.write(recording, waveform.samples, waveform.sample_rate, format="WAV", subtype="PCM_16")
    recording.seek(0)
    return recording


class Stopwatch(Cancellation):
    """Notes the CPU time that its thread takes between two looks, which does not depend on who else is at work."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.longest_s = 0.0
        self._looked_s = time.thread_time()

    def check(self) -> None:
        now_s = time.thread_time()
        self.longest_s = max(self.longest_s, now_s - self._looked_s)
        self._looked_s = now_s
        self.looks += 1
        super().check()


class CancelledAtLook(Stopwatch):
    def __init__(self, look: int) -> None:
        super().__init__()
        self._last_look = look

    def check(self) -> None:
        assert self.looks < self._last_look, "worked on after the cancellation"
        if self.looks == self._last_look - 1:
            self.cancel()
        super().check()


def harmonic_tone(fundamental_hz: float, duration_s: float = 2.0, noise: float = 0.0) -> Waveform:
    """A tone with all harmonics up to 5 kHz, a slight vibrato and a swelling loudness, like a hummed vowel."""
    times_s = np.arange(round(duration_s * 24000)) / 24000
    moving_hz = fundamental_hz * (1 + 0.03 * np.sin(2 * np.pi * 2 * times_s))
    phase = 2 * np.pi * np.cumsum(moving_hz) / 24000
    tone = sum(np.sin(k * phase + k) / k for k in range(1, int(5000 / fundamental_hz)))
    tone = 0.3 * tone / np.max(np.abs(tone)) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * times_s))
    hiss = np.random.default_rng(0).standard_normal(len(tone)) * noise
    return Waveform((tone + hiss).astype(np.float32), 24000)
