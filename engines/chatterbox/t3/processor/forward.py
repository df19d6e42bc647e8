"""T3 on a processor: from embeddings to logits in one call, which every thread makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from engines.chatterbox.t3.processor import functions, memory, multiplying
from engines.chatterbox.t3.processor.matrix import Matrix, of_rows, room_for_whole, tickets_for
from engines.chatterbox.t3.processor.team import Team, team
from engines.chatterbox.t3.processor.vectors import CELL, HAS_HALVES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from engines.chatterbox.t3.attention import AttentionWatch
    from engines.chatterbox.t3.backbone import Backbone, Layer, Norm, Shape
    from engines.chatterbox.t3.kv_cache import KVCache

CHANNELS = CELL // 4  # of which a head must have a multiple
UNSEEN = -1


class Forward:
    """Reads new tokens into the rows of a cache, be it one in each or many in a few."""

    def __init__(self, backbone: Backbone, head: Matrix, workers: Team | None = None) -> None:
        self._vocabulary, self._shape = head.outputs, backbone.shape
        self._kept = (backbone, head)  # what the addresses in the facts belong to
        matrices = [matrix for layer in backbone.layers for matrix in _matrices(layer)]
        rotary, nothing = backbone.rotary, np.zeros((0, 0), np.float32)
        self._turns = (nothing, nothing) if rotary is None else (rotary.cos.numpy(), rotary.sin.numpy())
        self._model = (
            head.like,
            backbone.is_gated,
            np.float32(backbone.epsilon),
            np.array([_facts(layer) for layer in backbone.layers]),
            np.array([*_addresses(backbone.norm), *head.facts]),
        )
        self._most = max(matrix.depth for matrix in matrices), max(matrix.outputs for matrix in matrices)
        self._workers = workers or team()
        self._corners = memory.zeros((self._workers.size, multiplying.CORNER), np.float32)
        self._between = self._room_for(0)

    @staticmethod
    def can(shape: Shape) -> bool:
        """Whether it is made for such a transformer."""
        return shape.head_dim % CHANNELS == 0

    @staticmethod
    def cache_dtype(precision: str, shape: Shape) -> torch.dtype:
        """What keys and values are kept as, which are read for every token as the weights are."""
        takes_halves = precision == "int8" and HAS_HALVES and shape.head_dim % (2 * CHANNELS) == 0
        return torch.float16 if takes_halves else torch.float32

    def __call__(
        self,
        cache: KVCache,
        watch: AttentionWatch,
        embeddings: Tensor,
        rows: Sequence[int],
        places: Sequence[int],
        *,
        heard: Sequence[int],
        seen: Sequence[int],
    ) -> Tensor:
        """The logits (n, vocabulary) of the tokens `heard`, in rising order.

        `embeddings` (tokens, width) float32 belong at `places` of `rows` of the cache, where there is room for them;
        those of a row come in their order, none missed. The attention of the tokens `seen`, if any, is left in `watch`,
        each as the one query of a row. Raises ValueError for tokens that there is no room for.
        """
        tokens = len(embeddings)
        if not len(rows) == len(places) == tokens or max(places) >= cache.room:
            raise ValueError(f"{tokens} tokens at {list(places)} of {list(rows)}, where there is room for {cache.room}")
        between = self._between
        if tokens > len(between[0]):
            between = self._between = self._room_for(tokens)
        scores = np.empty((self._workers.size, cache.room), np.float32)
        watched = np.empty((len(watch.heads), len(seen), cache.room), np.float32)
        watches = np.full((self._shape.layers, self._shape.heads), UNSEEN)
        for number, place in enumerate(watch.heads):
            watches[place] = number
        watched_as = np.full(tokens, UNSEEN)
        watched_as[list(seen)] = range(len(seen))
        logits = torch.empty(len(heard), self._vocabulary)
        self._workers.run(
            functions.read,
            tickets_for(functions.SHARED * self._shape.layers + 1, self._workers),
            *self._model,
            np.array(rows),
            np.array(places),
            watched_as,
            np.array(heard),
            embeddings.clone(memory_format=torch.contiguous_format).numpy(),
            *between,
            self._corners,
            _bits(cache.keys),
            _bits(cache.values),
            *self._turns,
            scores,
            watches,
            watched,
            logits.numpy(),
        )
        known = max(places) + 1
        for number, place in enumerate(watch.heads if seen else ()):
            watch.weights[place] = torch.from_numpy(watched[number, :, None, :known])
        return logits

    def _room_for(self, tokens: int) -> tuple[NDArray[Any], ...]:
        """For what is in between: inputs, as whole numbers, their offsets and scales, and what comes of them."""
        inputs, outputs = self._most
        return (
            memory.zeros((tokens, inputs), np.float32),
            room_for_whole(tokens, inputs),
            *of_rows(tokens),
            memory.zeros((tokens, outputs), np.float32),
        )


def _bits(numbers: Tensor) -> NDArray[Any]:
    return (numbers.view(torch.uint16) if numbers.dtype == torch.float16 else numbers).numpy()


def _matrices(layer: Layer) -> list[Matrix]:
    return [cast("Matrix", linear) for linear in (layer.qkv, layer.out, layer.up, layer.down)]


def _facts(layer: Layer) -> list[int]:
    """As `functions.read` wants to know a layer."""
    facts = [int(fact) for matrix in _matrices(layer) for fact in matrix.facts]
    return [*facts, *_addresses(layer.norm_attention), *_addresses(layer.norm_mlp)]


def _addresses(norm: Norm) -> tuple[int, int]:
    weight, bias = norm
    return weight.data_ptr(), 0 if bias is None else bias.data_ptr()
