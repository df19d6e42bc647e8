"""Linear layers for a step of a few rows: which kernel multiplies, by precision and device.

Decoding reads every weight once per token, so its speed is that of memory: half the bytes are nearly half the time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

logger = logging.getLogger(__name__)

Precision = Literal["fp32", "fp16", "bf16", "int8"]
Linear = Callable[[Tensor], Tensor]  # (n, inputs) to (n, outputs), in the dtype of `stream_dtype`
Packer = Callable[[Tensor, Tensor | None], Linear]  # weight (outputs, inputs) and bias (outputs,), both float32

HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
FBGEMM_ENGINES = ("fbgemm", "x86")
# Where MKL multiplies few rows by F.linear it reads the weights at a third of the memory's speed or less (4 rows by
# 1024 x 8192 on a Zen core: 9.5 ms, against 3.8 ms with the weight on the left; 1 and 2 rows are as fast either way).
FEW_ROWS = range(3, 33)


def usable_precision(precision: Precision, device: torch.device) -> Precision:
    """`precision`, or "fp32" where its kernels are FBGEMM's and this processor has none.

    Raises ValueError for a precision that no kernel of the device offers.
    """
    if precision == "int8" and device.type != "cpu":
        raise ValueError(f"int8 weights are for the CPU; {device} takes fp32, fp16 or bf16")
    needs_fbgemm = device.type == "cpu" and precision in ("fp16", "int8")
    if needs_fbgemm and torch.backends.quantized.engine not in FBGEMM_ENGINES:
        logger.warning("t3_precision asked=%s used=fp32 engine=%s", precision, torch.backends.quantized.engine)
        return "fp32"
    return precision


def stream_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """What flows between the layers: float32 on the CPU, whatever the weights; on others that of the weights."""
    return torch.float32 if device.type == "cpu" else HALVES.get(precision, torch.float32)


def packer(precision: Precision, device: torch.device) -> Packer:
    """How this precision's linear layers are made; `precision` is one that `usable_precision` gave."""
    if device.type != "cpu":
        return lambda weight, bias: _plain(weight, bias, stream_dtype(precision, device))
    return {"fp32": _float32, "fp16": _float16_weights, "bf16": _bfloat16, "int8": _int8}[precision]


def _plain(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Linear:
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    return lambda x: F.linear(x, weight, bias)


def _float32(weight: Tensor, bias: Tensor | None) -> Linear:
    column = None if bias is None else bias[:, None]

    def multiply(x: Tensor) -> Tensor:
        if len(x) not in FEW_ROWS:
            return F.linear(x, weight, bias)
        product = weight @ x.t() if column is None else torch.addmm(column, weight, x.t())
        return product.t().contiguous()

    return multiply


def _float16_weights(weight: Tensor, bias: Tensor | None) -> Linear:
    """Half the bytes, float32 activations and sums. A weight beyond 65504 would be cut to that; no T3 has one."""
    packed = torch.ops.quantized.linear_prepack_fp16(weight.contiguous(), bias)
    return lambda x: torch.ops.quantized.linear_dynamic_fp16(x.contiguous(), packed)


def _bfloat16(weight: Tensor, bias: Tensor | None) -> Linear:
    """Pays only on processors that multiply bfloat16 (avx512_bf16, amx); others take seven times float32's time."""
    multiply = _plain(weight, bias, torch.bfloat16)
    return lambda x: multiply(x.bfloat16()).float()


def _int8(weight: Tensor, bias: Tensor | None) -> Linear:
    """A quarter of the bytes: a scale for each output, and one for all activations of a call."""
    scales = (weight.abs().amax(dim=1) / 127).clamp_min(1e-12).double()
    zeros = torch.zeros(len(weight), dtype=torch.int64)
    quantized = torch.quantize_per_channel(weight.contiguous(), scales, zeros, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(quantized, bias)
    # Without VNNI the products of full 8-bit activations overflow their 16-bit sums: the range is reduced to 7 bits.
    return lambda x: torch.ops.quantized.linear_dynamic(x.contiguous(), packed, True)
