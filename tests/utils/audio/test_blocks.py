"""Blocks may be empty: what holds samples back gives such ones, and whatever comes next has to take them."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.utils.concatenation.sounds import noise
from utils.audio.analysis import FactsMeter
from utils.audio.encode import encoding
from utils.audio.formats import FORMATS, Bitrates
from utils.audio.limiter import GainCurve, Limiter, TruePeaks
from utils.audio.live_encode import live_encoder
from utils.audio.loudness import LoudnessMeter
from utils.audio.resample import StreamResampler
from utils.audio.trim import EdgeListener
from utils.audio.waveform import Extent

RATE = 24_000
Samples = NDArray[np.float32]
Cut = Callable[[Samples], list[Samples]]


def whole(samples: Samples) -> list[Samples]:
    return [samples]


def with_empty_blocks(samples: Samples) -> list[Samples]:
    """The same, with an empty block before, within and after it, and two in a row."""
    nothing = samples[:0]
    return [nothing, samples[:7], nothing, nothing, samples[7:], nothing]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("count", [0, 40_000])
def test_meters_hear_nothing_in_an_empty_block(channels: int, count: int) -> None:
    def heard(cut: Cut) -> list[object]:
        loudness, facts = LoudnessMeter(RATE, channels), FactsMeter(RATE, channels)
        peaks, edges = TruePeaks(12), EdgeListener(RATE)
        found = []
        for block in cut(noise(count, channels=channels)):
            loudness.add(block)
            facts.add(block)
            edges.add(block[:, 0])
            found.append(peaks.add(block[:, 0]))
        of_peaks = np.concatenate([*found, peaks.rest()]).tolist()
        return [loudness.integrated_lufs, loudness.level_lufs, facts.facts("wav"), edges.edges, of_peaks]

    assert heard(with_empty_blocks) == heard(whole)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("count", [0, 40_000])
def test_what_changes_samples_makes_nothing_of_an_empty_block(channels: int, count: int) -> None:
    def changed(cut: Cut) -> list[Samples]:
        limiter, resampler = Limiter(RATE, channels, 0.1), StreamResampler(RATE, 44_100, channels)
        curve = GainCurve(0.1, 2000)
        blocks = cut(noise(count, channels=channels))
        limited = [*(limiter.add(block) for block in blocks), limiter.rest()]
        fitted = [resampler.add(block if channels > 1 else block[:, 0]) for block in blocks]
        gains = [*(curve.add(np.abs(block[:, 0])) for block in blocks), curve.rest()]
        return [np.concatenate(limited), np.concatenate([*fitted, resampler.rest()]), np.concatenate(gains)]

    for made, expected in zip(changed(with_empty_blocks), changed(whole), strict=True):
        assert made.shape == expected.shape
        assert np.allclose(made, expected, atol=1e-6)


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("rate", [RATE, 192_000])
def test_encoders_write_nothing_for_an_empty_block(format_name: str, rate: int) -> None:
    def written(cut: Cut) -> bytes:
        file = io.BytesIO()
        samples = noise(40_000)[:, 0]
        with encoding(file, format_name, Extent(len(samples), rate), Bitrates()) as add:
            for block in cut(samples):
                add(block)
        return file.getvalue()

    assert written(with_empty_blocks) == written(lambda samples: [samples[:7], samples[7:]])


@pytest.mark.parametrize("format_name", FORMATS)
def test_live_encoders_send_nothing_for_an_empty_block(format_name: str) -> None:
    def sent(cut: Cut) -> bytes:
        encoder = live_encoder(format_name, RATE, Bitrates())
        return b"".join(map(encoder.encode, cut(noise(40_000)[:, 0]))) + encoder.finish()

    assert sent(with_empty_blocks) == sent(lambda samples: [samples[:7], samples[7:]])
