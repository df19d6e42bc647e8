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

from engines.chatterbox.device import has_amx

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
    """A quarter of the bytes: whole numbers of 8 bits, and a scale for each output. Activations keep 14 or 16 bits."""
    weight_scale = (weight.abs().amax(dim=1) / 127).clamp_min(1e-12)
    whole = (weight / weight_scale[:, None]).round_().to(torch.int8)
    bits = 8 if has_amx() else 7
    product = (_onednn_product if has_amx() else _fbgemm_product)(whole, weight_scale, 1 << (bits - 1))

    def multiply(x: Tensor) -> Tensor:
        digits, scale = _digits(x, bits)
        high, low = product(digits).view(2, len(x), -1)
        sums = torch.add(low, high, alpha=1 << bits)
        return sums.mul_(scale) if bias is None else torch.addcmul(bias, sums, scale)

    return multiply


def _digits(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """x (n, inputs) as whole numbers of two digits, and what one is worth, (n, 1): so each row has a scale of its own.

    The digits are (2 * n, inputs) uint8, all high ones before the low ones, and stand for themselves less half of
    their range. Sums of them are exact, so a row's product is the same whatever the others are.
    """
    base, half = 1 << bits, 1 << (bits - 1)
    scale = x.abs().amax(dim=1, keepdim=True).clamp_min_(1e-30).mul_(1 / (base * (half - 1)))
    whole = x.div(scale).add_(half * base + half + 0.5).to(torch.int32)  # all positive: cutting off the rest rounds
    digits = torch.empty(2, *x.shape, dtype=torch.uint8)
    digits[0] = whole >> bits
    digits[1] = whole.bitwise_and_(base - 1)
    return digits.view(-1, x.shape[1]), scale


def _onednn_product(weight: Tensor, scale: Tensor, zero: int) -> Callable[[Tensor], Tensor]:
    """Digits of which `zero` stands for nothing, times int8 weights: the fastest where there is AMX."""
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    zeros = torch.zeros(len(weight), dtype=torch.int64)
    multiply = torch.ops.onednn.qlinear_pointwise  # here without a bias, with float32 results and nothing after them
    return lambda digits: multiply(digits, 1.0, zero, packed, scale, zeros, None, 1.0, 0, torch.float32, "none", [], "")


def _fbgemm_product(weight: Tensor, scale: Tensor, zero: int) -> Callable[[Tensor], Tensor]:
    """The same on any x86. Without VNNI two products of 8-bit digits can overflow their 16-bit sum, of 7 bits never."""
    zeros = torch.zeros(len(weight), dtype=torch.int64)
    quantized = torch._make_per_channel_quantized_tensor(weight, scale.double(), zeros, 0)
    packed = torch.ops.quantized.linear_prepack(quantized, None)
    multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
    return lambda digits: multiply(digits.float().sub_(zero), 1.0, zero, packed)  # it adds the zero again
