"""What has to be known of a clip before it is joined to others, measured in one pass and in the memory of a block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.audio.decode import bounded_blocks
from utils.audio.long_recording import opened
from utils.audio.waveform import Extent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Level:
    """Loudness by BS.1770-4, of short clips by their mean; None where nothing passes the gate. 1 is full scale."""

    loudness_lufs: float | None
    true_peak: float


@dataclass(frozen=True, slots=True)
class Measures:
    """A clip as it is decoded; its level as one channel and as two; where its speech begins and ends, in samples."""

    extent: Extent
    mono: Level
    stereo: Level
    speech: tuple[int, int]

    def level(self, channels: int) -> Level:
        return self.mono if channels == 1 else self.stereo

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> Measures:
        first, last = said["speech"]
        return cls(Extent(**said["extent"]), Level(**said["mono"]), Level(**said["stereo"]), (first, last))


def measure(path: Path, longest_s: float, check: Check = lambda: None) -> Measures:
    """Listen to the whole clip. Takes some 0.002 s of a thread per second of audio.

    `check` is called between blocks and may raise to leave. Raises InvalidAudio as `decode.open_recording` does,
    UnusableAudio for what lasts longer (`decode.bounded_blocks`), and FileMissing.
    """
    from utils.audio.channels import mixed
    from utils.audio.trim import EdgeListener

    with opened(path) as file:
        count, rate = 0, file.sample_rate
        mono = _LevelMeter(rate, 1)
        stereo = _LevelMeter(rate, 2) if file.channels == 2 else None
        listener = EdgeListener(rate)
        for block in bounded_blocks(file, longest_s, check):
            count += len(block)
            one = mixed(block, 1)
            mono.add(one)
            listener.add(one[:, 0])
            if stereo:
                stereo.add(block)
        extent = Extent(count, rate, file.channels)
    level = mono.level()
    return Measures(extent, level, stereo.level() if stereo else _on_both_sides(level), listener.edges)


def measure_extent(path: Path, longest_s: float, check: Check = lambda: None) -> Extent:
    """Only how much it is, of which nothing but decoding tells. As `measure`."""
    with opened(path) as file:
        count = sum(len(block) for block in bounded_blocks(file, longest_s, check))
        return Extent(count, file.sample_rate, file.channels)


class _LevelMeter:
    def __init__(self, sample_rate: int, channels: int) -> None:
        from utils.audio.limiter import TRUE_PEAK_HOP, TruePeaks
        from utils.audio.loudness import LoudnessMeter

        self._meter = LoudnessMeter(sample_rate, channels)
        self._peaks = [TruePeaks(TRUE_PEAK_HOP) for _ in range(channels)]
        self._peak = 0.0

    def add(self, block: NDArray[np.float32]) -> None:
        self._meter.add(block)
        for channel, peaks in enumerate(self._peaks):
            self._peak = max(self._peak, float(peaks.add(block[:, channel]).max(initial=0.0)))

    def level(self) -> Level:
        """Of all that was added; nothing can be added any more."""
        rest = (float(peaks.rest().max(initial=0.0)) for peaks in self._peaks)
        return Level(self._meter.level_lufs, max(self._peak, *rest))


def _on_both_sides(level: Level) -> Level:
    """What one channel is like when both sides play it: twice the power."""
    from utils.audio.loudness import TWICE_LU

    return Level(None if level.loudness_lufs is None else level.loudness_lufs + TWICE_LU, level.true_peak)
