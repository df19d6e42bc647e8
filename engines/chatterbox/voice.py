"""What Chatterbox makes of a recording: a value that calls are given, never kept on a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class PreparedVoice:
    """A reference as one variant hears it: tensors on the CPU, float32 or int64, that nobody changes.

    `key` names the value: equal keys are equal values (the recording's content and the variant that listened).
    """

    key: str
    speaker: Tensor  # (1, 256): the voice encoder's embedding
    prompt_tokens: Tensor  # (1, n): speech tokens that T3 is primed with
    reference_tokens: Tensor  # (1, m): speech tokens that S3Gen continues
    reference_mel: Tensor  # (1, 2m, 80): their mel spectrogram
    reference_speaker: Tensor  # (1, 192): S3Gen's speaker vector

    @property
    def size_bytes(self) -> int:
        tensors = (
            self.speaker,
            self.prompt_tokens,
            self.reference_tokens,
            self.reference_mel,
            self.reference_speaker,
        )
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
