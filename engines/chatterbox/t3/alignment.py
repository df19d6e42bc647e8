"""Where in its text a multilingual sequence is: upstream's analyzer, without the hooks it would leave on the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from chatterbox.models.t3.inference import alignment_stream_analyzer
from torch import Tensor

from engines.chatterbox.t3.attention import AlignedHead


def aligned_heads() -> tuple[AlignedHead, ...]:
    """The (layer, head) pairs whose attention follows the text, as upstream found them."""
    return tuple(alignment_stream_analyzer.LLAMA_ALIGNED_HEADS)


class Alignment(alignment_stream_analyzer.AlignmentStreamAnalyzer):  # type: ignore[misc]  # upstream has no types
    """Holds the stop token back until the text is spoken, and forces it when the model repeats itself or lingers.

    Upstream's judgement is kept to the letter (`step`). It is given the attention of the watched heads instead of
    spying on the model, which would leave forward hooks and slow attention behind in every call.
    """

    def __init__(self, text_length: int, stop_token: int) -> None:
        self._heads: list[AlignedHead] = []
        super().__init__(None, None, text_tokens_slice=(0, text_length), eos_idx=stop_token)

    def _add_attention_spy(self, tfmr: Any, buffer_idx: int, layer_idx: int, head_idx: int) -> None:  # noqa: ARG002
        self._heads.append((layer_idx, head_idx))

    def listen(self, weights: Mapping[AlignedHead, Tensor], row: int, text_starts: int) -> None:
        """Take the attention of one row's newest tokens to the text, from weights (rows, queries, positions)."""
        _, text_length = self.text_tokens_slice
        text = slice(text_starts, text_starts + text_length)
        rows = [weights[head][row, :, text].cpu() for head in self._heads]
        if self.curr_frame_pos == 0:  # `step` then expects the rows of the text's own tokens before them
            rows = [F.pad(queries, (0, 0, text_length, 0)) for queries in rows]
        self.last_aligned_attns = rows
