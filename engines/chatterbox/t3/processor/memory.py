"""Memory that is read fast: in huge pages where it is large, and never across a line of the cache without need."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LINE = 64  # bytes
PIECE = 64 * 1024 * 1024


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Begins at a line; numpy asks the system for huge pages from 4 MB on."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return _aligned(np.zeros(size + LINE, np.uint8))[:size].view(dtype).reshape(shape)


class Shelf:
    """Where the weights of a model lie, in pieces so large that they are made of huge pages.

    Through ordinary ones a processor reads a quarter less in the same time. The memory goes with the last matrix on it.
    """

    def __init__(self) -> None:
        self._piece = np.empty(0, np.uint8)

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array's copy on the shelf."""
        if array.nbytes > len(self._piece):
            self._piece = _aligned(np.empty(max(PIECE, array.nbytes) + LINE, np.uint8))
        place, self._piece = np.split(self._piece, [-(-array.nbytes // LINE) * LINE])
        copy = place[: array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy


def _aligned(memory: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return memory[-memory.ctypes.data % LINE :]
