"""Speech for tests that listen, by the embedded engine, each text and voice once."""

from __future__ import annotations

from functools import cache

import numpy as np

from engines.base import Cancellation, ChunkRequest, Sampling, VoicePrompt
from engines.embedded.engine import EmbeddedEngine
from utils.audio.waveform import Waveform

NEUTRAL = Sampling(exaggeration=0.5, temperature=0.8, cfg_weight=0.5)


@cache
def _engine() -> EmbeddedEngine:
    engine = EmbeddedEngine()
    engine.load(lambda _: None)
    return engine


@cache
def say(text: str, voice: str = "clara", seed: int = 1) -> Waveform:
    chunk = ChunkRequest(text, "en", VoicePrompt(voice), NEUTRAL, seed)
    pieces = list(_engine().speak(chunk, None, Cancellation()))
    return Waveform(np.concatenate([piece.samples for piece in pieces]), pieces[0].sample_rate)
