"""From float samples to whole numbers, each of them in one way wherever it is needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def to_16_bits(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Full scale is 32767 on both sides; what exceeds it is held there."""
    return np.round(samples.clip(-1, 1) * 32767).astype("<i2")


def to_24_bits(samples: NDArray[np.float32]) -> NDArray[np.int32]:
    """The upper 24 of 32 bits. Full scale is 2**23, as libsndfile has it in its FLAC files; what exceeds it is held."""
    whole = np.rint(samples.astype(np.float64) * 0x800000).clip(-0x800000, 0x7FFFFF)
    return np.left_shift(whole.astype(np.int32), 8)
