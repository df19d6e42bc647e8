"""A linear layer whose weights lie as the processor wants to read them, in 8, 16 or 32 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from engines.chatterbox.t3.processor import memory, multiplying
from engines.chatterbox.t3.processor.memory import Shelf
from engines.chatterbox.t3.processor.products import SETTLED
from engines.chatterbox.t3.processor.sharing import DESK
from engines.chatterbox.t3.processor.team import Team, team
from engines.chatterbox.t3.processor.vectors import CELL, GROUP, HAS_TILES, OUTPUTS, TILE_ROWS

# What stands for the kind of the weights (`vectors`).
LIKE: dict[str, NDArray[Any]] = {
    "fp32": np.empty(0, np.float32),
    "fp16": np.empty(0, np.int16),
    "bf16": np.empty(0, np.uint32),
    "int8": np.empty(0, np.int8),
}
WHOLE = {"fp16": 32767, "int8": 127}  # the greatest of weights that are whole numbers
WIDEST = GROUP * OUTPUTS  # outputs of which there are always a multiple, though the last may be nobody's


def room_for_whole(rows: int, inputs: int) -> NDArray[Any]:
    """Room for inputs as whole numbers, int16 or of two digits, of which those of 16 rows lie together."""
    return memory.zeros((-(-rows // TILE_ROWS) * TILE_ROWS, inputs), np.int16)


def of_rows(rows: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Offsets and scales of rows of inputs, as they are where inputs are not whole numbers."""
    filled = rows + TILE_ROWS
    return np.zeros(filled, np.int32), np.ones(filled, np.float32)


def tickets_for(pieces: int, workers: Team) -> NDArray[np.int64]:
    """For so many pieces of work that workers share."""
    return memory.zeros((pieces, workers.size, DESK // 8), np.int64)


class Matrix:
    """Takes (n, inputs) to (n, outputs), float32; a row's results do not depend on the others.

    Weights are packed in blocks of 4 outputs, a block in cells: 64 bytes of its first output, then of the second and so
    on. In `fp16` and `int8` they are whole numbers of 16 and 8 bits with a scale for each output: of the same size,
    those of 16 bits are some four times nearer to what they stand for than half-precision floats. With weights of 8
    bits, which are kept 128 above what they are, inputs are whole numbers too, of 15 bits with a scale for each row:
    their sums are exact.
    """

    def __init__(
        self, shelf: Shelf, precision: str, weight: Tensor, bias: Tensor | None, *, has_tiles: bool = HAS_TILES
    ) -> None:
        """`weight` (outputs, inputs) and `bias` (outputs,) are float32."""
        self.like = LIKE[precision]
        self.outputs, self.inputs = weight.shape
        self._scales = np.ones(
            -(-self.outputs // WIDEST) * WIDEST + SETTLED, np.float32
        )  # some are read beyond the last
        if precision in WHOLE:
            scales = (weight.abs().amax(dim=1) / WHOLE[precision]).clamp_min(1e-12)
            self._scales[: self.outputs] = scales
            weight = (weight / scales[:, None]).round_()
            weight = (weight + 128).to(torch.uint8) if precision == "int8" else weight.to(torch.int16)
        elif precision == "bf16":
            weight = weight.bfloat16().view(torch.int16)
        self._cells = shelf.put(_packed(weight.contiguous().numpy()))
        self._biases: NDArray[np.float32] | None = None
        if bias is not None:
            self._biases = np.zeros_like(self._scales)
            self._biases[: self.outputs] = bias
        self.facts = np.array(
            [
                self._cells.ctypes.data,
                self._scales.ctypes.data,
                0 if self._biases is None else self._biases.ctypes.data,
                self.outputs,
                self._cells.shape[1],
                has_tiles and precision == "int8",
            ]
        )

    @property
    def depth(self) -> int:
        """Inputs, with those that fill the last cell up."""
        return int(self._cells.shape[1] * self._cells.shape[3])

    def __call__(self, x: Tensor, workers: Team | None = None) -> Tensor:
        if x.shape[1] != self.inputs:
            raise ValueError(f"{x.shape[1]} inputs for a matrix that takes {self.inputs}")
        inputs = F.pad(x, (0, self.depth - self.inputs)).contiguous().numpy()
        results = torch.empty(len(x), self.outputs)
        whole = room_for_whole(*inputs.shape)
        workers = workers or team()
        corners = memory.zeros((workers.size, multiplying.CORNER), np.float32)
        tickets, (offsets, scales) = tickets_for(1, workers), of_rows(len(x))
        workers.run(
            multiplying.product,
            tickets,
            self.like,
            self.facts,
            inputs,
            whole,
            offsets,
            scales,
            results.numpy(),
            corners,
        )
        return results


def _packed(weight: NDArray[Any]) -> NDArray[Any]:
    """(outputs, inputs) as (blocks, cells, 4, numbers of 64 bytes), zeros where there is nothing."""
    outputs, inputs = weight.shape
    wide = CELL // weight.itemsize
    blocks, cells = -(-outputs // WIDEST) * GROUP, -(-inputs // wide)
    padded = np.zeros((blocks * OUTPUTS, cells * wide), weight.dtype)
    padded[:outputs, :inputs] = weight
    return padded.reshape(blocks, OUTPUTS, cells, wide).transpose(0, 2, 1, 3)
