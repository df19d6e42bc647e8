"""The network inside the flow, over upstream's parameters: channels last throughout, no masks where none are needed.

Every convolution of it looks to the left only, so padding at the end of a row can reach the row through attention
alone, and that is the one place where it is masked.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F

from engines.chatterbox.device import has_amx, has_bfloat16
from engines.chatterbox.recording import exclusive

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

Precision = Literal["fp32", "bf16"]
LENGTHS_APART = 64  # frames between the lengths that convolutions meet on a GPU


def best_precision(device: torch.device) -> Precision:
    """What is fastest without being heard: bf16 (mel spectrograms at some 60 dB) where the device computes in it."""
    if device.type == "cuda":
        return "bf16" if has_bfloat16(device) else "fp32"
    # Without its instructions a CPU emulates bf16, 7 times slower than it computes in fp32.
    has_units = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or has_amx())
    return "bf16" if has_units else "fp32"


@contextmanager
def convolving(device: torch.device, *, exactly: bool) -> Iterator[None]:
    """Within it a GPU convolves in float32 proper, or with the shorter factors of its tensor cores (TF32)."""
    if device.type != "cuda":
        yield
        return
    with exclusive, torch.backends.cudnn.flags(enabled=True, allow_tf32=not exactly):
        yield


class Estimator:
    """Upstream's `ConditionalDecoder`: the flow's direction at one time.

    In bf16 the linear layers of the transformer blocks compute in bf16, as a rule attention too; sums, norms and
    convolutions stay in float32, without which the mel spectrogram is 20 dB worse.
    """

    def __init__(self, module: Any, precision: Precision) -> None:
        self._module = module
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._down = [_Section(part, self._dtype) for part in module.down_blocks]
        self._middle = [_Section(part, self._dtype) for part in module.mid_blocks]
        self._up = [_Section(part, self._dtype) for part in module.up_blocks]
        self._final = _CausalBlock(module.final_block)

    def times(self, starts: Tensor, ends: Tensor) -> list[list[Tensor]]:
        """What the network is told of each step's time: a bias for each section, (width,), by step.

        `ends` is heeded by meanflow models only, which go from one time to another instead of along a tangent.
        """
        module = self._module
        embedded = module.time_mlp(module.time_embeddings(starts))
        if module.meanflow:
            end = module.time_mlp(module.time_embeddings(ends))
            embedded = module.time_embed_mixer(torch.cat([embedded, end], dim=1))
        biases = [section.time_bias(embedded) for section in (*self._down, *self._middle, *self._up)]
        return [list(step) for step in zip(*biases, strict=True)]

    def __call__(self, inputs: Tensor, time: Sequence[Tensor], is_real: Tensor | None) -> Tensor:
        """The direction, (rows, frames, 80), from inputs (rows, frames, 4 * 80): state, steering, speaker, prompt.

        `time` is one item of `times`. `is_real` is (rows, frames), None without padding; padded frames hold anything.
        """
        biases = iter(time)
        mask = None if is_real is None else self._mask(is_real)
        skips, hidden = [], inputs
        for section in self._down:
            hidden = section(hidden, next(biases), mask)
            skips.append(hidden)
            hidden = section.resample(hidden)
        for section in self._middle:
            hidden = section(hidden, next(biases), mask)
        for section in self._up:
            hidden = section(torch.cat([hidden, skips.pop()], dim=-1), next(biases), mask)
            hidden = section.resample(hidden)
        project = self._module.final_proj
        return F.linear(self._final(hidden), project.weight[..., 0], project.bias)

    def _mask(self, is_real: Tensor) -> Tensor:
        """What attention adds to its scores, (rows, 1, 1, frames): made once, where 56 blocks need it."""
        mask = torch.zeros(is_real.shape, dtype=_attends_in(self._dtype, is_real.device), device=is_real.device)
        return mask.masked_fill_(~is_real, -torch.inf)[:, None, None]


class _Section:
    """A residual block of convolutions, then transformer blocks; the outer sections end in one more convolution."""

    def __init__(self, part: Any, dtype: torch.dtype) -> None:
        self._residual, blocks = part[0], part[1]
        self._block1, self._block2 = _CausalBlock(self._residual.block1), _CausalBlock(self._residual.block2)
        self._transformers = [_Transformer(block, dtype) for block in blocks]
        self._resample = part[2] if len(part) > 2 else None

    def time_bias(self, embedded: Tensor) -> Tensor:
        return self._residual.mlp(embedded)

    def __call__(self, hidden: Tensor, time_bias: Tensor, mask: Tensor | None) -> Tensor:
        skip = self._residual.res_conv
        inner = self._block2(self._block1(hidden).add_(time_bias))
        hidden = F.linear(hidden, skip.weight[..., 0], skip.bias).add_(inner)
        for transformer in self._transformers:
            transformer.update(hidden, mask)
        return hidden

    def resample(self, hidden: Tensor) -> Tensor:
        return _causal_convolution(hidden, self._resample)


class _CausalBlock:
    def __init__(self, module: Any) -> None:
        self._convolution, self._norm = module.block[0], module.block[2]

    def __call__(self, hidden: Tensor) -> Tensor:
        return F.mish(self._norm(_causal_convolution(hidden, self._convolution)), inplace=True)


def _causal_convolution(hidden: Tensor, module: Any) -> Tensor:
    """Upstream's `CausalConv1d` on (rows, frames, channels), which is the order that oneDNN is fastest with.

    cuDNN looks for the best way anew at each length that it has not met, so there are few of them on a GPU: what is
    added at the end changes nothing before it.
    """
    frames = hidden.shape[1]
    left, right = module.causal_padding
    padded = F.pad(hidden, (0, 0, left, right + (-frames % LENGTHS_APART if hidden.is_cuda else 0)))
    image = padded.transpose(1, 2)[:, :, None]
    convolved = F.conv2d(image, module.weight[:, :, None], module.bias).squeeze(2).transpose(1, 2)
    return convolved[:, :frames]


class _Transformer:
    """Upstream's `BasicTransformerBlock` with query, key and value from one product."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        attention, forward = module.attn1, module.ff
        self._heads: int = attention.heads
        self._norm1, self._norm2 = module.norm1, module.norm3
        self._qkv = _joined([attention.to_q.weight, attention.to_k.weight, attention.to_v.weight]).to(dtype)
        self._out = _Linear(attention.to_out[0], dtype)
        self._widen, self._narrow = _Linear(forward.net[0].proj, dtype), _Linear(forward.net[2], dtype)
        self._attention_dtype = _attends_in(dtype, self._qkv.device)

    def update(self, hidden: Tensor, mask: Tensor | None) -> None:
        """Add what this block has to say to the residual stream, in place."""
        hidden += self._out(self._attend(self._norm1(hidden), mask))
        hidden += self._narrow(torch.ops.aten.gelu_(self._widen(self._norm2(hidden))))

    def _attend(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        rows, frames, _ = hidden.shape
        joined = F.linear(hidden.to(self._qkv.dtype), self._qkv).to(self._attention_dtype)
        query, key, value = joined.view(rows, frames, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return mixed.transpose(1, 2).reshape(rows, frames, -1)


class _Linear:
    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self._weight, self._bias = module.weight.detach().to(dtype), module.bias.detach().to(dtype)

    def __call__(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden.to(self._weight.dtype), self._weight, self._bias)


def _attends_in(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """A CPU with bf16 products still attends faster in float32, one that has matrix units (AMX) 3 times slower."""
    return dtype if device.type == "cuda" or has_amx() else torch.float32


def _joined(weights: Sequence[Tensor]) -> Tensor:
    """The matrices below one another. The parameters become views of it: their values stay, no memory is doubled."""
    joined = torch.cat([weight.detach() for weight in weights])
    for weight, part in zip(weights, joined.split([len(weight) for weight in weights]), strict=True):
        weight.data = part
    return joined
