"""Speech tokens to samples: whole utterances at once, or one utterance while its tokens are still being made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from chatterbox.models.s3gen.const import S3GEN_SIL

from engines.chatterbox.s3gen.estimator import Precision, best_precision
from engines.chatterbox.s3gen.flow import Flow, FlowRow
from engines.chatterbox.s3gen.vocoder import Vocoder
from engines.chatterbox.s3gen.vocoder_stream import FrameNoise, VocoderStream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from engines.chatterbox.voice import PreparedVoice

FIRST_TOKENS = 12  # 0.48 s: the least that yields something to hear at once
FIRST_STEP = 25  # tokens until the second piece; then twice as many each time
MEL_FADE_FRAMES = 8  # over which a new solution takes over from the one before


@dataclass(frozen=True, slots=True)
class RenderJob:
    """An utterance to render. The generator is where its noise comes from; rendering moves it on."""

    tokens: Sequence[int]
    voice: PreparedVoice
    generator: Generator


class Renderer:
    """Upstream's `S3Gen`, tokens to waveform, over the same parameters; what a call needs comes with the call.

    After equal draws the samples are upstream's within rounding. On a CPU each job runs by itself, since a batch is no
    faster there, so a job sounds the same to the bit whatever it is rendered with; on a GPU the flow runs as one batch.
    """

    def __init__(self, s3gen: Any, precision: Precision | None = None, *, records: bool = True) -> None:
        """On an NVIDIA device steps that come again are recorded as CUDA graphs, if it `records`."""
        self._device: torch.device = s3gen.device
        self._fade_in: Tensor = s3gen.trim_fade
        self._is_meanflow: bool = s3gen.meanflow
        precision = precision or best_precision(self._device)
        records = records and self._device.type == "cuda"
        self.flow = Flow(s3gen.flow, is_meanflow=s3gen.meanflow, precision=precision, records=records)
        self.vocoder = Vocoder(s3gen.mel2wav, precision, records=records)

    def render(
        self, jobs: Sequence[RenderJob], flow_steps: int, check: Callable[[], None]
    ) -> list[NDArray[np.float32]]:
        """Each job's samples at 24 kHz, as many as its tokens ask for: 960 a token.

        A meanflow model says three tokens of silence more at the end, as upstream's `generate` has it. `check` is
        called before each step of the flow and before each vocoding; what it raises passes through.
        """
        batches = [jobs] if self._device.type == "cuda" else [[job] for job in jobs]
        return [samples for batch in batches for samples in self.render_together(batch, flow_steps, check)]

    @torch.inference_mode()
    def feed(self, pieces: Sequence[Piece], flow_steps: int, check: Callable[[], None]) -> list[NDArray[np.float32]]:
        """The next samples of several streams of this renderer, as `RenderStream.feed`, the flow in one batch."""
        begun = [(piece, piece.stream.begin(piece.tokens, is_last=piece.is_last)) for piece in pieces]
        rows = [row for _, row in begun if row is not None]
        comes_again = not any(piece.is_last for piece in pieces)  # the rest of a stream is of any length
        mels = iter(self.flow.mels(rows, flow_steps, check, comes_again=comes_again) if rows else [])
        check()
        return [
            np.empty(0, np.float32)
            if row is None
            else np.asarray(piece.stream.finish(row, next(mels), is_last=piece.is_last).cpu(), np.float32)
            for piece, row in begun
        ]

    def stream(self, voice: PreparedVoice, generator: Generator, flow_steps: int) -> RenderStream:
        """Render an utterance whose tokens are still being made. The generator gives two seeds, and is free then."""
        return RenderStream(self, voice, generator, flow_steps)

    def closed(self, tokens: Sequence[int]) -> list[int]:
        """The tokens of an utterance that has ended, with the silence that the model was made to end on."""
        return [*tokens, *[S3GEN_SIL] * (3 if self._is_meanflow else 0)]

    def faded_in(self, samples: Tensor) -> Tensor:
        """Silence the first 20 ms and fade in the next, where the prompt spills over (upstream's `trim_fade`)."""
        length = min(len(samples), len(self._fade_in))
        samples[:length] *= self._fade_in[:length]
        return samples

    @torch.inference_mode()
    def render_together(
        self, jobs: Sequence[RenderJob], flow_steps: int, check: Callable[[], None]
    ) -> list[NDArray[np.float32]]:
        """As `render`, with the flow of all jobs in one padded batch, whatever the device."""
        rows = []
        for job in jobs:
            tokens = self.closed(job.tokens)
            rows.append(FlowRow(tokens, job.voice, self.flow.noise(job.voice, len(tokens), job.generator)))
        rendered = []
        for mel, job in zip(self.flow.mels(rows, flow_steps, check), jobs, strict=True):
            check()
            samples = self.faded_in(self.vocoder.synthesize(mel, job.generator))
            rendered.append(np.asarray(samples.cpu(), np.float32))
        return rendered


@dataclass(frozen=True, slots=True)
class Piece:
    """All tokens of a stream so far, of which its next samples are to be made; all that remain if it `is_last`."""

    stream: RenderStream
    tokens: Sequence[int]
    is_last: bool


class RenderStream:
    """One utterance, rendered as its tokens come.

    Each time the flow is solved anew for all tokens so far, since it attends to all of them, from the same noise. What
    has been heard stays; what has not is faded over to the new solution. All pieces together are as long as `render`
    makes the utterance. If `check` raises, the stream is as it was before the call.
    """

    def __init__(self, renderer: Renderer, voice: PreparedVoice, generator: Generator, flow_steps: int) -> None:
        self._renderer, self._voice, self._flow_steps = renderer, voice, flow_steps
        flow_noise, vocoder_noise = _independent(generator), _independent(generator)
        self._noise = FrameNoise(voice.reference_mel.shape[2], flow_noise)
        self._vocoder = VocoderStream(renderer.vocoder, vocoder_noise)
        self._mel: Tensor | None = None
        self._step = FIRST_STEP
        self.next_at = FIRST_TOKENS  # feed again with this many tokens

    def feed(self, tokens: Sequence[int], check: Callable[[], None], *, is_last: bool) -> NDArray[np.float32]:
        """The samples that follow from all tokens so far, which may be none; with `is_last` all that remain."""
        [samples] = self._renderer.feed([Piece(self, tokens, is_last)], self._flow_steps, check)
        return samples

    def begin(self, tokens: Sequence[int], *, is_last: bool) -> FlowRow | None:
        """What the flow is to make for the next samples; None if no new ones come of these tokens."""
        renderer = self._renderer
        tokens = renderer.closed(tokens) if is_last else tokens
        frames = renderer.flow.frames(self._voice, len(tokens) if is_last else len(tokens) - renderer.flow.lookahead)
        if frames <= self._voice.reference_mel.shape[1] + self._vocoder.done:
            return None
        return FlowRow(tokens, self._voice, self._noise.frames(0, frames))

    def finish(self, row: FlowRow, mel: Tensor, *, is_last: bool) -> Tensor:
        """The next samples, from what the flow made."""
        samples = self._heard(mel, is_last=is_last)
        while self.next_at <= len(row.tokens):
            self.next_at += self._step
            self._step *= 2
        return samples

    def _heard(self, mel: Tensor, *, is_last: bool) -> Tensor:
        is_first = self._vocoder.done == 0
        self._mel = self._continued(mel)
        samples = self._vocoder.feed(self._mel, is_last=is_last)
        return self._renderer.faded_in(samples) if is_first else samples

    def _continued(self, mel: Tensor) -> Tensor:
        """The new solution, its beginning replaced by what has been heard and faded over from what was held back."""
        if self._mel is None:
            return mel
        done, seen = self._vocoder.done, self._mel.shape[1]
        fade = min(MEL_FADE_FRAMES, seen - done)
        mel[:, :done] = self._mel[:, :done]
        gain = torch.arange(1, fade + 1, device=mel.device) / (fade + 1)
        mel[:, done : done + fade] = torch.lerp(self._mel[:, done : done + fade], mel[:, done : done + fade], gain)
        return mel


def speech_tokens_of(s3gen: Any, samples: NDArray[np.float32]) -> list[int]:
    """What a recording says, as speech tokens: samples at 16 kHz, 25 tokens a second. For voice conversion."""
    with torch.inference_mode():
        tokens, _ = s3gen.tokenizer(torch.from_numpy(samples).to(s3gen.device)[None])
    return [int(token) for token in tokens[0].tolist()]


def _independent(generator: Generator) -> Generator:
    """A generator of its own, seeded by one draw."""
    seed = torch.randint(2**63 - 1, (), generator=generator, device=generator.device)
    return torch.Generator(generator.device).manual_seed(int(seed))
