"""Who attends to what: many rows by one token each, or the beginnings of a few rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.chatterbox.t3.backbone import Turn
from engines.chatterbox.t3.kv_cache import KVCache

AlignedHead = tuple[int, int]  # layer, head


class AttentionWatch:
    """Attention weights of a few heads, computed beside the fast kernel, which keeps none.

    `weights[layer, head]` is (rows, queries, positions) of the last pass, float32.
    """

    def __init__(self, heads: Sequence[AlignedHead]) -> None:
        self._heads = tuple(heads)
        self.weights: dict[AlignedHead, Tensor] = {}

    def see(self, layer: int, queries: Tensor, keys: Tensor, mask: Tensor | None) -> None:
        """queries (rows, heads, n, head_dim), keys (rows, heads, m, head_dim), mask added to (rows, n, m) scores."""
        for place in self._heads:
            if place[0] == layer:
                q, k = queries[:, place[1]], keys[:, place[1]]
                scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
                scores = scores if mask is None else scores + mask
                self.weights[place] = scores.softmax(-1, dtype=torch.float32)


class StepAttention:
    """One new token in every row of the cache, in the order of the rows, each behind what its row knows."""

    def __init__(self, cache: KVCache, positions: Tensor, turn: Turn, watch: AttentionWatch) -> None:
        """`positions` (rows,) are the rows' lengths, on the cache's device."""
        self._cache, self._turn, self._watch = cache, turn, watch
        self._rows, self._length = cache.rows, max(cache.lengths) + 1
        cache.reserve(self._length)
        self._mask: Tensor | None = None
        # One and the same position is a slice; rows of different lengths are told apart by index and mask.
        self._place: tuple[slice | Tensor, slice, int | Tensor] = (slice(self._rows), slice(None), self._length - 1)
        if min(cache.lengths) < max(cache.lengths):
            self._place = (torch.arange(self._rows, device=positions.device), slice(None), positions)
            hidden = torch.arange(self._length, device=positions.device) > positions[:, None]
            mask = torch.zeros(hidden.shape, dtype=cache.keys.dtype, device=positions.device)
            self._mask = mask.masked_fill_(hidden, float("-inf"))[:, None, None]

    def __call__(self, layer: int, qkv: Tensor) -> Tensor:
        q, k = self._turn(qkv[:, :2]).unbind(1)
        self._cache.keys[layer][self._place] = k
        self._cache.values[layer][self._place] = qkv[:, 2]
        keys = self._cache.keys[layer][: self._rows, :, : self._length]
        values = self._cache.values[layer][: self._rows, :, : self._length]
        queries = q.unsqueeze(2)
        self._watch.see(layer, queries, keys, None if self._mask is None else self._mask[:, 0])
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=self._mask)
        return attended.reshape(self._rows, -1)

    def finish(self) -> None:
        """The rows know their new token: to be called once, when every layer has attended."""
        self._cache.advance()


@dataclass(frozen=True, slots=True)
class Segment:
    """`count` new tokens of one row, behind what the row knows. `watched` is how many of the last are watched."""

    row: int
    count: int
    watched: int = 0


class SegmentAttention:
    """Several new tokens in some rows: the segments follow one another in the packed batch."""

    def __init__(self, cache: KVCache, segments: Sequence[Segment], turn: Turn, watch: AttentionWatch) -> None:
        self._cache, self._segments, self._turn, self._watch = cache, segments, turn, watch
        self._masks = [self._mask(cache.lengths[segment.row], segment.count) for segment in segments]

    def _mask(self, start: int, count: int) -> Tensor:
        """(count, start + count): each new token sees what is known, itself and the new ones before it."""
        store = self._cache.keys
        everything = torch.full((count, start + count), float("-inf"), dtype=store.dtype, device=store.device)
        return everything.triu_(start + 1)

    def __call__(self, layer: int, qkv: Tensor) -> Tensor:
        q, k = self._turn(qkv[:, :2]).unbind(1)
        counts = [segment.count for segment in self._segments]
        streams = (tensor.split(counts) for tensor in (q, k, qkv[:, 2]))
        parts = zip(self._segments, self._masks, *streams, strict=True)
        return torch.cat([self._attend(layer, *part) for part in parts])

    def _attend(self, layer: int, segment: Segment, mask: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        start = self._cache.lengths[segment.row]
        keys = self._cache.keys[layer][segment.row, :, : start + segment.count]
        values = self._cache.values[layer][segment.row, :, : start + segment.count]
        keys[:, start:] = k.transpose(0, 1)
        values[:, start:] = v.transpose(0, 1)
        queries = q.transpose(0, 1)
        if segment.watched:
            self._watch.see(layer, queries[None, :, -segment.watched :], keys[None], mask[-segment.watched :])
        attended = F.scaled_dot_product_attention(queries[None], keys[None], values[None], attn_mask=mask)
        return attended[0].transpose(0, 1).reshape(segment.count, -1)

    def finish(self) -> None:
        """The rows know their new tokens: to be called once, when every layer has attended."""
        for segment in self._segments:
            self._cache.lengths[segment.row] += segment.count
