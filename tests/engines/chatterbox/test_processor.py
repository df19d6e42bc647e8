"""The compiled arithmetic: products to the bit the same in any company, and a forward pass that is torch's."""

import copy
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engines.chatterbox.t3.attention import Segment
from engines.chatterbox.t3.processor import memory
from engines.chatterbox.t3.processor.forward import Forward
from engines.chatterbox.t3.processor.instructions import HAS_TILES
from engines.chatterbox.t3.processor.matrix import Matrix
from engines.chatterbox.t3.processor.memory import Shelf
from engines.chatterbox.t3.processor.team import Team, torch_alone
from engines.chatterbox.t3.transformer import Transformer
from tests.engines.chatterbox.small_t3 import CPU, make_t3

ERRORS = {"fp32": 1e-6, "fp16": 1e-4, "bf16": 1e-2, "int8": 1.5e-2}
WAYS = [pytest.param(False, id="as any processor"), pytest.param(True, id="by matrix units")]
SHAPES = [(96, 64), (100, 50), (17, 1030), (40, 4096)]


@pytest.fixture(scope="module", params=[1, 3])
def workers(request):
    return Team(request.param)


def made(precision, weight, bias=None, **options):
    return Matrix(Shelf(), precision, weight, bias, **options)


def skip_without(has_tiles):
    if has_tiles and not HAS_TILES:
        pytest.skip("this processor has no matrix units")


@pytest.mark.parametrize("precision", ERRORS)
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 40, 70])
@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
@pytest.mark.parametrize("has_bias", [True, False])
def test_every_precision_multiplies_and_adds_the_bias(workers, precision, rows, outputs, inputs, has_bias):
    torch.manual_seed(1)
    weight, x = torch.randn(outputs, inputs), torch.randn(rows, inputs)
    bias = torch.randn(outputs) if has_bias else None

    product = made(precision, weight, bias)(x, workers)

    expected = F.linear(x, weight, bias)
    assert product.dtype == torch.float32
    assert (product - expected).norm() <= ERRORS[precision] * expected.norm()


@pytest.mark.parametrize("precision", ERRORS)
@pytest.mark.parametrize("has_tiles", WAYS)
def test_a_row_is_the_same_to_the_bit_whatever_the_others_are(workers, precision, has_tiles):
    skip_without(has_tiles)
    torch.manual_seed(2)
    multiply = made(precision, torch.randn(96, 1024), torch.randn(96), has_tiles=has_tiles)
    x = torch.randn(70, 1024)
    x[1] *= 1e4
    together = multiply(x, workers)

    for first, count in [(0, 1), (0, 2), (1, 2), (5, 4), (40, 1), (3, 33)]:
        assert torch.equal(multiply(x[first : first + count], workers), together[first : first + count])


@pytest.mark.skipif(not HAS_TILES, reason="this processor has no matrix units")
@pytest.mark.parametrize(("outputs", "inputs"), [*SHAPES, (64, 1088)])
@pytest.mark.parametrize("rows", [1, 6, 16, 33])
def test_matrix_units_give_what_other_processors_give_to_the_bit(outputs, inputs, rows):
    torch.manual_seed(3)
    weight, bias, x = torch.randn(outputs, inputs), torch.randn(outputs), torch.randn(rows, inputs)

    with_units = made("int8", weight, bias, has_tiles=True)(x)

    assert torch.equal(with_units, made("int8", weight, bias, has_tiles=False)(x))


@pytest.mark.parametrize("has_tiles", WAYS)
@pytest.mark.parametrize("inputs", [1024, 4096])
def test_the_greatest_whole_numbers_do_not_overflow(has_tiles, inputs):
    skip_without(has_tiles)
    signs = torch.tensor([1.0, -1.0] * 4)[:, None]

    product = made("int8", torch.ones(16, inputs), has_tiles=has_tiles)(signs.expand(8, inputs))

    torch.testing.assert_close(product, inputs * signs.expand(8, 16), rtol=1e-6, atol=0)


@pytest.mark.parametrize("has_tiles", WAYS)
def test_in_int8_a_few_great_activations_do_not_drown_the_others(has_tiles):
    skip_without(has_tiles)
    torch.manual_seed(3)
    weight, x = torch.randn(96, 1024), torch.randn(6, 1024)
    x[:, :4] *= 100
    x[5] = 0
    weight[:, :4] = 0  # so that only the others are heard

    product = made("int8", weight, has_tiles=has_tiles)(x)

    expected = F.linear(x, weight)
    assert (product - expected).norm() <= 1e-2 * expected.norm()
    assert not product[5].any()


@pytest.fixture(scope="module", params=["english", "multilingual", "turbo"])
def both(request):
    """A transformer that goes forward in one call, and the same as torch's operations."""
    model = make_t3(request.param)
    compiled, plain = (
        Transformer(
            copy.deepcopy(model),
            "fp32",
            CPU,
            most_rows=8,
            watches_alignment=request.param == "multilingual",
            records=False,
        )
        for _ in range(2)
    )
    plain.forward = None
    return compiled, plain


def test_what_is_read_and_said_is_what_torch_makes_of_it(both):
    torch.manual_seed(4)
    width = both[0].shape.heads * both[0].shape.head_dim
    texts = [torch.randn(count, width) for count in (9, 9, 70)]
    answers = []
    for transformer in both:
        heard = []
        with torch.inference_mode():
            for text in (texts[:2], texts[2:]):  # two rows at once, then a longer one beside them
                rows = [transformer.cache.add(transformer.nothing, room=len(one)) for one in text]
                segments = [Segment(row, len(one), watched=2) for row, one in zip(rows, text, strict=True)]
                transformer.read(segments, torch.cat(text))
                heard.append(transformer.logits[rows].clone())
            for step in range(5):
                transformer.advance([5 + step, 6, 7], [step, step, step])
                heard.append(transformer.logits[:3].clone())
                heard += [weights.clone() for weights in transformer.watch.weights.values()]
            lengths = list(transformer.cache.lengths)
            transformer.cache.truncate(0)
        answers.append((heard, lengths))
    (ours, known), (torchs, also_known) = answers

    assert known == also_known == [14, 14, 75]
    assert len(ours) == len(torchs)
    for one, other in zip(ours, torchs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_it_says_the_same_with_any_number_of_threads(both):
    compiled, _ = both
    torch.manual_seed(5)
    text = torch.randn(40, compiled.shape.heads * compiled.shape.head_dim)
    heard = []
    with torch.inference_mode():
        for size in (1, 2, 5):
            compiled.forward = Forward(compiled._backbone, compiled._head, Team(size))
            row = compiled.cache.add(compiled.nothing, room=len(text))
            compiled.read([Segment(row, len(text))], text)
            compiled.advance([9], [0])
            heard.append(compiled.logits[row].clone())
            compiled.cache.truncate(0)

    assert torch.equal(heard[0], heard[1])
    assert torch.equal(heard[0], heard[2])


def test_those_who_come_while_the_team_is_at_work_wait():
    workers, weight = Team(2), torch.randn(256, 256)
    multiply, x = made("fp32", weight), torch.randn(9, 256)
    alone = multiply(x, workers)
    wrong: list[int] = []

    def ask():
        wrong.extend(n for n in range(50) if not torch.equal(multiply(x, workers), alone))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_torch_has_its_threads_back_afterwards():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch_alone():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_is_put_on_a_shelf_is_kept_and_lies_on_lines_of_the_cache():
    shelf, sizes = Shelf(), [100, 64, 3, memory.PIECE + 5, 7]
    arrays = [np.random.default_rng(size).integers(0, 255, size).astype(np.uint8) for size in sizes]

    kept = [shelf.put(array) for array in arrays]

    for array, copied in zip(arrays, kept, strict=True):
        assert np.array_equal(array, copied)
        assert copied.ctypes.data % memory.LINE == 0
