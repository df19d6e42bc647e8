"""Speech tokens to what the flow is steered by: upstream's conformer over a batch whose rows differ in length.

Upstream pads after the token embedding, whose linear layer then gives the padding a value that a convolution looking
to the right carries into the last real positions. Here the padding is zero where that convolution reads it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

LENGTHS_APART = 32  # tokens between the lengths that convolutions meet on a GPU


class Encoder:
    """Upstream's `UpsampleConformerEncoder` as `S3Gen` builds it, over the same parameters."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __call__(self, embedded: Tensor, is_real: Tensor | None) -> Tensor:
        """(rows, tokens, width) to (rows, 2 * tokens, width). `is_real` is (rows, tokens), None without padding."""
        module = self._module
        hidden, positions, _ = module.embed(embedded, None)
        if is_real is not None:
            hidden = hidden * is_real[..., None]
        hidden = _of_few_lengths(module.pre_lookahead_layer, hidden)
        for layer in module.encoders:
            hidden = _conformer(layer, hidden, positions, is_real)
        hidden = _of_few_lengths(lambda given: module.up_layer(given.transpose(1, 2), 1)[0].transpose(1, 2), hidden)
        hidden, positions, _ = module.up_embed(hidden, None)
        if is_real is not None:
            is_real = is_real.repeat_interleave(module.up_layer.stride, dim=1)
        for layer in module.up_encoders:
            hidden = _conformer(layer, hidden, positions, is_real)
        return module.after_norm(hidden)


def _of_few_lengths(convolve: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
    """What upstream's convolutions make of (rows, time, channels), on a GPU with zeros behind it to a round length.

    They look no further ahead than into zeros of their own; cuDNN looks for the best way anew at each length.
    """
    time = hidden.shape[1]
    if not hidden.is_cuda:
        return convolve(hidden)
    given = F.pad(hidden, (0, 0, 0, -time % LENGTHS_APART))
    made = convolve(given)
    return made[:, : time * made.shape[1] // given.shape[1]]


def _conformer(layer: Any, hidden: Tensor, positions: Tensor, is_real: Tensor | None) -> Tensor:
    """One layer; the residual stream is updated in place."""
    hidden = hidden.add_(_attention(layer.self_attn, layer.norm_mha(hidden), positions, is_real))
    return hidden.add_(layer.feed_forward(layer.norm_ff(hidden)))


def _attention(module: Any, hidden: Tensor, positions: Tensor, is_real: Tensor | None) -> Tensor:
    """Attention with relative positions (arXiv:1901.02860, section 3.3), its position term given as a bias.

    `positions` holds an embedding for each distance from time - 1 down to 1 - time. Upstream copies the score of each
    distance into place; a view whose rows start one further left each does the same.
    """
    rows, time, _ = hidden.shape

    def heads(linear: Any, value: Tensor) -> Tensor:
        return linear(value).view(len(value), -1, module.h, module.d_k).transpose(1, 2)

    query, key, value = (heads(linear, hidden) for linear in (module.linear_q, module.linear_k, module.linear_v))
    by_distance = (query + module.pos_bias_v[:, None]).mul_(1 / math.sqrt(module.d_k)) @ (
        heads(module.linear_pos, positions).transpose(2, 3)
    )
    block, head, row, _ = by_distance.stride()
    bias = by_distance.as_strided((rows, module.h, time, time), (block, head, row - 1, 1), time - 1)
    if is_real is not None:
        bias = bias.masked_fill(~is_real[:, None, None], -torch.inf)
    mixed = F.scaled_dot_product_attention(query + module.pos_bias_u[:, None], key, value, attn_mask=bias)
    return module.linear_out(mixed.transpose(1, 2).reshape(rows, time, -1))
