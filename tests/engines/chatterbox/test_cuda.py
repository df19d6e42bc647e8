"""On an NVIDIA device: what is recorded says what the same operations say one by one, alone and in a crowd."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from engines.chatterbox.chance import chance
from engines.chatterbox.device import device_of
from engines.chatterbox.s3gen.rendering import Piece, Renderer, RenderJob
from engines.chatterbox.t3.decoding import Decoder
from engines.chatterbox.t3.linear import Precision
from tests.engines.chatterbox.small_s3gen import make_s3gen, make_tokens
from tests.engines.chatterbox.small_s3gen import make_voice as make_rendered_voice
from tests.engines.chatterbox.small_t3 import TEXT, VARIANTS, make_t3, make_voice, performance

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA device"),
]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
MOST = 60


@pytest.fixture(scope="module")
def device():
    return device_of("cuda")


def decoder_of(name: str, precision: Precision, device: torch.device, *, records: bool = True) -> Decoder:
    return Decoder(make_t3(name).to(device), VARIANTS[name], precision, device, max_sequences=8, records=records)


def spoken(decoder: Decoder, seed: int) -> list[int]:
    sequence = decoder.admit(TEXT, make_voice(1), performance(), chance(seed, decoder.device), MOST)
    while not sequence.is_finished:
        decoder.step()
    return list(sequence.tokens)


@pytest.mark.parametrize("name", ["english", "turbo"])
def test_in_float32_the_recorded_steps_say_what_the_others_say(device, name):
    recorded, one_by_one = (decoder_of(name, "fp32", device, records=records) for records in (True, False))

    assert recorded._transformer._captured is not None
    assert one_by_one._transformer._captured is None
    assert spoken(recorded, seed=3) == spoken(one_by_one, seed=3)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["english", "turbo"])
def test_a_seed_says_the_same_alone_and_in_a_crowd(device, name, precision):
    decoder = decoder_of(name, precision, device)
    alone = spoken(decoder, seed=3)

    for number in range(7):
        decoder.admit(TEXT[number:], make_voice(number), performance(), chance(number, device), 500)

    assert spoken(decoder, seed=3) == alone


def test_the_cache_may_grow_and_be_given_back_under_a_recording(device):
    decoder = decoder_of("english", "fp32", device)
    first = spoken(decoder, seed=3)
    long = decoder.admit(TEXT, make_voice(2), performance(), chance(1, device), 600)
    while not long.is_finished:
        decoder.step()

    assert decoder.active == []
    assert spoken(decoder, seed=3) == first


@pytest.fixture(scope="module", params=[False, True], ids=["cfm", "meanflow"])
def renderer(architecture, device, request):
    return Renderer(make_s3gen(is_meanflow=request.param).to(device), "fp32")


def nobody() -> None:
    """Who would stop the work."""


def test_samples_are_the_processors(architecture, renderer, device):
    on_cpu = Renderer(make_s3gen(is_meanflow=renderer._is_meanflow), "fp32")
    tokens, voice = make_tokens(1, 80), make_rendered_voice(1)

    [ours] = renderer.render([RenderJob(tokens, voice, torch.Generator().manual_seed(1))], 2, nobody)

    [theirs] = on_cpu.render([RenderJob(tokens, voice, torch.Generator().manual_seed(1))], 2, nobody)
    assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()


def test_a_shape_that_comes_again_is_rendered_as_the_first_time(renderer, device):
    tokens, voice = make_tokens(1, 80), make_rendered_voice(1)

    def first_piece() -> np.ndarray:
        return renderer.stream(voice, chance(1, device), 10).feed(tokens[:12], nobody, is_last=False)

    pieces = [first_piece() for _ in range(4)]

    assert any(renderer.flow._recordings._shapes.values())
    assert all(np.allclose(piece, pieces[0], atol=1e-5) for piece in pieces)


def test_a_variant_may_be_loaded_while_another_one_speaks(device):
    speaking = decoder_of("english", "bf16", device)
    alone = spoken(speaking, seed=3)
    with ThreadPoolExecutor(1) as loader:
        loading = loader.submit(lambda: [decoder_of("turbo", "bf16", device) for _ in range(3)])

        meanwhile = [spoken(speaking, seed=3)]
        while not loading.done():
            meanwhile.append(spoken(speaking, seed=3))

    assert len(loading.result()) == 3
    assert all(tokens == alone for tokens in meanwhile)


def test_streams_together_are_what_they_are_alone(renderer, device):
    def stream(seed: int) -> Piece:
        voice = make_rendered_voice(seed)
        return Piece(renderer.stream(voice, chance(seed, device), 2), make_tokens(seed, 12), is_last=False)

    together = renderer.feed([stream(1), stream(2), stream(3)], 2, nobody)

    for seed, samples in enumerate(together, 1):
        [alone] = renderer.feed([stream(seed)], 2, nobody)
        assert np.allclose(samples, alone, atol=1e-4)
