"""The compiled arithmetic: products to the bit the same in any company, and a forward pass that is torch's."""

import copy
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2Model, LlamaConfig, LlamaModel

from engines.chatterbox.device import torch_alone
from engines.chatterbox.t3.attention import AttentionWatch, Segment, SegmentAttention, StepAttention
from engines.chatterbox.t3.backbone import take_backbone
from engines.chatterbox.t3.kv_cache import KeyValues, KVCache
from engines.chatterbox.t3.linear import packer
from engines.chatterbox.t3.processor import memory
from engines.chatterbox.t3.processor.forward import Forward
from engines.chatterbox.t3.processor.matrix import Matrix
from engines.chatterbox.t3.processor.memory import Shelf
from engines.chatterbox.t3.processor.team import Team
from engines.chatterbox.t3.processor.vectors import HAS_TILES, IS_X86
from engines.chatterbox.t3.transformer import Transformer
from tests.engines.chatterbox.small_t3 import CPU, make_t3

ERRORS = {"fp32": 1e-6, "fp16": 1e-4, "bf16": 1e-2, "int8": 1.5e-2}
WAYS = [pytest.param(False, id="by vectors"), pytest.param(True, id="by matrix units")]
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
@pytest.mark.parametrize(("outputs", "inputs"), [(96, 1024), (100, 50), (40, 4096)])
def test_a_row_is_the_same_to_the_bit_whatever_the_others_are(workers, precision, has_tiles, outputs, inputs):
    skip_without(has_tiles)
    torch.manual_seed(2)
    multiply = made(precision, torch.randn(outputs, inputs), torch.randn(outputs), has_tiles=has_tiles)
    x = torch.randn(70, inputs)
    x[1] *= 1e4
    together = multiply(x, workers)

    for first, count in [(0, 1), (0, 2), (1, 2), (5, 4), (40, 1), (3, 33), (2, 66)]:
        assert torch.equal(multiply(x[first : first + count], workers), together[first : first + count])


@pytest.mark.skipif(not HAS_TILES, reason="this processor has no matrix units")
@pytest.mark.parametrize(("outputs", "inputs"), [*SHAPES, (64, 1088)])
@pytest.mark.parametrize("rows", [1, 6, 16, 33])
def test_matrix_units_give_what_vectors_give_to_the_bit(outputs, inputs, rows):
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
    assert compiled.forward is not None
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
                counts = zip(rows, map(len, text), strict=True)
                segments = [Segment(row, count, watched=2 if row == rows[0] else 0) for row, count in counts]
                transformer.read(segments, torch.cat(text))
                heard.append(transformer.logits[rows].clone())
                heard += [weights[0].clone() for weights in transformer.watch.weights.values()]
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


WIDTH, OUTPUTS, COUNTS, WATCHED = 256, 333, (9, 70, 5, 33, 1, 16), ((0, 1), (1, 3))
FAMILIES = {
    "llama": LlamaConfig(
        hidden_size=WIDTH, intermediate_size=600, num_hidden_layers=2, num_attention_heads=4, head_dim=64, vocab_size=8
    ),
    "gpt2": GPT2Config(n_embd=WIDTH, n_layer=2, n_head=4, vocab_size=8),
}


@pytest.fixture(params=FAMILIES)
def as_published(request):
    """A backbone and a head in int8, with heads as wide as those of the published models."""
    torch.manual_seed(6)
    is_gpt = request.param == "gpt2"
    model = (GPT2Model if is_gpt else LlamaModel)(FAMILIES[request.param]).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(4)
    pack = packer("int8", CPU)
    backbone = take_backbone(SimpleNamespace(is_gpt=is_gpt, tfmr=model), pack, torch.float32)
    return backbone, pack(torch.randn(OUTPUTS, WIDTH), None)


def read_and_stepped(forward, shape):
    """What comes of six texts of different lengths, read at once, and of three steps after them."""
    cache, watch = KVCache(shape, Forward.cache_dtype("int8", shape), CPU), AttentionWatch(WATCHED)
    nothing, chance = KeyValues.none(shape, torch.float16, CPU), torch.Generator().manual_seed(1)
    rows = [cache.add(nothing, room=count) for count in COUNTS]
    places = [(row, place) for row, count in zip(rows, COUNTS, strict=True) for place in range(count)]
    ends = [sum(COUNTS[: row + 1]) - 1 for row in rows]
    texts = torch.randn(len(places), WIDTH, generator=chance)
    of_tokens = [[one[number] for one in places] for number in (0, 1)]
    heard = [forward(cache, watch, texts, *of_tokens, heard=ends, seen=ends)]
    heard += [weights.clone() for weights in watch.weights.values()]
    cache.lengths = list(COUNTS)
    for _ in range(3):
        new = torch.randn(len(rows), WIDTH, generator=chance)
        cache.reserve(max(cache.lengths) + 1)
        heard.append(forward(cache, watch, new, rows, cache.lengths, heard=rows, seen=rows))
        heard += [weights.clone() for weights in watch.weights.values()]
        cache.advance()
    assert cache.keys.dtype == torch.float16
    return heard


def of_torch(backbone, head):
    """The same by torch's operations, with the same matrices and float32 keys and values."""
    cache, watch = KVCache(backbone.shape, torch.float32, CPU), AttentionWatch(WATCHED)
    nothing, chance = KeyValues.none(backbone.shape, torch.float32, CPU), torch.Generator().manual_seed(1)
    for count in COUNTS:
        cache.add(nothing, room=count)
    cache.lengths = [0] * len(COUNTS)

    def turn_at(places):
        rotary = backbone.rotary
        return (lambda x: x) if rotary is None else rotary.at(places, torch.float32)

    segments = [Segment(row, count) for row, count in enumerate(COUNTS)]
    places = torch.tensor([place for count in COUNTS for place in range(count)])
    ends = [sum(COUNTS[: row + 1]) - 1 for row in range(len(COUNTS))]
    texts = torch.randn(len(places), WIDTH, generator=chance)
    heard = [head(backbone(texts, SegmentAttention(cache, segments, turn_at(places), watch))[ends])]
    cache.lengths = list(COUNTS)
    for _ in range(3):
        new, places = torch.randn(len(COUNTS), WIDTH, generator=chance), torch.tensor(cache.lengths)
        cache.reserve(max(cache.lengths) + 1)
        heard.append(head(backbone(new, StepAttention(cache, places, turn_at(places), watch))))
        heard += [weights.clone() for weights in watch.weights.values()]
        cache.advance()
    return heard


def test_int8_with_keys_of_16_bits_is_near_torch_and_the_same_with_any_number_of_threads(as_published):
    backbone, head = as_published
    with torch.inference_mode():
        forwards = [Forward(backbone, head, Team(size)) for size in (1, 2, 3)]
        for forward in forwards:
            read_and_stepped(forward, backbone.shape)  # whose parts one thread computes, for they are compiled
        alone, *others = [read_and_stepped(forward, backbone.shape) for forward in forwards]
        torchs = of_torch(backbone, head)

    for other in others:
        assert all(torch.equal(one, same) for one, same in zip(alone, other, strict=True))
    without_what_was_seen_of_texts = [alone[0], *alone[1 + len(WATCHED) :]]
    for one, same in zip(without_what_was_seen_of_texts, torchs, strict=True):
        assert (one - same).norm() <= 1e-2 * same.norm()


def test_a_row_of_int8_is_the_same_to_the_bit_alone_and_in_company(as_published):
    backbone, head = as_published
    forward, shape = Forward(backbone, head, Team(2)), backbone.shape
    new = torch.randn(2, 7, WIDTH, generator=torch.Generator().manual_seed(2))
    heard = {}
    with torch.inference_mode():
        for count in (7, 1, 2, 3, 5):  # the first by matrix units, where there are some
            cache = KVCache(shape, Forward.cache_dtype("int8", shape), CPU)
            for _ in range(count):
                cache.add(KeyValues.none(shape, torch.float16, CPU), room=2)
            rows, watch = list(range(count)), AttentionWatch(())
            for place, step in enumerate(new):
                answer = forward(cache, watch, step[:count], rows, [place] * count, heard=rows, seen=[])
            heard[count] = answer

    for count, answer in heard.items():
        assert torch.equal(answer, heard[7][:count])


def test_tokens_that_there_is_no_room_for_are_refused(as_published):
    backbone, head = as_published
    forward, cache = Forward(backbone, head), KVCache(backbone.shape, torch.float16, CPU)
    cache.add(KeyValues.none(backbone.shape, torch.float16, CPU), room=4)

    with pytest.raises(ValueError, match="room"):
        forward(cache, AttentionWatch(()), torch.zeros(1, WIDTH), [0], [cache.room], heard=[0], seen=[])
    with pytest.raises(ValueError, match="inputs"):
        head(torch.zeros(2, WIDTH - 1))


def test_what_was_compiled_and_is_damaged_is_made_anew(tmp_path):
    program = """
import torch
from engines.chatterbox.t3.processor.matrix import Matrix
from engines.chatterbox.t3.processor.memory import Shelf
product = Matrix(Shelf(), "fp32", torch.eye(40), None)(torch.ones(3, 40))
print(bool((product == 1).all()))
"""

    def run():
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
        return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)

    first = run()
    kept = [path for path in Path(tmp_path).rglob("*.nb[ic]") if "multiplying" in path.name]
    for path in kept:
        path.write_bytes(b"")
    again = run()

    assert first.stdout == again.stdout == "True\n"
    assert kept
    assert "made anew" in again.stderr
    assert all(path.stat().st_size for path in kept if path.suffix == ".nbi")


OLDER = [
    pytest.param("generic", "", id="any at all"),
    pytest.param("haswell", "+avx,+avx2,+fma,+f16c", id="with AVX2"),
    pytest.param("skylake-avx512", "+avx,+avx2,+fma,+f16c,+avx512f,+avx512bw,+avx512vl,+avx512dq", id="with AVX-512"),
]


@pytest.mark.skipif(not IS_X86, reason="the processors it is about are others")
@pytest.mark.parametrize(("name", "features"), OLDER)
def test_older_processors_give_the_same_products(tmp_path, name, features):
    program = """
import sys, torch
from engines.chatterbox.t3.processor.matrix import Matrix
from engines.chatterbox.t3.processor.memory import Shelf
weight, bias, x = torch.load("given")
products = {precision: Matrix(Shelf(), precision, weight, bias)(x) for precision in sys.argv[1:]}
greatest = Matrix(Shelf(), "int8", torch.ones(16, 4096), None)(torch.tensor([[1.0], [-1.0]]).expand(2, 4096))
alone = all(
    torch.equal(Matrix(Shelf(), precision, weight, bias)(x[1:3]), product[1:3])
    for precision, product in products.items()
)
torch.save((products, greatest, alone), "products")
"""
    torch.manual_seed(7)
    weight, bias, x = torch.randn(70, 1030), torch.randn(70), torch.randn(7, 1030)
    torch.save((weight, bias, x), tmp_path / "given")
    environment = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-c", program, *ERRORS],
        env={**os.environ, **environment, "PYTHONPATH": str(Path.cwd())},
        cwd=tmp_path,
        check=True,
    )

    products, greatest, alone = torch.load(tmp_path / "products")
    assert alone
    torch.testing.assert_close(greatest, torch.tensor([[4096.0], [-4096.0]]).expand(2, 16), rtol=1e-6, atol=0)
    for precision, product in products.items():
        torch.testing.assert_close(product, made(precision, weight, bias)(x), rtol=1e-4, atol=1e-4)


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
