"""Speech tokens to samples, whole or as they come."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from chatterbox.models.s3gen.const import S3GEN_SIL

from engines.chatterbox.s3gen.rendering import Piece, Renderer, RenderJob, speech_tokens_of
from tests.engines.chatterbox.small_s3gen import (
    STEPS,
    make_s3gen,
    make_tokens,
    make_voice,
    unchecked,
    upstream_samples,
)

pytestmark = pytest.mark.model
TOKEN_SAMPLES = 960


class Stopped(Exception):
    """What a check raises in these tests."""


@pytest.fixture(scope="module", params=[False, True], ids=["ten steps", "meanflow"])
def s3gen(request, architecture):
    return make_s3gen(request.param)


@pytest.fixture(scope="module")
def renderer(s3gen):
    return Renderer(s3gen, precision="fp32")


@pytest.fixture
def steps(s3gen):
    return STEPS[s3gen.meanflow]


def job(seed, count=30, voice=None):
    return RenderJob(make_tokens(seed, count), voice or make_voice(seed), torch.Generator().manual_seed(seed))


def after(checks):
    """A check that raises when it has been called so often."""
    left = iter(range(checks))

    def check():
        if next(left, None) is None:
            raise Stopped

    return check


def as_generated_by_upstream(s3gen, given, seed):
    silence = [S3GEN_SIL] * 3 if s3gen.meanflow else []
    return upstream_samples(s3gen, [*given.tokens, *silence], given.voice, seed)


def test_a_job_is_what_upstream_makes_of_the_same_seed(s3gen, renderer, steps):
    given = job(1)

    [samples] = renderer.render([given], steps, unchecked)

    theirs = as_generated_by_upstream(s3gen, given, seed=1)
    assert samples.dtype == np.float32
    assert np.abs(theirs).max() > 0.05
    assert np.abs(samples - theirs).max() < 1e-4


def test_a_job_sounds_the_same_alone_and_in_a_crowd(s3gen, renderer, steps):
    seeds = {1: 30, 2: 44, 3: 1, 4: 17}

    crowd = renderer.render([job(seed, count) for seed, count in seeds.items()], steps, unchecked)

    for samples, (seed, count) in zip(crowd, seeds.items(), strict=True):
        [alone] = renderer.render([job(seed, count)], steps, unchecked)
        assert np.array_equal(samples, alone)
        assert np.abs(samples - as_generated_by_upstream(s3gen, job(seed, count), seed)).max() < 1e-4


def test_the_random_state_of_the_process_is_left_alone(renderer, steps):
    before = torch.get_rng_state()

    renderer.render([job(1, 5)], steps, unchecked)
    renderer.stream(make_voice(1), torch.Generator().manual_seed(1), steps).feed([1, 2], unchecked, is_last=True)

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("checks", [0, 1, 2])
def test_a_check_that_raises_leaves_nothing_behind(renderer, checks):
    [expected] = renderer.render([job(1, 5)], 2, unchecked)

    with pytest.raises(Stopped):
        renderer.render([job(2, 9), job(3, 9)], 2, after(checks))

    [samples] = renderer.render([job(1, 5)], 2, unchecked)
    assert np.array_equal(samples, expected)


def stream_of(renderer, steps, seed=1):
    return renderer.stream(make_voice(seed), torch.Generator().manual_seed(seed), steps)


def feed_all(stream, tokens):
    """Every piece as its tokens come, one at a time."""
    pieces = []
    for count in range(1, len(tokens) + 1):
        if count == stream.next_at:
            pieces.append(stream.feed(tokens[:count], unchecked, is_last=False))
    return [*pieces, stream.feed(tokens, unchecked, is_last=True)]


def test_the_first_samples_come_with_twelve_tokens(renderer, steps):
    stream = stream_of(renderer, steps)
    assert stream.next_at == 12

    first = stream.feed(make_tokens(1, 12), unchecked, is_last=False)

    assert len(first) >= 24_000 * 0.15
    assert stream.next_at == 37


@pytest.mark.parametrize("count", [1, 3, 11, 12, 40, 130])
def test_pieces_together_are_as_long_as_the_whole(renderer, steps, count):
    tokens = make_tokens(1, count)
    [whole] = renderer.render([job(1, count)], steps, unchecked)

    pieces = feed_all(stream_of(renderer, steps), tokens)

    assert sum(map(len, pieces)) == len(whole)


def test_a_stream_that_is_fed_once_is_faded_in_and_as_loud_as_the_whole(renderer, steps):
    [whole] = renderer.render([job(1)], steps, unchecked)

    samples = stream_of(renderer, steps).feed(make_tokens(1, 30), unchecked, is_last=True)

    assert not samples[:480].any()
    assert np.std(samples) == pytest.approx(np.std(whole), rel=0.1)


def test_a_stream_has_no_steps_between_its_pieces(renderer, steps):
    pieces = feed_all(stream_of(renderer, steps), make_tokens(1, 130))

    jumps = np.abs(np.diff(np.concatenate(pieces)))
    seams = np.cumsum([len(piece) for piece in pieces])[:-1]
    assert len(seams) == 3
    assert max(jumps[seam - 1] for seam in seams) < jumps.max()


def test_a_stream_is_the_same_whenever_it_runs(renderer, steps):
    one, other = (feed_all(stream_of(renderer, steps), make_tokens(1, 50)) for _ in range(2))

    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_stream_whose_check_raises_can_be_fed_again(renderer, steps):
    tokens = make_tokens(1, 40)
    expected = feed_all(stream_of(renderer, steps), tokens)
    stream = stream_of(renderer, steps)

    pieces = []
    for count in (12, 37):
        with pytest.raises(Stopped):
            stream.feed(tokens[:count], after(1), is_last=False)
        pieces.append(stream.feed(tokens[:count], unchecked, is_last=False))
    pieces.append(stream.feed(tokens, unchecked, is_last=True))

    assert all(np.array_equal(piece, other) for piece, other in zip(pieces, expected, strict=True))


def test_streams_that_are_fed_together_are_what_they_are_alone(renderer, steps):
    counts = {1: 12, 2: 30, 3: 37, 4: 2}  # the last too few for a sample
    alone = [
        stream_of(renderer, steps, seed).feed(make_tokens(seed, n), unchecked, is_last=False)
        for seed, n in counts.items()
    ]

    together = renderer.feed(
        [
            Piece(stream_of(renderer, steps, seed), make_tokens(seed, count), is_last=False)
            for seed, count in counts.items()
        ],
        steps,
        unchecked,
    )

    assert [len(samples) for samples in together] == [len(samples) for samples in alone]
    assert len(together[-1]) == 0
    assert all(np.allclose(samples, other, atol=1e-4) for samples, other in zip(together, alone, strict=True))


def test_a_recording_becomes_tokens_and_speech_of_its_length(s3gen, renderer, steps):
    recording = np.sin(np.arange(16_000, dtype=np.float32) * 0.05) / 2

    tokens = speech_tokens_of(s3gen, recording)

    theirs, _ = s3gen.tokenizer(torch.from_numpy(recording)[None])
    assert tokens == theirs[0].tolist()
    assert len(tokens) == 25
    [samples] = renderer.render([RenderJob(tokens, make_voice(1), torch.Generator())], steps, unchecked)
    silence = 3 if s3gen.meanflow else 0
    assert len(samples) == (25 + silence) * TOKEN_SAMPLES
