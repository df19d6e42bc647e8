"""Mel spectrograms to samples: upstream's numbers, whole or piece by piece."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from engines.chatterbox.s3gen.spectrum import Spectrum
from engines.chatterbox.s3gen.vocoder import Vocoder
from engines.chatterbox.s3gen.vocoder_stream import FrameNoise, VocoderStream
from engines.chatterbox.s3gen.windows import Windows
from tests.engines.chatterbox.small_s3gen import make_s3gen

pytestmark = pytest.mark.model
FRAMES = 200  # 4 s


@pytest.fixture(scope="module")
def hift(architecture):
    return make_s3gen(is_meanflow=False).mel2wav


@pytest.fixture(scope="module")
def vocoder(hift):
    return Vocoder(hift)


@pytest.fixture(scope="module")
def mel(architecture):
    return torch.randn(80, FRAMES, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.inference_mode():
        yield


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def test_it_is_upstream_after_the_same_seed(hift, vocoder, mel):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        theirs, _ = hift.inference(mel[None])
        end_of_theirs = torch.get_rng_state()
    generator = seeded()

    ours = vocoder.synthesize(mel, generator)

    assert theirs.abs().max() > 0.05
    assert (ours - theirs[0]).abs().max() < 1e-4
    assert torch.equal(generator.get_state(), end_of_theirs)


def test_a_voice_is_heard_and_a_pause_is_noise(vocoder):
    f0 = torch.cat([torch.full((50,), 150.0), torch.zeros(50)])
    source = vocoder.source

    voiced, unvoiced = source(f0, source.begin(seeded()), torch.zeros(source.harmonics, 100 * 480))[0].chunk(2)

    assert voiced.std() > 10 * unvoiced.std()


def test_the_excitation_goes_on_where_it_was_left(vocoder):
    source = vocoder.source
    f0 = 100 + 100 * torch.rand(FRAMES, generator=seeded(2))
    noise = torch.randn(source.harmonics, FRAMES * 480, generator=seeded(3))
    start = source.begin(seeded())

    whole = source(f0, start, noise)
    rest = source(f0[70:], source.after(start, f0[:70]), noise[:, 70 * 480 :])

    assert torch.allclose(rest, whole[:, 70 * 480 :], atol=1e-4)


def streamed(vocoder, mel, ends, seed=5):
    stream = VocoderStream(vocoder, seeded(seed))
    return [stream.feed(mel[:, :end], is_last=end == mel.shape[1]) for end in ends]


@pytest.mark.parametrize("ends", [(60, 200), (43, 86, 129, 200), (99, 150, 200)])
def test_pieces_joined_are_the_whole(vocoder, mel, ends):
    whole = torch.cat(streamed(vocoder, mel, [FRAMES]))

    joined = torch.cat(streamed(vocoder, mel, ends))

    assert len(whole) == FRAMES * 480
    assert (joined - whole).abs().max() < 1e-4 * whole.abs().max()


def test_a_short_first_piece_is_joined_without_a_step_or_a_click(vocoder, mel):
    whole = torch.cat(streamed(vocoder, mel, [FRAMES]))

    pieces = streamed(vocoder, mel, (18, 68, 200))

    joined, seam = torch.cat(pieces), len(pieces[0])
    steps = joined.diff().abs()
    assert seam == 9 * 480
    assert steps[seam - 2 : seam + 2].max() <= steps.max() * 0.9
    assert (joined - whole).abs().max() < 1e-2 * whole.abs().max()


def test_noise_by_frame_is_the_same_however_it_is_asked_for():
    whole = FrameNoise(80, seeded()).frames(0, 50)
    piecewise = FrameNoise(80, seeded())

    first, second = piecewise.frames(0, 7), piecewise.frames(3, 31)
    piecewise.forget(20)

    assert torch.equal(first, whole[:7])
    assert torch.equal(second, whole[3:31])
    assert torch.equal(piecewise.frames(20, 50), whole[20:])


def test_the_parameters_keep_their_values(hift):
    before = {name: value.clone() for name, value in hift.state_dict().items()}

    Vocoder(hift).synthesize(torch.randn(80, 3), seeded())

    after = hift.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("frames", [64, 65, 100, 127, 128, 200])
def test_windows_make_what_the_whole_makes(vocoder, mel, frames):
    mel, excitation = mel[:, :frames], 0.1 * torch.randn(1, frames * 480, generator=seeded())
    whole = vocoder.decode(mel, excitation)

    windows = Windows(vocoder.decode)(frames, mel, excitation)

    assert windows.shape == whole.shape
    assert (windows - whole).abs().max() < 1e-4 * whole.abs().max()
    assert torch.allclose(Windows(vocoder.f0)(frames, mel), vocoder.f0(mel), atol=1e-4)


def test_the_spectrum_is_torchs_there_and_back():
    window = torch.hann_window(16, periodic=True)
    signal = torch.randn(1, 4 * 100, generator=seeded())
    spectrum = Spectrum(16, 4, window)

    parts = spectrum.analyse(signal)

    theirs = torch.stft(signal, 16, 4, 16, window=window, return_complex=True)[0]
    assert torch.allclose(parts, torch.cat([theirs.real, theirs.imag]), atol=1e-5)
    assert torch.allclose(spectrum.synthesize(theirs.abs(), theirs.angle()), signal[0], atol=1e-5)


def test_the_spectrum_goes_back_from_what_is_no_signals_spectrum():
    window = torch.hann_window(16, periodic=True)
    magnitude, phase = torch.rand(2, 9, 50, generator=seeded())

    samples = Spectrum(16, 4, window).synthesize(magnitude, phase)

    theirs = torch.istft(torch.polar(magnitude, phase)[None], 16, 4, 16, window=window)[0]
    assert torch.allclose(samples, theirs, atol=1e-5)
