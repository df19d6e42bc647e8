"""T3's transformer without its library: the layers' weights, fused and packed, and one pass through them.

Both kinds take a packed batch: n tokens of any rows side by side, each with its position. What a token attends to, and
how its query and key are turned to its position, is the caller's business (`attention.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.chatterbox.t3.linear import Linear, Packer

Attend = Callable[[int, Tensor], Tensor]
"""(layer, qkv (n, 3, heads, head_dim)) to (n, heads * head_dim): turns q and k, stores k and v, then attends."""
Turn = Callable[[Tensor], Tensor]
"""Turns x (n, any, heads, head_dim), whose tokens stand at known positions."""

ROTARY_POSITIONS = 8192  # for which tables are made: 2048 of text, 4096 of speech, and the prefix


@dataclass(frozen=True, slots=True)
class Shape:
    """What a key-value cache must know of a transformer, and how many positions a row may have."""

    layers: int
    heads: int
    head_dim: int
    positions: int


Norm = tuple[Tensor, Tensor | None]
"""Weight and bias, (width,) each: LayerNorm, or RMSNorm where there is no bias."""


@dataclass(frozen=True, slots=True)
class Layer:
    norm_attention: Norm
    qkv: Linear
    out: Linear
    norm_mlp: Norm
    up: Linear  # gate and up one after the other, where it is gated
    down: Linear


class Backbone(Protocol):
    shape: Shape
    rotary: Rotary | None  # by which the attention turns queries and keys
    learned: Tensor | None  # (positions, width), what is added to the embeddings: one of the two
    is_gated: bool  # SiLU of one half of what `up` gives times the other, or GELU by tanh
    epsilon: float
    layers: Sequence[Layer]
    norm: Norm

    def __call__(self, x: Tensor, attend: Attend) -> Tensor:
        """Embeddings (n, width) to the last hidden states (n, width), after the final norm."""
        ...


def take_backbone(t3: Any, pack: Packer, dtype: torch.dtype) -> Backbone:
    """The transformer of an upstream T3 (float32, in eval mode), whose weights move here.

    Afterwards `t3.tfmr` holds no data (its parameters are on the meta device), so that nothing is kept twice: each
    layer is let go as soon as it is packed.
    """
    backbone: Backbone = (_Gpt2 if t3.is_gpt else _Llama)(t3.tfmr, pack, dtype)
    t3.tfmr.to("meta")
    return backbone


class _Llama:
    """RMSNorm, rotary positions, SiLU-gated MLP; no biases."""

    is_gated: bool = True

    def __init__(self, model: Any, pack: Packer, dtype: torch.dtype) -> None:
        config = model.config
        self.shape = Shape(config.num_hidden_layers, config.num_attention_heads, config.head_dim, ROTARY_POSITIONS)
        self._width = (config.hidden_size,)
        self.epsilon: float = config.rms_norm_eps
        self.rotary: Rotary | None = Rotary(model.rotary_emb)
        self.learned: Tensor | None = None
        self.layers: Sequence[Layer] = [self._take(layer, pack, dtype) for layer in model.layers]
        self.norm: Norm = (model.norm.weight.detach().to(dtype), None)

    @staticmethod
    def _take(layer: Any, pack: Packer, dtype: torch.dtype) -> Layer:
        attention, mlp = layer.self_attn, layer.mlp
        taken = Layer(
            norm_attention=(layer.input_layernorm.weight.detach().to(dtype), None),
            qkv=pack(_stacked(attention.q_proj, attention.k_proj, attention.v_proj), None),
            out=pack(attention.o_proj.weight.detach(), None),
            norm_mlp=(layer.post_attention_layernorm.weight.detach().to(dtype), None),
            up=pack(_stacked(mlp.gate_proj, mlp.up_proj), None),
            down=pack(mlp.down_proj.weight.detach(), None),
        )
        layer.to("meta")
        return taken

    def __call__(self, x: Tensor, attend: Attend) -> Tensor:
        split = (len(x), 3, self.shape.heads, self.shape.head_dim)
        for index, layer in enumerate(self.layers):
            normed = F.rms_norm(x, self._width, layer.norm_attention[0], self.epsilon)
            x = x + layer.out(attend(index, layer.qkv(normed).view(split)))
            normed = F.rms_norm(x, self._width, layer.norm_mlp[0], self.epsilon)
            gate, up = layer.up(normed).chunk(2, dim=-1)
            x = x + layer.down(F.silu(gate) * up)
        return F.rms_norm(x, self._width, self.norm[0], self.epsilon)


class Rotary:
    """Rotary positions as the module of upstream's model computes them, its frequencies scaled as it scales them.

    `cos` and `sin` are (positions, head_dim), float32; the sign of the half that rotation negates is in the sine:
    turned, x is x * cos + (x, its halves swapped) * sin.
    """

    def __init__(self, rotary: Any) -> None:
        frequencies = rotary.inv_freq.detach().float()  # (head_dim / 2,)
        angles = torch.arange(ROTARY_POSITIONS, device=frequencies.device)[:, None].float() * frequencies
        cos, sin = angles.cos() * rotary.attention_scaling, angles.sin() * rotary.attention_scaling
        self.cos, self.sin = torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)
        self._half = len(frequencies)

    def at(self, positions: Tensor, dtype: torch.dtype) -> Turn:
        """A function that turns tokens which stand at `positions` (n,), in their dtype."""
        cos, sin = (table[positions][:, None, None].to(dtype) for table in (self.cos, self.sin))
        return lambda x: torch.addcmul(x * cos, x.roll(self._half, -1), sin)


class _Gpt2:
    """LayerNorm, learned positions, GELU by tanh, biases everywhere."""

    is_gated: bool = False

    def __init__(self, model: Any, pack: Packer, dtype: torch.dtype) -> None:
        config = model.config
        width, heads = config.hidden_size, config.num_attention_heads
        self.rotary: Rotary | None = None
        self.learned: Tensor | None = model.wpe.weight.detach().to(dtype)
        self.shape = Shape(config.num_hidden_layers, heads, width // heads, len(model.wpe.weight))
        self._width = (width,)
        self.epsilon: float = config.layer_norm_epsilon
        self.layers: Sequence[Layer] = [self._take(layer, pack, dtype) for layer in model.h]
        self.norm: Norm = _norm(model.ln_f, dtype)

    @staticmethod
    def _take(layer: Any, pack: Packer, dtype: torch.dtype) -> Layer:
        def packed(convolution: Any) -> Linear:  # GPT-2 keeps its weights as (inputs, outputs)
            return pack(convolution.weight.detach().t().contiguous(), convolution.bias.detach())

        taken = Layer(
            norm_attention=_norm(layer.ln_1, dtype),
            qkv=packed(layer.attn.c_attn),
            out=packed(layer.attn.c_proj),
            norm_mlp=_norm(layer.ln_2, dtype),
            up=packed(layer.mlp.c_fc),
            down=packed(layer.mlp.c_proj),
        )
        layer.to("meta")
        return taken

    def __call__(self, x: Tensor, attend: Attend) -> Tensor:
        split = (len(x), 3, self.shape.heads, self.shape.head_dim)
        for index, layer in enumerate(self.layers):
            normed = F.layer_norm(x, self._width, *layer.norm_attention, self.epsilon)
            x = x + layer.out(attend(index, layer.qkv(normed).view(split)))
            normed = F.layer_norm(x, self._width, *layer.norm_mlp, self.epsilon)
            x = x + layer.down(F.gelu(layer.up(normed), approximate="tanh"))
        return F.layer_norm(x, self._width, *self.norm, self.epsilon)


def _stacked(*projections: Any) -> Tensor:
    """Weights (outputs, inputs) that read the same input, as one."""
    return torch.cat([projection.weight.detach() for projection in projections])


def _norm(module: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return module.weight.detach().to(dtype), module.bias.detach().to(dtype)
