"""Who attends to what: many rows by one token each, or the beginnings of a few rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.chatterbox.t3.backbone import Turn
from engines.chatterbox.t3.kv_cache import KVCache

AlignedHead = tuple[int, int]  # layer, head


class AttentionWatch:
    """Attention weights of a few heads, which fast kernels do not keep.

    `weights[layer, head]` is (rows, queries, positions) of the last pass, float32.
    """

    def __init__(self, heads: Sequence[AlignedHead]) -> None:
        self.heads = tuple(heads)
        self.weights: dict[AlignedHead, Tensor] = {}

    def see(self, layer: int, queries: Tensor, keys: Tensor, mask: Tensor | None) -> None:
        """queries (rows, heads, n, head_dim), keys (rows, heads, m, head_dim), mask added to (rows, n, m) scores."""
        for place in self.heads:
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


@dataclass(frozen=True, slots=True)
class Segment:
    """`count` new tokens of one row, behind what the row knows. `watched` is how many of the last are watched."""

    row: int
    count: int
    watched: int = 0


class SegmentAttention:
    """Several new tokens in some rows: the segments follow one another in the packed batch.

    Neighbours that are alike, as many tokens behind as many that are known, are attended to at once.
    """

    def __init__(self, cache: KVCache, segments: Sequence[Segment], turn: Turn, watch: AttentionWatch) -> None:
        self._cache, self._turn, self._watch = cache, turn, watch
        self._blocks = [self._block(list(alike)) for _, alike in groupby(enumerate(segments), self._likeness)]

    def _likeness(self, numbered: tuple[int, Segment]) -> tuple[int, int, int]:
        number, segment = numbered
        return self._cache.lengths[segment.row], segment.count, segment.row - number

    def _block(self, alike: list[tuple[int, Segment]]) -> _Block:
        _, first = alike[0]
        start, store = self._cache.lengths[first.row], self._cache.keys
        everything = torch.full(
            (first.count, start + first.count), float("-inf"), dtype=store.dtype, device=store.device
        )
        mask = everything.triu_(start + 1)  # each new token sees what is known, itself and the new ones before it
        rows = slice(first.row, first.row + len(alike))
        return _Block(rows, start, first.count, mask, max(segment.watched for _, segment in alike))

    def __call__(self, layer: int, qkv: Tensor) -> Tensor:
        q, k = self._turn(qkv[:, :2]).unbind(1)
        counts = [block.tokens for block in self._blocks]
        streams = (tensor.split(counts) for tensor in (q, k, qkv[:, 2]))
        parts = zip(self._blocks, *streams, strict=True)
        return torch.cat([self._attend(layer, *part) for part in parts])

    def _attend(self, layer: int, block: _Block, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        known = slice(None, block.start + block.count)
        keys, values = (store[layer, block.rows, :, known] for store in (self._cache.keys, self._cache.values))
        queries, new_keys, new_values = (block.by_row(tensor) for tensor in (q, k, v))
        keys[:, :, block.start :] = new_keys
        values[:, :, block.start :] = new_values
        if block.watched:
            self._watch.see(layer, queries[:, :, -block.watched :], keys, block.mask[-block.watched :])
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=block.mask)
        return attended.transpose(1, 2).reshape(block.tokens, -1)


@dataclass(frozen=True, slots=True)
class _Block:
    """Segments that are alike: `count` new tokens in each of some rows that know `start` positions."""

    rows: slice
    start: int
    count: int
    mask: Tensor  # (count, start + count), added to the scores
    watched: int

    @property
    def tokens(self) -> int:
        return self.count * int(self.rows.stop - self.rows.start)

    def by_row(self, packed: Tensor) -> Tensor:
        """(tokens, heads, head_dim) as (rows, heads, count, head_dim)."""
        return packed.view(-1, self.count, *packed.shape[1:]).transpose(1, 2)
