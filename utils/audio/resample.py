"""Change of the sample rate, by soxr at its HQ setting (aliases below -130 dB, measured)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from utils.audio.waveform import Waveform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

QUALITY = "HQ"
MISS = 4  # samples by which a stream may miss the length that the rates promise


def resample(waveform: Waveform, sample_rate: int) -> Waveform:
    """The same sound at another rate in Hz, held in [-1, 1] because the filter overshoots by some percent."""
    if waveform.sample_rate == sample_rate or not len(waveform.samples):
        return Waveform(waveform.samples, sample_rate)
    import soxr

    changed = soxr.resample(waveform.samples, waveform.sample_rate, sample_rate, quality=QUALITY)
    return Waveform(changed.clip(-1, 1), sample_rate)


class StreamResampler:
    """Changes the rate of samples that arrive in pieces; joined, the result is `resample` of the joined pieces.

    The filter holds back some 10 ms, so a piece may come out empty.
    """

    def __init__(self, from_rate: int, to_rate: int, channels: int = 1) -> None:
        """Pieces have the shape (n,), or (n, channels) if there are several."""
        import soxr

        self._nothing = (0,) if channels == 1 else (0, channels)
        self._stream = soxr.ResampleStream(from_rate, to_rate, channels, dtype="float32", quality=QUALITY)

    def add(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        changed: NDArray[np.float32] = self._stream.resample_chunk(samples).clip(-1, 1)
        return changed

    def rest(self) -> NDArray[np.float32]:
        """What was held back; nothing can be added any more."""
        import numpy as np

        changed: NDArray[np.float32] = self._stream.resample_chunk(np.zeros(self._nothing, np.float32), last=True).clip(
            -1, 1
        )
        return changed


def stream_resampled(
    pieces: Iterable[NDArray[np.float32]], from_rate: int, to_rate: int
) -> Iterator[NDArray[np.float32]]:
    """As `StreamResampler`, of pieces that are taken as they are needed."""
    stream = StreamResampler(from_rate, to_rate)
    for piece in pieces:
        yield stream.add(piece)
    yield stream.rest()
