"""A vocoder that is given a mel spectrogram piece by piece, and makes of it what it would make of the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from engines.chatterbox.s3gen.source import Phase
    from engines.chatterbox.s3gen.vocoder import Vocoder

# A sample of HiFT depends on 14 mel frames and 16 frames of excitation to either side (found by differentiating it),
# and the pitch of a frame on 5 frames to either side. Beyond 10 frames the influence is under a thousandth.
LEFT_CONTEXT = 16
RIGHT_CONTEXT = 21
FADE_FRAMES = 2  # over which a piece takes over from what the one before it had seen coming


class FrameNoise:
    """Standard noise by absolute frame, drawn in order: frame k is the same whatever was asked for before."""

    def __init__(self, width: int, generator: Generator) -> None:
        self._generator = generator
        self._drawn = torch.empty(0, width, device=generator.device)
        self._first = 0

    def frames(self, start: int, stop: int) -> Tensor:
        """The noise of frames start to stop, (stop - start, width)."""
        missing = stop - self._first - len(self._drawn)
        if missing > 0:
            shape, device = (missing, self._drawn.shape[1]), self._generator.device
            drawn = torch.randn(shape, generator=self._generator, device=device)
            self._drawn = torch.cat([self._drawn, drawn])
        return self._drawn[start - self._first : stop - self._first]

    def forget(self, before: int) -> None:
        """Give up the frames before this one, which are not asked for again."""
        self._drawn = self._drawn[before - self._first :].clone()
        self._first = before


class VocoderStream:
    """Samples of an utterance whose mel spectrogram grows.

    The samples of some frames at the end are held back until their right context is there. With RIGHT_CONTEXT frames
    held back the pieces joined are the whole within rounding; a short piece holds back half of what it has, so that
    something can be heard at once, and the next piece is faded in over what little that changes.
    """

    def __init__(self, vocoder: Vocoder, generator: Generator) -> None:
        self._vocoder = vocoder
        self._noise = FrameNoise(vocoder.source.harmonics * vocoder.hop_length, generator)
        self._phase: Phase = vocoder.source.begin(generator)  # at `done`
        self._excitation = torch.empty(1, 0, device=self._phase.offsets.device)  # of the left context
        self._expected = torch.empty(0, device=self._phase.offsets.device)  # samples after `done`, as last seen
        self.done = 0  # frames whose samples have left

    def feed(self, mel: Tensor, *, is_last: bool) -> Tensor:
        """The next samples, given the mel spectrogram so far, (80, frames), whose first `done` frames are unchanged.

        With `is_last` all that remain.
        """
        frames, hop = mel.shape[1], self._vocoder.hop_length
        new = frames - self.done
        if new <= 0:
            return mel.new_empty(0)
        held = 0 if is_last else min(RIGHT_CONTEXT, (new + 1) // 2)
        left = min(LEFT_CONTEXT, self.done)
        context = mel[:, self.done - left :]
        f0 = self._vocoder.f0(context)[left:]
        excitation = torch.cat([self._excitation, self._vocoder.source(f0, self._phase, self._noise_from(frames))], 1)
        samples = self._fade(self._vocoder.decode(context, excitation)[left * hop :])
        leaving = new - held
        self._keep(excitation, samples[leaving * hop :], f0[:leaving], frames - held)
        return samples[: leaving * hop]

    def _noise_from(self, frames: int) -> Tensor:
        """Noise for the frames from `done` on, (harmonics, samples)."""
        noise = self._noise.frames(self.done, frames).view(frames - self.done, -1, self._vocoder.hop_length)
        return noise.transpose(0, 1).flatten(1).to(self._excitation)

    def _fade(self, samples: Tensor) -> Tensor:
        """Let the samples take over, in a straight line, from those that were expected in their place."""
        expected = self._expected[: len(samples)]
        gain = torch.linspace(0, 1, len(expected), device=samples.device)
        samples[: len(expected)].lerp_(expected, 1 - gain)
        return samples

    def _keep(self, excitation: Tensor, expected: Tensor, f0: Tensor, done: int) -> None:
        hop = self._vocoder.hop_length
        self._expected = expected[: FADE_FRAMES * hop].clone()
        self._phase = self._vocoder.source.after(self._phase, f0)
        end = excitation.shape[1] - len(expected)
        self._excitation = excitation[:, max(0, end - LEFT_CONTEXT * hop) : end].clone()
        self._noise.forget(done)
        self.done = done
