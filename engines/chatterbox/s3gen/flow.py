"""Speech tokens to mel spectrograms: upstream's conditional flow matching, for rows of any length and voice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from engines.chatterbox.s3gen.captured import Recordings
from engines.chatterbox.s3gen.encoder import Encoder
from engines.chatterbox.s3gen.estimator import Estimator, Precision, convolving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor

    from engines.chatterbox.voice import PreparedVoice


@dataclass(frozen=True, slots=True)
class FlowRow:
    """What one row of a batch is made of: tokens to sound like the voice, and the noise that it starts from.

    The noise is (frames of the prompt and of the tokens, 80). Where it is shorter than that, the last frames are not
    made: those of a text that goes on, which the encoder cannot know yet.
    """

    tokens: Sequence[int]
    voice: PreparedVoice
    noise: Tensor


class Flow:
    """Upstream's `CausalMaskedDiffWithXvec` over the same parameters. Keeps no state between calls."""

    def __init__(self, module: Any, *, is_meanflow: bool, precision: Precision, records: bool = False) -> None:
        self._module = module
        self._is_meanflow = is_meanflow
        self._is_exact = precision == "fp32"
        self._device: torch.device = module.input_embedding.weight.device
        self._encoder = Encoder(module.encoder)
        self._estimator = Estimator(module.decoder.estimator, precision)
        self._recordings = Recordings(self._estimator) if records else None
        self._mel_channels: int = module.output_size
        self.lookahead: int = module.pre_lookahead_len  # tokens that the encoder looks ahead
        self.frames_per_token: int = module.token_mel_ratio

    def frames(self, voice: PreparedVoice, tokens: int) -> int:
        """Mel frames of the voice's prompt and so many tokens together."""
        return self.frames_per_token * (int(voice.reference_tokens.shape[1]) + tokens)

    def noise(self, voice: PreparedVoice, tokens: int, generator: Generator) -> Tensor:
        """The noise of a whole utterance for its `FlowRow`, from the draws that upstream makes."""
        shape, device = (1, self._mel_channels), generator.device
        own = None
        if self._is_meanflow:
            own = torch.randn(*shape, self.frames_per_token * tokens, generator=generator, device=device)
        noise = torch.randn(*shape, self.frames(voice, tokens), generator=generator, device=device)
        if own is not None:
            noise[..., noise.shape[2] - own.shape[2] :] = own
        return noise[0].t()

    def mels(
        self, rows: Sequence[FlowRow], steps: int, check: Callable[[], None], *, comes_again: bool = False
    ) -> list[Tensor]:
        """The mel spectrogram of each row without its prompt, (80, frames), in `steps` steps of Euler's method.

        A row comes out as if it were alone. `check` is called before each step; what it raises passes through.
        `comes_again` says that rows of these lengths are likely to, so that it pays to record their steps.
        """
        lengths = [len(row.noise) for row in rows]
        is_real = self._is_real(lengths)
        with convolving(self._device, exactly=self._is_exact):
            steering = self._encode(rows, max(lengths))
            state = _padded([row.noise for row in rows]).to(steering)
            speakers, prompts = self._speakers(rows, max(lengths)), self._prompts(rows, max(lengths))
            state = self._solve(state, torch.cat([steering, speakers, prompts], -1), is_real, steps, check, comes_again)
        return [
            mel[row.voice.reference_mel.shape[1] : length].t()
            for mel, row, length in zip(state, rows, lengths, strict=True)
        ]

    def _solve(
        self,
        state: Tensor,
        conditions: Tensor,
        is_real: Tensor | None,
        steps: int,
        check: Callable[[], None],
        comes_again: bool,
    ) -> Tensor:
        """Follow the flow from noise, (rows, frames, 80), to mel spectrograms of the same shape.

        Unless the model was distilled (meanflow) each row has a twin without conditions, and the way between the two
        is gone further than its end (classifier-free guidance).
        """
        rows, _, channels = state.shape
        guidance: float = 0.0 if self._is_meanflow else self._module.decoder.inference_cfg_rate
        times = self._times(steps)
        biases = self._estimator.times(times[:-1].to(state), times[1:].to(state))
        if not self._is_meanflow:
            conditions = torch.cat([conditions, torch.zeros_like(conditions)])
            is_real = None if is_real is None else is_real.repeat(2, 1)
        inputs = F.pad(conditions, (channels, 0))
        estimate: Callable[[Tensor, Sequence[Tensor]], Tensor] = partial(self._estimator, is_real=is_real)
        if comes_again and self._recordings and is_real is None:
            estimate = self._recordings.of(inputs, biases[0]) or estimate
        for step, length in enumerate((times[1:] - times[:-1]).tolist()):
            check()
            inputs.view(-1, rows, *inputs.shape[1:])[..., :channels] = state
            direction = estimate(inputs, biases[step])
            state = state.add(direction[:rows], alpha=length * (1 + guidance))
            if not self._is_meanflow:
                state.sub_(direction[rows:], alpha=length * guidance)
        return state

    def _times(self, steps: int) -> Tensor:
        times = torch.linspace(0, 1, steps + 1)
        if not self._is_meanflow and self._module.decoder.t_scheduler == "cosine":
            times = 1 - torch.cos(times * 0.5 * torch.pi)
        return times

    def _encode(self, rows: Sequence[FlowRow], frames: int) -> Tensor:
        """What steers the flow, (rows, frames, 80), from each row's prompt and tokens, packed before any padding."""
        packed = [torch.cat([row.voice.reference_tokens[0].long(), torch.tensor(row.tokens).long()]) for row in rows]
        embedded = self._module.input_embedding(_padded(packed).to(self._device))
        is_real = self._is_real([len(tokens) for tokens in packed])
        if is_real is not None:
            embedded *= is_real[..., None]
        return self._module.encoder_proj(self._encoder(embedded, is_real)[:, :frames])

    def _speakers(self, rows: Sequence[FlowRow], frames: int) -> Tensor:
        affine = self._module.spk_embed_affine_layer
        vectors = torch.cat([row.voice.reference_speaker for row in rows]).to(affine.weight)
        return affine(F.normalize(vectors, dim=1))[:, None].expand(-1, frames, -1)

    def _prompts(self, rows: Sequence[FlowRow], frames: int) -> Tensor:
        """Each row's prompt as a mel spectrogram, zero where the flow is to go on by itself."""
        prompts = _padded([row.voice.reference_mel[0] for row in rows]).to(self._module.encoder_proj.weight)
        return F.pad(prompts, (0, 0, 0, frames - prompts.shape[1]))

    def _is_real(self, lengths: Sequence[int]) -> Tensor | None:
        """Which positions are not padding, (rows, longest); None where none is."""
        if len(set(lengths)) == 1:
            return None
        return (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).to(self._device)


def _padded(rows: Sequence[Tensor]) -> Tensor:
    """Rows of different length as one tensor, zeros behind the shorter ones."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
