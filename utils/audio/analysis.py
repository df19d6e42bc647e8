"""What is heard in a recording when it comes in: its length, rate, format and loudness, and how fit it is to clone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from resilience.errors import InvalidAudio
from utils.audio.decode import BLOCK_FRAMES, SHORTEST_S, bounded_blocks, open_recording
from utils.audio.waveform import Waveform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What was heard when a file came in.

    The duration is that of the samples, whatever a header says. `format` is by content: wav, mp3, flac, ogg, opus, aac,
    m4a, webm, aiff. The loudness is None under 0.4 s and where nothing passes the standard's gates; the peak is the
    largest sample's, None for digital silence.
    """

    duration_s: float
    sample_rate: int
    channels: int
    format: str
    loudness_lufs: float | None
    peak_dbfs: float | None


@dataclass(frozen=True, slots=True)
class Heard:
    """`quality` is `quality.Judge.verdict`'s, JSON-ready, where it was asked for."""

    facts: AudioFacts
    quality: dict[str, Any] | None


def listen(
    recording: Path | BinaryIO, longest_s: float, check: Callable[[], None] = lambda: None, *, judge: bool = False
) -> Heard:
    """Decode a recording once, in the memory of some blocks, to its end.

    `check` is called between blocks and may raise to leave. Raises InvalidAudio for all that `decode.read_recording`
    refuses and, as UnusableAudio, for what lasts longer than `longest_s` or has more samples than that long at a usual
    rate (`decode.bounded_blocks`), which is not decoded any further.
    """
    from utils.audio.quality import Judge

    with open_recording(recording) as opened:
        rate = opened.sample_rate
        measures = FactsMeter(rate, opened.channels)
        judgement = Judge(rate, opened.channels) if judge else None
        for block in bounded_blocks(opened, longest_s, check):
            measures.add(block)
            if judgement:
                judgement.add(block)
        if measures.count < SHORTEST_S * rate:
            raise InvalidAudio(f"the recording is shorter than {SHORTEST_S} seconds")
        facts = measures.facts(opened.format)
    return Heard(facts, judgement.verdict(facts.duration_s, facts.loudness_lufs) if judgement else None)


def facts_of(waveform: Waveform, format_name: str) -> AudioFacts:
    """Of samples that were made here and need not be decoded."""
    measures = FactsMeter(waveform.sample_rate, 1)
    for start in range(0, len(waveform.samples), BLOCK_FRAMES):  # as it is decoded: measuring makes copies
        measures.add(waveform.samples[start : start + BLOCK_FRAMES].reshape(-1, 1))
    return measures.facts(format_name)


class FactsMeter:
    """Takes the measures of samples that come in blocks, shape (n, channels)."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        from utils.audio.loudness import LoudnessMeter

        self.count = 0
        self._sample_rate, self._channels = sample_rate, channels
        self._peak = 0.0
        self._meter = LoudnessMeter(sample_rate, channels)

    def add(self, block: NDArray[np.float32]) -> None:
        self.count += len(block)
        self._peak = max(self._peak, float(block.max(initial=0.0)), -float(block.min(initial=0.0)))
        self._meter.add(block)

    def facts(self, format_name: str) -> AudioFacts:
        """Of all that was added."""
        loudness_lufs = self._meter.integrated_lufs
        return AudioFacts(
            duration_s=self.count / self._sample_rate,
            sample_rate=self._sample_rate,
            channels=self._channels,
            format=format_name,
            loudness_lufs=None if loudness_lufs is None else round(loudness_lufs, 2),
            peak_dbfs=round(20 * math.log10(self._peak), 2) if self._peak else None,
        )
