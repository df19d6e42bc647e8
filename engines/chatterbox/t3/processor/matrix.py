"""A linear layer whose weights lie as the processor wants to read them, in 8, 16 or 32 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from engines.chatterbox.t3.processor import functions, memory
from engines.chatterbox.t3.processor.instructions import CELL, HAS_TILES, OUTPUTS, TILE_ROWS
from engines.chatterbox.t3.processor.memory import Shelf
from engines.chatterbox.t3.processor.team import Team, team

# What stands for the kind of the weights (`instructions`).
LIKE: dict[str, NDArray[Any]] = {
    "fp32": np.empty(0, np.float32),
    "fp16": np.empty(0, np.int16),
    "bf16": np.empty(0, np.uint32),
    "int8": np.empty(0, np.int8),
}
# Of weights that are whole numbers: what they are kept as, and the greatest.
WHOLE = {"fp16": (torch.int16, 32767), "int8": (torch.int8, 127)}


def room_for_whole(rows: int, inputs: int) -> NDArray[Any]:
    """Room for inputs as whole numbers, int16 or of two digits, of which those of 16 rows lie together."""
    return memory.zeros((-(-rows // TILE_ROWS) * TILE_ROWS, inputs), np.int16)


class Matrix:
    """Takes (n, inputs) to (n, outputs), float32; a row's results do not depend on the others.

    Weights are packed in cells: 8 outputs by as many inputs as 64 bytes hold, the cells of the same outputs one after
    another. In `fp16` and `int8` they are whole numbers of 16 and 8 bits with a scale for each output: of the same
    size, those of 16 bits are some four times nearer to what they stand for than half-precision floats. With weights
    of 8 bits inputs are whole numbers too, of 15 bits with a scale for each row: their sums are exact.
    """

    def __init__(
        self, shelf: Shelf, precision: str, weight: Tensor, bias: Tensor | None, *, has_tiles: bool = HAS_TILES
    ) -> None:
        """`weight` (outputs, inputs) and `bias` (outputs,) are float32."""
        self.like = LIKE[precision]
        self.outputs, self.inputs = weight.shape
        self._scales: NDArray[np.float32] | None = None
        if precision in WHOLE:
            dtype, greatest = WHOLE[precision]
            scales = (weight.abs().amax(dim=1) / greatest).clamp_min(1e-12)
            self._scales = np.ascontiguousarray(scales.numpy())
            weight = (weight / scales[:, None]).round_().to(dtype)
        elif precision == "bf16":
            weight = weight.bfloat16().view(torch.int16)
        self._cells = shelf.put(_packed(weight.contiguous().numpy()))
        self._biases = None if bias is None else np.ascontiguousarray(bias.numpy())
        self.facts = np.array(
            [
                _address(self._cells),
                _address(self._scales),
                _address(self._biases),
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
        corners = memory.zeros((workers.size, functions.CORNER), np.float32)
        scales, tickets = np.empty(len(x), np.float32), np.zeros(1, np.int64)
        workers.run(functions.product, tickets, self.like, self.facts, inputs, whole, scales, results.numpy(), corners)
        return results


def _packed(weight: NDArray[Any]) -> NDArray[Any]:
    """(outputs, inputs) as (blocks, cells, 8, numbers of 64 bytes), zeros where there is nothing."""
    outputs, inputs = weight.shape
    wide = CELL // weight.itemsize
    blocks, cells = -(-outputs // OUTPUTS), -(-inputs // wide)
    padded = np.zeros((blocks * OUTPUTS, cells * wide), weight.dtype)
    padded[:outputs, :inputs] = weight
    return padded.reshape(blocks, OUTPUTS, cells, wide).transpose(0, 2, 1, 3)


def _address(array: NDArray[Any] | None) -> int:
    return 0 if array is None else int(array.ctypes.data)
