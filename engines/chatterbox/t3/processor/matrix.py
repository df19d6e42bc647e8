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

LIKE: dict[str, NDArray[Any]] = {
    "fp32": np.empty(0, np.float32),
    "fp16": np.empty(0, np.uint16),
    "bf16": np.empty(0, np.int16),
    "int8": np.empty(0, np.int8),
}


def room_for_whole(rows: int, inputs: int) -> NDArray[Any]:
    """Room for inputs as whole numbers, int16 or of two digits, of which those of 16 rows lie together."""
    return memory.zeros((-(-rows // TILE_ROWS) * TILE_ROWS, inputs), np.int16)


class Matrix:
    """Takes (n, inputs) to (n, outputs), float32; a row's results do not depend on the others.

    Weights are packed in cells: 16 outputs by as many inputs as 64 bytes hold, the cells of the same outputs one after
    another. int8 weights have a scale for each output, and inputs are whole numbers of 15 bits then, with a scale for
    each row: their sums are exact.
    """

    def __init__(
        self, shelf: Shelf, precision: str, weight: Tensor, bias: Tensor | None, *, has_tiles: bool = HAS_TILES
    ) -> None:
        """`weight` (outputs, inputs) and `bias` (outputs,) are float32."""
        self.like = LIKE[precision]
        self.outputs, self.inputs = weight.shape
        self._scales, whole = None, weight
        if precision == "int8":
            scales = (weight.abs().amax(dim=1) / 127).clamp_min(1e-12)
            self._scales = np.ascontiguousarray(scales.numpy())
            whole = (weight / scales[:, None]).round()
        self._cells = shelf.put(_packed(_numbers(whole, precision).view(self.like.dtype)))
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
        return int(self._cells.shape[1]) * CELL // self.like.itemsize

    def __call__(self, x: Tensor, workers: Team | None = None) -> Tensor:
        inputs = F.pad(x, (0, self.depth - self.inputs)).contiguous().numpy()
        results = torch.empty(len(x), self.outputs)
        whole = room_for_whole(*inputs.shape)
        workers = workers or team()
        corners = memory.zeros((workers.size, functions.CORNER), np.float32)
        scales, tickets = np.empty(len(x), np.float32), np.zeros(1, np.int64)
        workers.run(functions.product, tickets, self.like, self.facts, inputs, whole, scales, results.numpy(), corners)
        return results


def _numbers(weight: Tensor, precision: str) -> NDArray[Any]:
    """The weights as bits of their kind; a weight beyond 65504 would be infinite in fp16, and no T3 has one."""
    if precision == "bf16":
        return weight.bfloat16().view(torch.int16).numpy()
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "int8": torch.int8}[precision]
    return weight.to(dtype).contiguous().numpy()


def _packed(weight: NDArray[Any]) -> NDArray[Any]:
    """(outputs, inputs) as (blocks, cells, 16, numbers of 64 bytes), zeros where there is nothing."""
    outputs, inputs = weight.shape
    wide = CELL // weight.itemsize
    blocks, cells = -(-outputs // OUTPUTS), -(-inputs // wide)
    padded = np.zeros((blocks * OUTPUTS, cells * wide), weight.dtype)
    padded[:outputs, :inputs] = weight
    return padded.reshape(blocks, OUTPUTS, cells, wide).transpose(0, 2, 1, 3)


def _address(array: NDArray[Any] | None) -> int:
    return 0 if array is None else int(array.ctypes.data)
