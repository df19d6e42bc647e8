"""T3 as the decoder uses it: embeddings in, logits out, with what every row has read and said kept between calls."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast

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

if TYPE_CHECKING:
    from engines.chatterbox.t3.processor.forward import Forward

logger = logging.getLogger(__name__)


class Transformer:
    """The weights of an upstream T3 in one precision, and the rows that it is working on.

    The weights move here: afterwards only the embedding tables and the conditioning encoder of `t3` hold data, so that
    nothing is kept twice. `logits` (rows, vocabulary), float32, are what each row of the cache was last answered.

    On a processor all is done by one compiled function (`forward`), if the width of a head is a multiple of 16, as that
    of all published models is; elsewhere by torch's operations, of which a step is recorded where it can be.
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
        self.forward: Forward | None = None
        kept = dtype
        if device.type == "cpu":
            from engines.chatterbox.t3.processor.forward import Forward  # with numba, as in linear.py

            if Forward.can(self.shape):
                self.forward = Forward(self._backbone, cast("Any", self._head))
                kept = Forward.cache_dtype(precision, self.shape)
        self.cache = KVCache(self.shape, kept, device)
        self.nothing = KeyValues.none(self.shape, kept, device)
        self.watch = AttentionWatch(aligned_heads() if watches_alignment else ())
        self._compile()
        # Whose attention is watched has steps that differ, for they leave behind what was seen.
        self._captured = self._capture() if records and not watches_alignment else None

    def read(self, segments: Sequence[Segment], embeddings: Tensor) -> None:
        """New tokens of some rows, embeddings (n, width) in the order of the segments.

        The rows' logits are then those for what follows the last token of each. Raises ValueError if more than one of
        the segments is watched.
        """
        if sum(segment.watched > 0 for segment in segments) > 1:
            raise ValueError("the attention of several segments cannot be watched at once")
        placed = [
            (segment.row, self.cache.lengths[segment.row] + number)
            for segment in segments
            for number in range(segment.count)
        ]
        rows, places = ([one[n] for one in placed] for n in (0, 1))
        positions = self._tensor(places)
        ends = [end - 1 for end in accumulate(segment.count for segment in segments)]
        answered = [segment.row for segment in segments]
        embeddings = self._placed(embeddings, positions)
        if self.forward is not None:
            watched = zip(ends, segments, strict=True)
            seen = [end - n for end, segment in watched for n in reversed(range(segment.watched))]
            self.logits[answered] = self.forward(
                self.cache, self.watch, embeddings, rows, places, heard=ends, seen=seen
            )
            if seen:  # as the queries of one row, which is the one that is watched
                self.watch.weights = {place: weights.transpose(0, 1) for place, weights in self.watch.weights.items()}
        else:
            attention = SegmentAttention(self.cache, segments, self._turn(positions), self.watch)
            self.logits[answered] = self._head(self._backbone(embeddings, attention)[ends]).float()
        for segment in segments:
            self.cache.lengths[segment.row] += segment.count

    def advance(self, tokens: Sequence[int], steps: Sequence[int]) -> None:
        """One more speech token in every row, in the order of the rows; `logits` are those of all rows then."""
        if self._captured is not None:
            self._captured(tokens, steps)
            return
        rows, places = range(self.cache.rows), self.cache.lengths
        positions = self._tensor(places)
        self.cache.reserve(max(places) + 1)
        if self.forward is not None:
            embeddings = self._embedded(self._tensor(tokens), self._tensor(steps), positions)
            answers = self.forward(self.cache, self.watch, embeddings, rows, places, heard=rows, seen=rows)
        else:
            attention = StepAttention(self.cache, positions, self._turn(positions), self.watch)
            answers = self._answered(self._tensor(tokens), self._tensor(steps), positions, attention)
        self.logits[: len(tokens)] = answers
        self.cache.advance()

    def remove(self, row: int) -> int:
        """Let a row go, as `KVCache.remove` does; the logits of the row that takes its place move with it."""
        moved = self.cache.remove(row)
        self.logits[row] = self.logits[moved]
        return moved

    def _answered(self, tokens: Tensor, steps: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        return self._head(self._backbone(self._embedded(tokens, steps, positions), attend)).float()

    def _embedded(self, tokens: Tensor, steps: Tensor, positions: Tensor) -> Tensor:
        return self._placed(self.inputs.speech(tokens, steps), positions)

    def _compile(self) -> None:
        """Have `forward` compiled now, by a token that nobody hears: on a machine's first start it takes seconds."""
        if self.forward is not None:
            row = self.cache.add(self.nothing, room=1)
            silence = torch.zeros(1, self.shape.heads * self.shape.head_dim)
            self.forward(self.cache, self.watch, silence, [row], [0], heard=[0], seen=[0])
            self.cache.truncate(row)

    def _capture(self) -> CapturedStep | None:
        """The step as a recording, where there can be one."""
        try:
            kernel = AttendKernel(self.shape, self._dtype, self._backbone.rotary, self._device)
            return CapturedStep(self._answered, kernel, self.cache, self.logits)
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
