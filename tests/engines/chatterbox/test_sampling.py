"""Our sampler against the processors of transformers, put together as upstream's two loops do it."""

import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from engines.chatterbox.t3.sampling import Performance, Settings, draw, gpt2_probabilities, guided, llama_probabilities
from tests.engines.chatterbox.small_t3 import CPU, performance

WIDTH = 8194
SETTINGS = [
    performance(),
    performance(temperature=1.0, min_p=0.0),
    performance(temperature=0.75, min_p=0.3, top_p=0.9, top_k=50),
    performance(temperature=1.6, top_p=0.5, repetition_penalty=2.0, top_k=0),
    performance(min_p=0.0, top_p=0.95, repetition_penalty=1.0, top_k=20000),
    performance(min_p=1.0, top_p=0.0, top_k=1),
]


def llama_reference(logits: torch.Tensor, said: list[int], how: Performance) -> torch.Tensor:
    """As in T3.inference, for one row."""
    ids = torch.tensor([said])
    logits = RepetitionPenaltyLogitsProcessor(penalty=float(how.repetition_penalty))(ids, logits[None].clone())
    if how.temperature != 1.0:
        logits = logits / how.temperature
    logits = MinPLogitsWarper(min_p=how.min_p)(ids, logits)
    return torch.softmax(TopPLogitsWarper(top_p=how.top_p)(ids, logits), dim=-1)[0]


def gpt2_reference(logits: torch.Tensor, said: list[int], how: Performance) -> torch.Tensor:
    """As in T3.inference_turbo, for one row."""
    chain = LogitsProcessorList()
    if how.temperature != 1.0:
        chain.append(TemperatureLogitsWarper(how.temperature))
    if how.top_k > 0:
        chain.append(TopKLogitsWarper(how.top_k))
    if how.top_p < 1.0:
        chain.append(TopPLogitsWarper(how.top_p))
    if how.repetition_penalty != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(how.repetition_penalty))
    return torch.softmax(chain(torch.tensor([said]), logits[None].clone()), dim=-1)[0]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(llama_probabilities, llama_reference), (gpt2_probabilities, gpt2_reference)],
    ids=["llama", "gpt2"],
)
def test_rows_of_different_settings_get_exactly_the_probabilities_that_upstream_gives_each_alone(ours, theirs):
    chance = torch.Generator().manual_seed(1)
    for _ in range(20):
        logits = 4 * torch.randn(len(SETTINGS), WIDTH, generator=chance)
        ids = torch.randint(0, WIDTH, (len(SETTINGS), 300), generator=chance)
        said = torch.zeros(len(SETTINGS), WIDTH, dtype=torch.bool).scatter_(1, ids, True)

        probabilities = ours(logits, said, Settings.of(SETTINGS, CPU))

        for row, how in enumerate(SETTINGS):
            expected = theirs(logits[row], ids[row].tolist(), how)
            assert torch.equal(probabilities[row] > 0, expected > 0)
            assert torch.equal(probabilities[row], expected)


def test_a_draw_is_that_of_multinomial_and_leaves_the_generator_where_multinomial_does():
    probabilities = (3 * torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(2))).softmax(-1)
    ours = [torch.Generator().manual_seed(seed) for seed in range(5)]
    theirs = [torch.Generator().manual_seed(seed) for seed in range(5)]

    for _ in range(40):
        drawn = draw(probabilities, ours)

        for row, own in enumerate(theirs):
            assert drawn[row] == torch.multinomial(probabilities[row : row + 1], 1, generator=own).item()
    for left, right in zip(ours, theirs, strict=True):
        assert torch.equal(left.get_state(), right.get_state())


def test_a_draw_leaves_the_global_generator_alone():
    before = torch.get_rng_state()

    draw(torch.full((1, WIDTH), 1 / WIDTH), [torch.Generator().manual_seed(1)])

    assert torch.equal(torch.get_rng_state(), before)


def test_guidance_is_upstreams_for_each_rows_own_weight():
    conditioned, unconditioned = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(3))
    weights = [performance(cfg_weight=weight) for weight in (0.0, 0.5, 1.3)]

    logits = guided(conditioned, unconditioned, Settings.of(weights, CPU))

    assert torch.equal(logits[0], conditioned[0])
    for row, weight in ((1, 0.5), (2, 1.3)):
        cfg = torch.as_tensor(weight, dtype=torch.float32)
        assert torch.equal(logits[row], conditioned[row] + cfg * (conditioned[row] - unconditioned[row]))


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"min_p": 1.5}, {"top_p": -0.1}, {"repetition_penalty": 0.0}])
def test_numbers_that_no_distribution_comes_of_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        performance(**wrong)
