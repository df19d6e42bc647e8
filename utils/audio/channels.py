"""From any number of channels to one or two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mixed(block: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """A block of shape (n, any) as (n, channels), where channels are 1 or 2; as it is if it has so many.

    One channel is the mean of all; two of one are alike; of more than two they are both the mean, since nothing says
    which of them is on which side.
    """
    if block.shape[1] == channels:
        return block
    mono = block if block.shape[1] == 1 else block.mean(axis=1, keepdims=True)
    return mono if channels == 1 else np.repeat(mono, channels, axis=1)
