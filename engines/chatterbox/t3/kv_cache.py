"""Keys and values of all rows that are being decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engines.chatterbox.t3.backbone import Shape
from engines.chatterbox.t3.processor import memory

NUMPY_OF = {torch.float32: np.float32, torch.float16: np.float16}
BLOCK = 256  # positions by which the rows grow; a multiple of 8, for as many are attended to at a time


class KVCache:
    """A row for each stream of tokens, rows 0 to `rows` - 1 without gaps; row r knows its first `lengths[r]` positions.

    `keys` and `values` are (layers, row capacity, heads, room, head_dim). What lies beyond a row's length is finite,
    and must be masked. Memory is taken when rows come or grow, and given back when the last leaves.
    """

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device) -> None:
        self._shape = shape
        self._dtype, self._device = dtype, device
        self.lengths: list[int] = []
        self.keys, self.values = self._nothing(), self._nothing()

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @property
    def size_bytes(self) -> int:
        return 2 * int(self.keys.numel()) * int(self.keys.element_size())

    @property
    def room(self) -> int:
        """Positions that there is room for in every row."""
        return int(self.keys.shape[3])

    def advance(self) -> None:
        """Every row has learned one more position."""
        self.lengths = [length + 1 for length in self.lengths]

    def add(self, beginning: KeyValues, room: int) -> int:
        """A new row that starts as a copy of `beginning`, with room for `room` positions in all; its index."""
        row, known = self.rows, beginning.length
        self._grow(row + 1, max(room, known))
        self.keys[:, row, :, :known] = beginning.keys
        self.values[:, row, :, :known] = beginning.values
        self.lengths.append(known)
        return row

    def remove(self, row: int) -> int:
        """Let a row go; the last row takes its place. The index that the moved row had, equal to `row` if none did."""
        last = self.rows - 1
        known = self.lengths[last]
        if row != last:
            for store in (self.keys, self.values):
                store[:, row, :, :known] = store[:, last, :, :known]
            self.lengths[row] = known
        self.lengths.pop()
        if not self.lengths:
            self._release()
        return last

    def truncate(self, rows: int) -> None:
        """Only the first `rows` rows stay: whatever came after them goes, and what an `add` that failed had begun."""
        del self.lengths[rows:]
        if not self.lengths:
            self._release()

    def reserve(self, length: int) -> None:
        """Room for `length` positions in every row."""
        self._grow(self.rows, length)

    def copy(self, row: int, length: int) -> KeyValues:
        """The first `length` positions of a row."""
        return KeyValues(self.keys[:, row, :, :length].clone(), self.values[:, row, :, :length].clone())

    def _grow(self, rows: int, length: int) -> None:
        _, have_rows, _, have_length, _ = self.keys.shape
        if rows <= have_rows and length <= have_length:
            return
        rows = rows if rows <= have_rows else max(rows, min(2 * have_rows, have_rows + 8))
        length = max(have_length, -(-length // BLOCK) * BLOCK)
        rows = max(rows, have_rows)
        # Both before either is replaced: short of memory half-way, the cache is what it was.
        self.keys, self.values = self._grown(self.keys, rows, length), self._grown(self.values, rows, length)

    def _grown(self, store: Tensor, rows: int, length: int) -> Tensor:
        # zeros, not empty: a masked value counts nothing, unless it is infinite or no number
        new = self._zeros(rows, length)
        new[:, : self.rows, :, : store.shape[3]] = store[:, : self.rows]
        return new

    def _release(self) -> None:
        self.keys, self.values = self._nothing(), self._nothing()

    def _nothing(self) -> Tensor:
        return self._zeros(0, 0)

    def _zeros(self, rows: int, length: int) -> Tensor:
        shape = (self._shape.layers, rows, self._shape.heads, length, self._shape.head_dim)
        if self._device.type == "cpu":
            return torch.from_numpy(memory.zeros(shape, NUMPY_OF[self._dtype]))
        return torch.zeros(shape, dtype=self._dtype, device=self._device)


@dataclass(frozen=True, slots=True, eq=False)
class KeyValues:
    """Keys and values of the positions 0 to n - 1 of one row: (layers, heads, n, head_dim) each, never changed."""

    keys: Tensor
    values: Tensor

    @classmethod
    def none(cls, shape: Shape, dtype: torch.dtype, device: torch.device) -> KeyValues:
        empty = torch.zeros(shape.layers, shape.heads, 0, shape.head_dim, dtype=dtype, device=device)
        return cls(empty, empty)

    @property
    def length(self) -> int:
        return int(self.keys.shape[2])

    @property
    def size_bytes(self) -> int:
        return int(self.keys.numel() + self.values.numel()) * int(self.keys.element_size())

    def first(self, length: int) -> KeyValues:
        return KeyValues(self.keys[:, :, :length], self.values[:, :, :length])
