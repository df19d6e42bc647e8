"""T3 as the decoder uses it: embeddings in, logits out, with what every row has read and said kept between calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from engines.chatterbox.t3.alignment import aligned_heads
from engines.chatterbox.t3.attention import AttentionWatch, Segment, SegmentAttention, StepAttention
from engines.chatterbox.t3.backbone import take_backbone
from engines.chatterbox.t3.inputs import Inputs
from engines.chatterbox.t3.kv_cache import KeyValues, KVCache
from engines.chatterbox.t3.linear import Precision, packer, stream_dtype


class Transformer:
    """The weights of an upstream T3 in one precision, and the rows that it is working on.

    The weights move here: afterwards only the embedding tables and the conditioning encoder of `t3` hold data, so that
    nothing is kept twice.
    """

    def __init__(self, t3: Any, precision: Precision, device: torch.device, *, watches_alignment: bool) -> None:
        dtype, pack = stream_dtype(precision, device), packer(precision, device)
        head = t3.speech_head
        self._device = device
        self._head = pack(head.weight.detach(), None if head.bias is None else head.bias.detach())
        self._backbone = take_backbone(t3, pack, dtype)
        self.shape = self._backbone.shape
        t3.speech_head.to("meta")
        t3.text_head.to("meta")  # of use in training only
        self.inputs = Inputs(t3, dtype, device)
        self.cache = KVCache(self.shape, dtype, device)
        self.nothing = KeyValues.none(self.shape, dtype, device)
        self.watch = AttentionWatch(aligned_heads() if watches_alignment else ())

    def read(self, segments: Sequence[Segment], embeddings: Tensor) -> Tensor:
        """New tokens of some rows, embeddings (n, width) in the order of the segments.

        Logits (segments, vocabulary) float32 for what follows the last token of each.
        """
        starts = [self.cache.lengths[segment.row] for segment in segments]
        spans = [range(start, start + segment.count) for start, segment in zip(starts, segments, strict=True)]
        attention = SegmentAttention(self.cache, segments, self.watch)
        hidden = self._backbone(embeddings, self._tensor([place for span in spans for place in span]), attention)
        attention.finish()
        ends = torch.tensor([segment.count for segment in segments]).cumsum(0) - 1
        return self._logits(hidden[ends.to(self._device)])

    def advance(self, tokens: Sequence[int], steps: Sequence[int]) -> Tensor:
        """One more speech token in every row, in the order of the rows: logits (rows, vocabulary) float32."""
        positions = self._tensor(self.cache.lengths)
        attention = StepAttention(self.cache, positions, self.watch)
        hidden = self._backbone(self.inputs.speech(tokens, steps), positions, attention)
        attention.finish()
        return self._logits(hidden)

    def _logits(self, hidden: Tensor) -> Tensor:
        return self._head(hidden).float()

    def _tensor(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, device=self._device)
