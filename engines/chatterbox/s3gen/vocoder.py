"""Mel spectrogram to waveform: HiFT over upstream's weights, with weight norm folded and channels last.

Upstream computes each weight from its norm and direction on every call, and convolves with channels first; oneDNN is
1.2 to 1.3 times faster the other way round. The result differs by rounding only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from engines.chatterbox.s3gen.estimator import Precision, convolving
from engines.chatterbox.s3gen.source import HarmonicSource
from engines.chatterbox.s3gen.spectrum import Spectrum
from engines.chatterbox.s3gen.windows import SHORTEST, RecordedWindows

if TYPE_CHECKING:
    from torch import Generator, Tensor

MEL_CHANNELS = 80


class Vocoder:
    """Upstream's `HiFTGenerator`, one utterance at a time: nothing is gained by a batch, whose rows would need masks
    before each of some 150 convolutions to end alike. Holds its own folded weights (83 MB) and no state. If it
    `records`, on an NVIDIA device, it works in windows from `SHORTEST` frames on.
    """

    def __init__(self, module: Any, precision: Precision = "fp32", *, records: bool = False) -> None:
        device = module.conv_pre.bias.device
        stft = module.istft_params
        self._bins: int = stft["n_fft"] // 2 + 1
        self._spectrum = Spectrum(stft["n_fft"], stft["hop_len"], module.stft_window.to(device))
        self._limit: float = module.audio_limit
        self._slope: float = module.lrelu_slope
        self.hop_length = int(module.f0_upsamp.scale_factor)
        self.source = HarmonicSource(module.m_source, self.hop_length)
        self._pitch = [_Convolution(layer) for layer in module.f0_predictor.condnet if hasattr(layer, "weight")]
        self._pitch_out = module.f0_predictor.classifier
        self._first = _Convolution(module.conv_pre)
        self._last = _Convolution(module.conv_post)
        self._stages = [_Stage(module, index) for index in range(module.num_upsamples)]
        self._pitch_windows = self._windows = None
        self._device, self._is_exact = device, precision == "fp32"
        if records:
            shapes = [(MEL_CHANNELS, 1), (1, self.hop_length)]
            with torch.inference_mode():
                self._pitch_windows = RecordedWindows(self._f0, shapes[:1], device)
                self._windows = RecordedWindows(self._decode, shapes, device)

    def synthesize(self, mel: Tensor, generator: Generator) -> Tensor:
        """The samples, (frames * hop_length,), of a mel spectrogram (80, frames), one frame at least.

        Draws from the generator what upstream's `HiFTGenerator.inference` draws from the global state.
        """
        phase = self.source.begin(generator)
        noise = self.source.noise(mel.shape[1], generator)
        return self.decode(mel, self.source(self.f0(mel), phase, noise))

    def f0(self, mel: Tensor) -> Tensor:
        """The voice's pitch in Hz, one value a frame, of a mel spectrogram (80, frames)."""
        frames = mel.shape[1]
        if self._pitch_windows is None or frames < SHORTEST:
            return self._f0(mel)
        return self._pitch_windows(frames, mel)

    def decode(self, mel: Tensor, excitation: Tensor) -> Tensor:
        """The samples that a mel spectrogram (80, frames) and its excitation (1, frames * hop_length) make."""
        frames = mel.shape[1]
        if self._windows is None or frames < SHORTEST:
            return self._decode(mel, excitation)
        return self._windows(frames, mel, excitation)

    def _f0(self, mel: Tensor) -> Tensor:
        hidden = _channels_last(mel)
        with convolving(self._device, exactly=True):  # a pitch that is a little off goes on adding up
            for convolution in self._pitch:
                hidden = F.elu_(convolution(hidden))
        return self._pitch_out(hidden[0, :, 0].t()).squeeze(-1).abs_()

    def _decode(self, mel: Tensor, excitation: Tensor) -> Tensor:
        spectrum = _channels_last(self._spectrum.analyse(excitation))
        with convolving(self._device, exactly=self._is_exact):
            hidden = self._first(_channels_last(mel))
            for stage in self._stages:
                hidden = stage(F.leaky_relu_(hidden, self._slope), spectrum)
            hidden = self._last(F.leaky_relu_(hidden))
        log_magnitude, phase = hidden[0, :, 0].split(self._bins)
        samples = self._spectrum.synthesize(log_magnitude.exp().clamp_(max=1e2), phase.sin())
        return samples.clamp_(-self._limit, self._limit)


class _Stage:
    """One upsampling: the mel's way and the excitation's way meet, then the mean of some residual blocks."""

    def __init__(self, module: Any, index: int) -> None:
        kernels = module.num_kernels
        self._up = _Convolution(module.ups[index])
        self._pad = module.reflection_pad.padding if index == module.num_upsamples - 1 else None
        self._source_down = _Convolution(module.source_downs[index])
        self._source_block = _ResidualBlock(module.source_resblocks[index])
        self._blocks = [_ResidualBlock(block) for block in module.resblocks[index * kernels : (index + 1) * kernels]]

    def __call__(self, hidden: Tensor, spectrum: Tensor) -> Tensor:
        hidden = self._up(hidden)
        if self._pad:
            hidden = _channels_last(F.pad(hidden[0, :, 0], self._pad, mode="reflect"))
        hidden = hidden.add_(self._source_block(self._source_down(spectrum)))
        total = self._blocks[0](hidden)
        for block in self._blocks[1:]:
            total += block(hidden)
        return total.div_(len(self._blocks))


class _ResidualBlock:
    def __init__(self, module: Any) -> None:
        layers = zip(module.activations1, module.convs1, module.activations2, module.convs2, strict=True)
        self._layers = [(_Snake(a), _Convolution(b), _Snake(c), _Convolution(d)) for a, b, c, d in layers]

    def __call__(self, hidden: Tensor) -> Tensor:
        for snake1, convolution1, snake2, convolution2 in self._layers:
            hidden = convolution2(snake2(convolution1(snake1(hidden)))).add_(hidden)
        return hidden


class _Snake:
    """x + sin²(αx) / α, each channel with its α (arXiv:2006.08195)."""

    def __init__(self, module: Any) -> None:
        alpha = module.alpha.detach()[:, None, None]
        self._alpha = alpha.exp() if module.alpha_logscale else alpha
        self._inverse = 1.0 / (self._alpha + module.no_div_by_zero)

    def __call__(self, hidden: Tensor) -> Tensor:
        return torch.addcmul(hidden, (hidden * self._alpha).sin_().square_(), self._inverse)


class _Convolution:
    """A convolution over time with its weight as it is used: norm folded in, (out, in, 1, taps), channels last.

    The padding is added beforehand: oneDNN's channels-last kernel takes a fifth longer if it has to pad by itself.
    """

    def __init__(self, module: Any) -> None:
        self._weight = module.weight.detach()[:, :, None].clone(memory_format=torch.channels_last)
        self._bias = module.bias
        self._stride, self._dilation, self._padding = (1, *module.stride), (1, *module.dilation), module.padding
        self._is_transposed = isinstance(module, torch.nn.ConvTranspose1d)

    def __call__(self, hidden: Tensor) -> Tensor:
        if self._is_transposed:
            return F.conv_transpose2d(hidden, self._weight, self._bias, self._stride, (0, *self._padding))
        if any(self._padding):
            hidden = F.pad(hidden, self._padding * 2)
        return F.conv2d(hidden, self._weight, self._bias, self._stride, dilation=self._dilation)


def _channels_last(signal: Tensor) -> Tensor:
    """(channels, time) as (1, channels, 1, time), its channels side by side in memory."""
    return signal[None, :, None].contiguous(memory_format=torch.channels_last)
