"""T3 as the decoder uses it: embeddings in, logits out, with what every row has read and said kept between calls."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from engines.chatterbox.t3.alignment import aligned_heads
from engines.chatterbox.t3.attention import AttentionWatch, Segment, SegmentAttention, StepAttention
from engines.chatterbox.t3.backbone import Attend, Turn, take_backbone
from engines.chatterbox.t3.captured import CapturedStep
from engines.chatterbox.t3.inputs import Inputs
from engines.chatterbox.t3.kernel import AttendKernel, KernelUnavailable
from engines.chatterbox.t3.kv_cache import KeyValues, KVCache
from engines.chatterbox.t3.linear import Precision, packer, stream_dtype

logger = logging.getLogger(__name__)


class Transformer:
    """The weights of an upstream T3 in one precision, and the rows that it is working on.

    The weights move here: afterwards only the embedding tables and the conditioning encoder of `t3` hold data, so that
    nothing is kept twice. `logits` (rows, vocabulary), float32, are what each row of the cache was last answered.
    """

    def __init__(
        self,
        t3: Any,
        precision: Precision,
        device: torch.device,
        *,
        most_rows: int,
        watches_alignment: bool,
        records: bool,
    ) -> None:
        dtype, pack = stream_dtype(precision, device), packer(precision, device)
        head = t3.speech_head
        self._device, self._dtype = device, dtype
        self._head = pack(head.weight.detach(), None if head.bias is None else head.bias.detach())
        self._backbone = take_backbone(t3, pack, dtype)
        self.shape = self._backbone.shape
        self.logits = torch.zeros(most_rows, len(head.weight), device=device)
        t3.speech_head.to("meta")
        t3.text_head.to("meta")  # of use in training only
        self.inputs = Inputs(t3, dtype, device)
        self.cache = KVCache(self.shape, dtype, device)
        self.nothing = KeyValues.none(self.shape, dtype, device)
        self.watch = AttentionWatch(aligned_heads() if watches_alignment else ())
        # Whose attention is watched has steps that differ, for they leave behind what was seen.
        self._captured = self._capture() if records and not watches_alignment else None

    def read(self, segments: Sequence[Segment], embeddings: Tensor) -> None:
        """New tokens of some rows, embeddings (n, width) in the order of the segments.

        The rows' logits are then those for what follows the last token of each.
        """
        starts = [self.cache.lengths[segment.row] for segment in segments]
        spans = [range(start, start + segment.count) for start, segment in zip(starts, segments, strict=True)]
        positions = self._tensor([place for span in spans for place in span])
        attention = SegmentAttention(self.cache, segments, self._turn(positions), self.watch)
        hidden = self._backbone(self._placed(embeddings, positions), attention)
        attention.finish()
        ends = torch.tensor([segment.count for segment in segments]).cumsum(0) - 1
        rows = self._tensor([segment.row for segment in segments])
        self.logits[rows] = self._head(hidden[ends.to(self._device)]).float()

    def advance(self, tokens: Sequence[int], steps: Sequence[int]) -> None:
        """One more speech token in every row, in the order of the rows; `logits` are those of all rows then."""
        if self._captured is not None:
            self._captured(tokens, steps)
            return
        positions = self._tensor(self.cache.lengths)
        attention = StepAttention(self.cache, positions, self._turn(positions), self.watch)
        answered = self._forward(self._tensor(tokens), self._tensor(steps), positions, attention)
        attention.finish()
        self.logits[: len(tokens)] = answered

    def remove(self, row: int) -> int:
        """Let a row go, as `KVCache.remove` does; the logits of the row that takes its place move with it."""
        moved = self.cache.remove(row)
        self.logits[row] = self.logits[moved]
        return moved

    def _forward(self, tokens: Tensor, steps: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        embeddings = self._placed(self.inputs.speech(tokens, steps), positions)
        return self._head(self._backbone(embeddings, attend)).float()

    def _capture(self) -> CapturedStep | None:
        """The step as a recording, where there can be one."""
        try:
            kernel = AttendKernel(self.shape, self._dtype, self._backbone.rotary, self._device)
            return CapturedStep(self._forward, kernel, self.cache, self.logits)
        except KernelUnavailable as error:
            logger.warning("t3 steps are not recorded, which makes them slower reason=%s", error)
            return None

    def _placed(self, embeddings: Tensor, positions: Tensor) -> Tensor:
        learned = self._backbone.learned
        return embeddings if learned is None else embeddings + learned[positions]

    def _turn(self, positions: Tensor) -> Turn:
        rotary = self._backbone.rotary
        return (lambda x: x) if rotary is None else rotary.at(positions, self._dtype)

    def _tensor(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, device=self._device)
