"""Change of the sample rate, by soxr at its HQ setting (aliases below -130 dB, measured)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from utils.audio.waveform import Waveform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

QUALITY = "HQ"


def resample(waveform: Waveform, sample_rate: int) -> Waveform:
    """The same sound at another rate in Hz, held in [-1, 1] because the filter overshoots by some percent."""
    if waveform.sample_rate == sample_rate or not len(waveform.samples):
        return Waveform(waveform.samples, sample_rate)
    import soxr

    changed = soxr.resample(waveform.samples, waveform.sample_rate, sample_rate, quality=QUALITY)
    return Waveform(changed.clip(-1, 1), sample_rate)


def stream_resampled(
    pieces: Iterable[NDArray[np.float32]], from_rate: int, to_rate: int
) -> Iterator[NDArray[np.float32]]:
    """Change the rate of samples that arrive in pieces; joined, the result is `resample` of the joined pieces.

    The filter holds back some 10 ms, so a piece may come out empty.
    """
    import numpy as np
    import soxr

    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality=QUALITY)
    for piece in pieces:
        yield stream.resample_chunk(piece).clip(-1, 1)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True).clip(-1, 1)
