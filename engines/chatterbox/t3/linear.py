"""Linear layers: who multiplies, by precision and device.

Decoding reads every weight once per token, so its speed is that of memory: half the bytes are nearly half the time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.chatterbox.t3.processor.memory import Shelf

Precision = Literal["fp32", "fp16", "bf16", "int8"]
Linear = Callable[[Tensor], Tensor]  # (n, inputs) to (n, outputs), in the dtype of `stream_dtype`
Packer = Callable[[Tensor, Tensor | None], Linear]  # weight (outputs, inputs) and bias (outputs,), both float32

HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def stream_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """What flows between the layers: float32 on the CPU, whatever the weights; on others that of the weights."""
    return torch.float32 if device.type == "cpu" else HALVES.get(precision, torch.float32)


def packer(precision: Precision, device: torch.device) -> Packer:
    """How this precision's linear layers are made. Raises ValueError for one that the device has no kernels for."""
    if device.type == "cpu":
        from engines.chatterbox.t3.processor.matrix import Matrix  # with numba, which other devices do without

        return partial(Matrix, Shelf(), precision)
    if precision == "int8":
        raise ValueError(f"int8 weights are for the CPU; {device} takes fp32, fp16 or bf16")
    return partial(_plain, stream_dtype(precision, device))


def _plain(dtype: torch.dtype, weight: Tensor, bias: Tensor | None) -> Linear:
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    return lambda x: F.linear(x, weight, bias)
