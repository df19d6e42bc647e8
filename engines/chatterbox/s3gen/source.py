"""The sound that HiFT starts from: a sine at each harmonic of the voice, and noise where there is no voice.

The maths and the order of random draws are those of upstream's `SineGen` and `SourceModuleHnNSF`, so the same random
state gives the same sound. Upstream adds up phases from the first sample each time; here they can go on from anywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True, slots=True)
class Phase:
    """Where each harmonic stands between two mel frames."""

    offsets: Tensor  # (harmonics, 1), radians, drawn once an utterance
    cycles: Tensor  # (harmonics, 1), float64: periods since the first sample


class HarmonicSource:
    """Upstream's excitation signal for `hop_length` samples a mel frame. Keeps no state between calls."""

    def __init__(self, module: Any, hop_length: int) -> None:
        sines = module.l_sin_gen
        self.hop_length = hop_length
        self.harmonics: int = sines.harmonic_num + 1
        self._sample_rate: int = sines.sampling_rate
        self._sine_amplitude: float = sines.sine_amp
        self._voiced_noise: float = sines.noise_std
        self._voiced_above: float = sines.voiced_threshold
        self._mix = module.l_linear
        device = self._mix.weight.device
        self._counter = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64

    def begin(self, generator: Generator) -> Phase:
        """Draw where each harmonic starts; the lowest starts at zero."""
        device = self._mix.weight.device
        drawn = torch.rand(1, self.harmonics, 1, generator=generator, device=generator.device)[0]
        offsets = (drawn * (2 * math.pi) - math.pi).to(device)
        offsets[0] = 0
        return Phase(offsets, torch.zeros(self.harmonics, 1, dtype=torch.float64, device=self._counter))

    def noise(self, frames: int, generator: Generator) -> Tensor:
        """Noise for a whole utterance, (harmonics, samples), with the draw that upstream makes and does not use."""
        samples = frames * self.hop_length
        noise = torch.randn(1, self.harmonics, samples, generator=generator, device=generator.device)[0]
        torch.randn(1, samples, 1, generator=generator, device=generator.device)
        return noise.to(self._mix.weight.device)

    def after(self, phase: Phase, f0: Tensor) -> Phase:
        """The phase when the frames of `f0` (Hz, one a frame) have sounded."""
        periods = self._periods(f0).to(self._counter).double().sum(dim=1, keepdim=True)
        return Phase(phase.offsets, phase.cycles + periods * self.hop_length)

    def __call__(self, f0: Tensor, phase: Phase, noise: Tensor) -> Tensor:
        """The excitation, (1, samples), for f0 in Hz, shape (frames,), and standard noise (harmonics, samples)."""
        theta = self._cycles(f0, phase).remainder_(1).mul_(2 * math.pi)
        sines = theta.add_(phase.offsets).sin_().mul_(self._sine_amplitude)
        voiced = (f0 > self._voiced_above).to(sines).repeat_interleave(self.hop_length)
        noise_amplitude = voiced * self._voiced_noise + (1 - voiced) * self._sine_amplitude / 3
        sines.mul_(voiced).addcmul_(noise, noise_amplitude)
        return torch.addmm(self._mix.bias[:, None], self._mix.weight, sines).tanh_()

    def _periods(self, f0: Tensor) -> Tensor:
        """Periods a sample of each harmonic, (harmonics, frames)."""
        number = torch.arange(1, self.harmonics + 1, device=f0.device, dtype=f0.dtype)
        return f0 * number[:, None] / self._sample_rate

    def _cycles(self, f0: Tensor, phase: Phase) -> Tensor:
        """Periods since the first sample, float32 (harmonics, samples).

        Added up in float64, then rounded, as torch's float32 cumsum does on the CPU: late in a long utterance the
        rounding is audible to a comparison, if not to the ear.
        """
        periods = self._periods(f0).to(self._counter).double()
        before = phase.cycles + (periods.cumsum(dim=1) - periods) * self.hop_length
        within = torch.arange(1, self.hop_length + 1, device=self._counter, dtype=torch.float64)
        return (before[..., None] + periods[..., None] * within).flatten(1).float().to(f0.device)
