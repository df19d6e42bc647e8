"""Upstream's alignment analyzer, given attention instead of hooking itself into the model."""

import pytest
import torch
from chatterbox.models.t3.inference.alignment_stream_analyzer import AlignmentStreamAnalyzer

from engines.chatterbox.t3.alignment import Alignment, aligned_heads
from tests.engines.chatterbox.architecture import ALIGNED_HEADS
from tests.engines.chatterbox.small_t3 import TEXT, make_decoder, make_t3, make_voice, performance, upstream_tokens

REAL_STEP = AlignmentStreamAnalyzer.step  # as it is before this folder's fixtures idle it


@pytest.fixture
def analyzed(monkeypatch):
    """What the analyzer was shown and made of it: the newest frame's weights, and whether it forced the stop."""
    seen: list[tuple[torch.Tensor, bool]] = []

    def step(self, logits, next_token=None):
        logits = REAL_STEP(self, logits, next_token)
        seen.append((self.alignment[-1], logits[0, self.eos_idx].item() == 2**15))
        return logits

    monkeypatch.setattr(AlignmentStreamAnalyzer, "step", step)
    return seen


@pytest.mark.parametrize("changes", [{}, {"temperature": 1.2, "repetition_penalty": 1.0}, {"cfg_weight": 1.0}])
def test_the_analyzer_sees_the_attention_that_upstreams_hooks_see_and_decides_the_same(analyzed, changes):
    how, texts = performance(**changes), [TEXT, TEXT[:7], TEXT * 3]
    model = make_t3("multilingual", stops_often=True)
    decoder = make_decoder(make_t3("multilingual", stops_often=True), "multilingual")
    expected = [upstream_tokens(model, text, make_voice(n), how, n, 60) for n, text in enumerate(texts)]
    theirs = list(analyzed)
    analyzed.clear()

    for number, text in enumerate(texts):
        sequence = decoder.admit(text, make_voice(number), how, torch.Generator().manual_seed(number), 60)
        while not sequence.is_finished:
            decoder.step()
        assert sequence.tokens == expected[number]

    assert [forced for _, forced in analyzed] == [forced for _, forced in theirs]
    for ours, upstreams in zip(analyzed, theirs, strict=True):
        torch.testing.assert_close(ours[0], upstreams[0], atol=1e-5, rtol=1e-4)


def test_a_crowd_is_judged_each_by_its_own_attention(analyzed):
    how = performance(temperature=1.2)
    model = make_t3("multilingual", stops_often=True)
    texts = [TEXT * 2, TEXT[:6], TEXT]
    expected = [upstream_tokens(model, text, make_voice(n), how, n, 50) for n, text in enumerate(texts)]
    decoder = make_decoder(make_t3("multilingual", stops_often=True), "multilingual")

    crowd = []
    for number, text in enumerate(texts):
        crowd.append(decoder.admit(text, make_voice(number), how, torch.Generator().manual_seed(number), 50))
        decoder.step()
    while decoder.active:
        decoder.step()

    assert [sequence.tokens for sequence in crowd] == expected


def test_the_watched_heads_are_those_that_upstream_names():
    assert list(aligned_heads()) == ALIGNED_HEADS
    assert Alignment(5, 6562)._heads == ALIGNED_HEADS
