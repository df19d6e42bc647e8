"""What T3's transformer reads, as embeddings: a voice, a text, and speech tokens as they are spoken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from chatterbox.models.t3.modules import cond_enc
from torch import Tensor

from engines.chatterbox.voice import PreparedVoice


class Inputs:
    """The embedding tables and the conditioning encoder of an upstream T3; all results are (n, width)."""

    def __init__(self, t3: Any, dtype: torch.dtype, device: torch.device) -> None:
        self._t3 = t3
        self._dtype, self._device = dtype, device
        self._has_positions = t3.speech_pos_emb is not None
        # T3.inference gives the start token twice, each at position 0; inference_turbo once
        self.starts = 1 if t3.is_gpt else 2

    @property
    def most_text(self) -> int | None:
        """Text tokens that there are positions for; None where the transformer's own positions are the limit."""
        return len(self._t3.text_pos_emb.emb.weight) if self._has_positions else None

    @property
    def most_speech(self) -> int | None:
        """Likewise of speech tokens, after the start token."""
        return len(self._t3.speech_pos_emb.emb.weight) - 1 if self._has_positions else None

    def voice(self, voice: PreparedVoice, exaggeration: float) -> Tensor:
        """Speaker, prompt and emotion."""
        conditioning = cond_enc.T3Cond(
            speaker_emb=voice.speaker.to(self._device),
            cond_prompt_speech_tokens=voice.prompt_tokens.to(self._device),
            emotion_adv=exaggeration * torch.ones(1, 1, 1, device=self._device),
        )
        return self._t3.prepare_conditioning(conditioning)[0].to(self._dtype)

    def text(self, tokens: Sequence[int]) -> Tensor:
        embeddings = self._t3.text_emb(self._tensor(tokens))
        if self._has_positions:
            embeddings = embeddings + self._t3.text_pos_emb.emb.weight[: len(tokens)]
        return embeddings.to(self._dtype)

    def no_text(self, start: int, length: int) -> Tensor:
        """The positions `start` to `length` of a text of zeros, to which guidance compares. Llama models only."""
        return self._t3.text_pos_emb.emb.weight[start:length].to(self._dtype)

    def beginning(self) -> Tensor:
        """The start tokens, from which speech goes on."""
        start = self._t3.hp.start_speech_token
        return self.speech(self._tensor([start] * self.starts), self._tensor([0] * self.starts))

    def speech(self, tokens: Tensor, steps: Tensor) -> Tensor:
        """Speech tokens (n,), each the `steps`-th of its sequence; the first that was sampled is the 1st."""
        embeddings = self._t3.speech_emb(tokens)
        if self._has_positions:
            embeddings = embeddings + self._t3.speech_pos_emb.emb(steps)
        return embeddings.to(self._dtype)

    def _tensor(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, device=self._device)
