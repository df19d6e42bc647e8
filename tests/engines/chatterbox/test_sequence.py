"""When a sequence is over, and what it then holds."""

import pytest

from engines.chatterbox.t3.sequence import STUCK_WINDOW, SpeechSequence

STOP = 6562


def fed(sequence: SpeechSequence, tokens: list[int]) -> SpeechSequence:
    for token in tokens:
        assert not sequence.is_finished
        sequence.take(token)
    return sequence


def test_a_llama_model_keeps_its_stop_token_as_upstream_does():
    sequence = fed(SpeechSequence("llama", STOP, 10), [7, 8, STOP])

    assert sequence.ended_by == "stop"
    assert sequence.tokens == [7, 8, STOP]
    assert sequence.speech_tokens == [7, 8]


def test_a_gpt2_model_drops_its_stop_token_and_does_not_heed_it_at_first():
    sequence = fed(SpeechSequence("gpt2", STOP, 10), [STOP, 8, STOP])

    assert sequence.ended_by == "stop"
    assert sequence.tokens == [STOP, 8]
    assert sequence.speech_tokens == [8]


@pytest.mark.parametrize(("family", "most"), [("llama", 5), ("gpt2", 6)])
def test_the_limit_counts_as_upstreams_loops_count(family, most):
    sequence = fed(SpeechSequence(family, STOP, 5), list(range(most)))

    assert sequence.ended_by == "limit"
    assert len(sequence.tokens) == most


def test_tokens_without_a_sound_are_not_for_s3gen():
    assert fed(SpeechSequence("llama", STOP, 3), [6560, 6561, 8000]).speech_tokens == [6560]


def test_a_model_that_hums_is_stopped_before_the_limit():
    sequence = fed(SpeechSequence("llama", STOP, 1000), [1, 2, 3, 4] + [5, 6, 5, 7] * (STUCK_WINDOW // 4))

    assert sequence.ended_by == "stuck"


def test_varied_tokens_are_not_taken_for_humming():
    sequence = fed(SpeechSequence("llama", STOP, 1000), [1, 2, 3, 4] * STUCK_WINDOW)

    assert not sequence.is_finished
